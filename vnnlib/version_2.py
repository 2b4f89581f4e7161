"""VNN-LIB 2.0: networks with tensors for inputs and outputs, and polynomial constraints on their entries.

Read as "The VNN-LIB Standard", version 2.0, https://www.vnnlib.org, has it, and a little more: numbers may have
exponents, integers stand for real numbers, and there may be blanks behind any parenthesis.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from vnnlib.errors import UnsupportedVnnlib, VnnlibError
from vnnlib.header import read_header
from vnnlib.interface import Interface
from vnnlib.linear import Linear
from vnnlib.parser import Frame, Parser, Query
from vnnlib.products import Products, TooManyTerms
from vnnlib.reduction import Dialect, Reduced, reduce_text
from vnnlib.tensors import Tensors
from vnnlib.text import Text

_BLANKS = b" \t\r\n"
_BLANK_NEXT_TO_BRACKET = tuple(bytes((b, c)) for b in _BLANKS for c in b"[],") + tuple(
    bytes((c, b)) for b in _BLANKS for c in b"[,"
)
_ENTRY_WITH_BLANKS = re.compile(rb"[A-Za-z0-9_]+\s*\[[^\[\]()]*\]")
_PUNCTUATION = re.compile(rb"\s*([\[\],])\s*")


def parse_query(text: Text) -> tuple[Query, Interface]:
    header = read_header(text)
    text = _without_blanks_in_entries(text, header.end)
    interface = header.interface
    tensors = Tensors(text, interface, header.declared_at)
    dialect = Dialect(tensors.first_bytes, tensors.read, single_equals=False)
    products = Products(interface.n_outputs)
    parser = Version2(text, reduce_text(text.data, dialect, header.end), tensors, products)
    parser.read()
    query = parser.query(interface.n_inputs, interface.n_outputs + len(products.factors))
    columns = tuple(tuple(_column(v, interface.n_inputs) for v in factors) for factors in products.factors)
    return query, Interface(interface.networks, columns)


def _column(variable: int, n_inputs: int) -> int:
    return (variable >> 1) + (variable & 1) * n_inputs


def _without_blanks_in_entries(text: Text, begin: int) -> Text:
    """``X [0, 1]`` becomes ``X[0,1]`` and the blanks follow, so that every word begins where it did."""
    if not any(text.data.find(pair, begin) >= 0 for pair in _BLANK_NEXT_TO_BRACKET):
        return text

    def moved(entry: re.Match[bytes]) -> bytes:
        kept = _PUNCTUATION.sub(rb"\1", entry.group())
        blanks = bytes(c for c in entry.group() if c in _BLANKS)
        return kept + blanks if len(kept) + len(blanks) == entry.end() - entry.start() else entry.group()

    return Text(text.source, text.data[:begin] + _ENTRY_WITH_BLANKS.sub(moved, text.data[begin:]))


class Version2(Parser):
    statements = (b"assert",)
    comparisons = MappingProxyType({sign: sign for sign in (b"<=", b">=", b"<", b">", b"==", b"!=")})
    a_statement = "(assert ..)"

    def __init__(self, text: Text, reduced: Reduced, tensors: Tensors, products: Products) -> None:
        super().__init__(text, reduced, tensors)
        self._products = products

    def _refused_head(self, offset: int, head: bytes, expected: str) -> VnnlibError:
        return self._unexpected(offset, expected, " as an operator")

    def _declaration(self, token: int) -> int:
        raise AssertionError("no statement behind the head is a declaration")

    def _product(self, frame: Frame) -> Linear:
        try:
            return self._products.multiply(frame.terms)
        except TooManyTerms as error:
            raise self._text.error(frame.offset, str(error), "a smaller query", UnsupportedVnnlib) from error
