"""VNN-LIB 1.0: inputs ``X_i`` and outputs ``Y_j`` of one network, declared one by one."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from vnnlib import linear
from vnnlib.decimals import NUMERAL
from vnnlib.errors import VnnlibError
from vnnlib.linear import Linear
from vnnlib.parser import CONNECTIVES, TERMS, Frame, Parser, Query
from vnnlib.reduction import Dialect, Reduced, reduce_text
from vnnlib.text import Text
from vnnlib.tokens import CLOSE, DECLARATIONS, OPEN, X_OR_Y
from vnnlib.variables import Variables, read_variables

DIALECT = Dialect(X_OR_Y, read_variables, single_equals=True)


def parse_query(text: Text) -> Query:
    variables = Variables(text)
    parser = Version1(text, reduce_text(text.data, DIALECT), variables)
    parser.read()
    return parser.query(*variables.count())


class Version1(Parser):
    statements = (b"declare-const", b"declare-fun", b"assert")
    comparisons = MappingProxyType({sign: sign for sign in (b"<=", b">=", b"<", b">", b"==")} | {b"=": b"=="})
    a_statement = "(declare-const ..), (declare-fun ..) or (assert ..)"

    def __init__(self, text: Text, reduced: Reduced, variables: Variables) -> None:
        super().__init__(text, reduced, variables)
        self._declared = variables

    def _refused_head(self, offset: int, head: bytes, expected: str) -> VnnlibError:
        known = head in (*self.statements, *CONNECTIVES, *self.comparisons, *TERMS)
        if known or NUMERAL.fullmatch(head) or head[:2] in (b"X_", b"Y_"):
            return self._unexpected(offset, expected, " as an operator")
        return self._unsupported(offset, f"{self._text.quote(offset)} is outside the supported fragment", expected)

    def _statement(self, token: int) -> None:
        if self._kind[token] == DECLARATIONS:
            first, stop = self._first[token], self._first[token] + self._count[token]
            self._declared.declare(self._reduced.declared[first:stop], self._reduced.declared_at[first:stop])
        else:
            super()._statement(token)

    def _declaration(self, token: int) -> int:
        """One that has not been read in bulk: ``(declare-fun NAME () Real)``, or something to be refused."""
        at = token + 2
        variable = self._declared.number(self._position(at), self._atom(at, "X_i or Y_j"))
        declared_at = self._start[at]
        if self._spelling(token + 1) == b"declare-fun":
            self._exactly(at + 1, OPEN, "`(` of the empty argument list")
            self._exactly(at + 2, CLOSE, "`)`: functions of arguments are not supported")
            at += 2
        if self._atom(at + 1, "the sort Real") != b"Real":
            message = f"the sort {self._text.quote(self._start[at + 1])} is not supported"
            raise self._unsupported(self._start[at + 1], message, "Real")
        self._exactly(at + 2, CLOSE, "`)`")
        self._declared.declare(np.array([variable]), np.array([declared_at]))
        return at + 3

    def _position(self, token: int) -> int:
        return self._start[token] if token < len(self._kind) else len(self._text.data)

    def _exactly(self, token: int, kind: int, expected: str) -> None:
        if token >= len(self._kind) or self._kind[token] != kind:
            raise self._unexpected(self._position(token), expected)

    def _atom(self, token: int, expected: str) -> bytes:
        if token >= len(self._kind) or self._kind[token] in (OPEN, CLOSE) or self._kind[token] >= DECLARATIONS:
            raise self._unexpected(self._position(token), expected)
        return self._spelling(token)

    def _product(self, frame: Frame) -> Linear:
        result = linear.product(frame.terms)
        if result is None:
            raise self._unsupported(frame.offset, "a product of variables", "at most one factor with variables")
        return result
