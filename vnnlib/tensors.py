"""Entries of declared tensors, ``X[0,1]``: their numbers, read one at a time or many at once."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vnnlib.decimals import PADDING, columns_of
from vnnlib.errors import UnsupportedVnnlib
from vnnlib.interface import Interface, Tensor
from vnnlib.text import Text
from vnnlib.tokens import kinds_of_first_bytes

_ENTRY = re.compile(rb"([A-Za-z][A-Za-z0-9_]*)(?:\[([^\[\]]*)\])?")
_INDEX = re.compile(rb"0|[1-9][0-9]*")
_COMMA, _CLOSE, _ZERO = ord(","), ord("]"), ord("0")
_LARGEST_NUMBER = 1 << 30  # variables are held as int32


@dataclass(frozen=True)
class _Place:
    """A tensor, and the number of its first entry among all inputs or all outputs."""

    tensor: Tensor
    first: int
    is_output: int

    def variable(self, entry: int) -> int:
        return 2 * (self.first + entry) + self.is_output


class Tensors:
    """The variables of a query: a number ``2 * index + is_output``, as those of VNN-LIB 1.0 are."""

    def __init__(self, text: Text, interface: Interface, declared_at: dict[str, int]) -> None:
        self._text = text
        self._declared_at = declared_at
        self._networks = {network.name for network in interface.networks}
        self._places: dict[bytes, _Place] = {}
        first = [0, 0]
        for network in interface.networks:
            for is_output, tensors in enumerate((network.inputs, network.outputs)):
                for tensor in tensors:
                    self._places[tensor.name.encode()] = _Place(tensor, first[is_output], is_output)
                    first[is_output] += tensor.size
        if max(first) > _LARGEST_NUMBER:
            raise text.error(0, "the tensors have too many entries", "a smaller query", UnsupportedVnnlib)

    @property
    def first_bytes(self) -> bytes:
        """The table of kinds of tokens for texts with these names."""
        return kinds_of_first_bytes(bytes({name[0] for name in self._places}))

    # One at a time

    def number(self, offset: int, token: bytes) -> int:
        spelt = _ENTRY.fullmatch(token)
        if spelt is None:
            raise self._text.error(offset, f"malformed variable {self._text.quote(offset)}", "NAME[index,..]")
        name, indices = spelt.groups()
        place = self._places.get(name)
        if place is None:
            what = "is a network" if name.decode() in self._networks else "is not declared"
            raise self._text.error(offset, f"{name.decode()} {what}", "an input or output declared before")
        return place.variable(self._entry(place.tensor, offset, indices))

    def _entry(self, tensor: Tensor, offset: int, indices: bytes | None) -> int:
        parts = [] if indices is None else indices.split(b",")
        shape = f"as the shape {list(tensor.shape)} of {tensor.name} has"
        if indices is not None and not tensor.shape:
            raise self._text.error(offset, f"{tensor.name} is a scalar, it has no indices", tensor.name)
        if len(parts) != len(tensor.shape):
            raise self._text.error(offset, f"{len(parts)} indices", f"{len(tensor.shape)}, {shape}")
        entry = 0
        for part, extent in zip(parts, tensor.shape):
            if not _INDEX.fullmatch(part):
                raise self._text.error(offset, f"malformed index in {self._text.quote(offset)}", "natural numbers")
            if len(part) > 9 or int(part) >= extent:
                message = f"the index {part[:20].decode()} is out of bounds"
                raise self._text.error(offset, message, f"less than {extent}, {shape}")
            entry = entry * extent + int(part)
        return entry

    def require(self, variables: np.ndarray, at: np.ndarray) -> None:
        """Whatever has a number is declared."""

    def name(self, variable: int) -> str:
        place = self._place_of(variable)
        if not place.tensor.shape:
            return place.tensor.name
        indices = np.unravel_index((variable >> 1) - place.first, place.tensor.shape)
        return f"{place.tensor.name}[{','.join(str(int(i)) for i in indices)}]"

    def declared_at(self, variable: int) -> int:
        return self._declared_at[self._place_of(variable).tensor.name]

    def _place_of(self, variable: int) -> _Place:
        index, is_output = variable >> 1, variable & 1
        return next(
            place
            for place in self._places.values()
            if place.is_output == is_output and place.first <= index < place.first + place.tensor.size
        )

    # Many at once

    def read(self, buffer: np.ndarray, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the variables that the tokens at ``start`` spell, and which tokens spell one."""
        number, good = np.zeros(len(start), dtype=np.int32), np.zeros(len(start), dtype=bool)
        for name, place in self._places.items():
            prefix = name + b"[" if place.tensor.shape else name
            fits = length > len(prefix) if place.tensor.shape else length == len(prefix)
            for column, character in enumerate(prefix):  # tokens are longer than what is looked at
                at = np.flatnonzero(fits)
                fits[at[buffer[start[at] + column] != character]] = False
            at = np.flatnonzero(fits)
            if len(at) == 0:
                continue
            rest = start[at] + len(prefix), length[at] - len(prefix)
            entry, good[at] = _entries(buffer, *rest, place.tensor.shape) if place.tensor.shape else (0, True)
            number[at] = 2 * (place.first + entry) + place.is_output
        return number, good


def _entries(
    buffer: np.ndarray, start: np.ndarray, length: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Row-major numbers of the entries whose indices ``i,j,..]`` stand at ``start``, and which ones are such."""
    columns = columns_of(buffer, start, length, PADDING)
    extents = np.array([*shape, 0], dtype=np.int64)
    good = length <= PADDING
    index, entry, done = (np.zeros(len(start), dtype=np.int64) for _ in range(3))
    digit_before = np.zeros(len(start), dtype=bool)
    for column, characters in enumerate(columns):
        digit = characters - np.uint8(_ZERO)
        is_digit, ends = digit < 10, (characters == _COMMA) | (characters == _CLOSE)
        last = column == length - 1
        good &= is_digit | ends | (column >= length)
        good &= ~(is_digit & digit_before & (index == 0))  # a leading zero
        good &= (characters == _CLOSE) == last
        extent = extents[done]
        good &= ~ends | (digit_before & (index < extent))
        entry = np.where(ends, entry * extent + index, entry)
        index = np.where(is_digit, index * 10 + digit, 0)
        done = np.minimum(done + ends, len(shape))
        digit_before = is_digit
        good &= index <= _LARGEST_NUMBER  # before it can wrap
    return entry, good & (done == len(shape))
