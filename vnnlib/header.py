"""The head of a query in VNN-LIB 2.0: its version and the declarations of its networks.

Grammar: "The VNN-LIB Standard", version 2.0, https://www.vnnlib.org. What follows the declarations is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vnnlib.errors import UnsupportedVnnlib, VnnlibError
from vnnlib.interface import EQUAL, ISOMORPHIC, Interface, Network, Tensor
from vnnlib.text import Text

_WORD = re.compile(rb"[()\[\],]|\"(?:[^\"\\]|\\.)*\"|[^\s()\[\],\"]+")
_BLANKS = re.compile(rb"\s*")
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_VERSION = re.compile(rb"<([0-9]+)\.([0-9]+)>")
_EXTENT = re.compile(rb"0*[1-9][0-9]*")
_RESERVED = (b"and", b"or")

REAL = (b"real", b"Real")  # the standard spells it in either way
FLOATS = (b"float32", b"float64")
_OTHER_TYPES = frozenset(
    b"float16 bfloat16 int4 int8 int16 int32 int64 uint4 uint8 uint16 uint32 uint64 bool string complex64 complex128 "
    b"float4e2m1 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz float8e8m0".split()
)
_LONGEST_QUOTE = 40
_MOST_ENTRIES = 100_000_000


@dataclass(frozen=True)
class Header:
    interface: Interface
    declared_at: dict[str, int]  # offsets, by name
    end: int  # the offset of what follows


@dataclass
class _Reader:
    text: Text
    position: int = 0
    declared_at: dict[str, int] = field(default_factory=dict)
    types: set[bytes] = field(default_factory=set)

    # Words

    def peek(self, ahead: int = 0) -> tuple[int, bytes]:
        """Offset and spelling of the next word, or of one behind it; empty at the end of the file."""
        position = self.position
        while True:
            offset = _BLANKS.match(self.text.data, position).end()  # type: ignore[union-attr]  # always matches
            word = _WORD.match(self.text.data, offset)
            if word is None or not ahead:
                return offset, word.group() if word else b""
            position, ahead = word.end(), ahead - 1

    def take(self) -> tuple[int, bytes]:
        offset, word = self.peek()
        self.position = offset + len(word)
        return offset, word

    def exactly(self, *words: bytes) -> None:
        for expected in words:
            offset, word = self.take()
            if word != expected:
                raise self.unexpected(offset, f"`{expected.decode()}`")

    def at(self, head: str) -> bool:
        """Whether the expression that begins here has this head."""
        return self.peek()[1] == b"(" and self.peek(1)[1] == head.encode()

    def quote(self, offset: int) -> str:
        """The word at `offset`, a parenthesis together with what it sticks to."""
        word = _WORD.match(self.text.data, offset)
        if word is None or word.group() in b"()" or len(word.group()) > _LONGEST_QUOTE:
            return self.text.quote(offset)
        return f"`{word.group().decode('ascii', 'backslashreplace')}`"

    def unexpected(self, offset: int, expected: str) -> VnnlibError:
        return self.text.error(offset, f"unexpected {self.quote(offset)}", expected)

    def unsupported(self, offset: int, message: str, expected: str) -> VnnlibError:
        return self.text.error(offset, message, expected, UnsupportedVnnlib)

    # Expressions

    def version(self) -> None:
        self.exactly(b"(", b"vnnlib-version")
        offset, word = self.take()
        version = _VERSION.fullmatch(word)
        if version is None:
            raise self.unexpected(offset, "a version such as <2.0>")
        if int(version[1]) != 2:
            raise self.unsupported(offset, f"version {word.decode()} of VNN-LIB is not supported", "<2.0>")
        self.exactly(b")")

    def network(self, earlier: dict[str, Network]) -> Network:
        self.exactly(b"(", b"declare-network")
        name = self.name("the network's name")
        related_at = self.peek()[0]
        relation, target = self.relation(earlier)
        inputs = self.tensors("declare-input")
        self.refuse_hidden()
        outputs = self.tensors("declare-output")
        offset, word = self.take()
        if word != b")":
            raise self.unexpected(offset, "`)`, the inputs of a network before its outputs")
        network = Network(name, inputs, outputs, relation, target)
        if target is not None:
            self.check_relation(network, earlier[target], related_at)
        return network

    def name(self, what: str) -> str:
        offset, word = self.take()
        if not _NAME.fullmatch(word) or word in _RESERVED:
            raise self.unexpected(offset, f"{what}, letters, digits and `_`")
        name = word.decode()
        if name in self.declared_at:
            raise self.text.error(offset, f"{name} is declared twice", "one declaration of each name")
        self.declared_at[name] = offset
        return name

    def relation(self, earlier: dict[str, Network]) -> tuple[str | None, str | None]:
        relation = next((r for r in (EQUAL, ISOMORPHIC) if self.at(r)), None)
        if relation is None:
            return None, None
        self.exactly(b"(", relation.encode())
        offset, word = self.take()
        target = word.decode("ascii", "replace")
        if target not in earlier:
            raise self.text.error(offset, f"{self.quote(offset)} is no network declared before", "a network")
        if earlier[target].relation is not None:
            message = f"{target} is itself {earlier[target].relation} another network"
            raise self.text.error(offset, message, "a network without such a relation")
        self.exactly(b")")
        if self.at(EQUAL) or self.at(ISOMORPHIC):
            raise self.text.error(self.peek()[0], "a second relation of one network", "(declare-input ..)")
        return relation, target

    def tensors(self, head: str) -> tuple[Tensor, ...]:
        tensors = []
        while self.at(head):
            tensors.append(self.tensor(head))
        if not tensors:
            raise self.unexpected(self.peek()[0], f"({head} NAME TYPE SHAPE)")
        return tuple(tensors)

    def tensor(self, head: str) -> Tensor:
        self.exactly(b"(", head.encode())
        name = self.name("the tensor's name")
        element_type = self.element_type()
        shape_at = self.peek()[0]
        shape = self.shape()
        offset, word = self.take()
        if word == b"initialized":
            raise self.unsupported(offset, "inputs that the model initialises are not supported", "`)`")
        if word != b")":
            raise self.unexpected(offset, "`)`")
        tensor = Tensor(name, element_type, shape)
        if tensor.size > _MOST_ENTRIES:
            raise self.unsupported(shape_at, f"{name} has too many entries", f"at most {_MOST_ENTRIES}")
        return tensor

    def element_type(self) -> str:
        offset, word = self.take()
        known = f"one of {', '.join(t.decode() for t in (*FLOATS, REAL[0]))}"
        if word in _OTHER_TYPES:
            raise self.unsupported(offset, f"the element type {self.quote(offset)} is not supported", known)
        if word not in (*FLOATS, *REAL):
            raise self.unexpected(offset, known)
        self.types.add(REAL[0] if word in REAL else word)
        if len(self.types) == 2 and REAL[0] in self.types:
            raise self.text.error(offset, "real together with types of ONNX", "either real or types of ONNX")
        if len(self.types) == 2:
            raise self.unsupported(offset, "several element types in one query", "one of them")
        return word.decode()

    def shape(self) -> tuple[int, ...]:
        offset, word = self.take()
        if word != b"[":
            raise self.unexpected(offset, "a shape such as [1,2], [] for a scalar")
        shape: list[int] = []
        if self.peek()[1] == b"]":
            self.take()
            return ()
        while True:
            offset, word = self.take()
            if not _EXTENT.fullmatch(word):
                raise self.unexpected(offset, "a positive integer")
            shape.append(int(word) if len(word) < 10 else _MOST_ENTRIES + 1)
            offset, word = self.take()
            if word == b"]":
                return tuple(shape)
            if word != b",":
                raise self.unexpected(offset, "`,` or `]`")

    def refuse_hidden(self) -> None:
        if self.at("declare-hidden"):
            raise self.unsupported(self.peek()[0], "hidden tensors are not supported", "(declare-output ..)")

    def check_relation(self, network: Network, target: Network, offset: int) -> None:
        """Interfaces of related networks agree, those of equal ones in the element types as well."""
        for what, own, other in (("input", network.inputs, target.inputs), ("output", network.outputs, target.outputs)):
            if len(own) != len(other):
                message = f"{network.name} has {len(own)} {what}s, but {target.name} has {len(other)}"
                raise self.text.error(offset, message, "networks of the same interface")
            for a, b in zip(own, other):
                differ = a.shape != b.shape or (network.relation == EQUAL and a.element_type != b.element_type)
                if differ:
                    message = f"{a.name} and {b.name} differ in shape or element type"
                    raise self.text.error(offset, message, "networks of the same interface")


def read_header(text: Text) -> Header:
    reader = _Reader(text)
    reader.version()
    networks: dict[str, Network] = {}
    while reader.at("declare-network"):
        network = reader.network(networks)
        networks[network.name] = network
    end, _ = reader.peek()
    if not networks:
        raise reader.unexpected(end, "(declare-network ..)")
    return Header(Interface(tuple(networks.values())), reader.declared_at, end)
