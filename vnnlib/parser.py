"""Tokens to a query: a stack of open parentheses, each evaluated when it closes.

Formulas evaluate to disjunctive normal forms and terms to linear expressions, so no tree is built and
nothing recurses. This is what the versions of the language have in common; `version_1.py` and `version_2.py`
add what differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from vnnlib import dnf, linear
from vnnlib.constraints import ConstraintBuilder, LinearRows
from vnnlib.decimals import NUMERAL
from vnnlib.dnf import Dnf, TooLarge
from vnnlib.errors import UnsupportedVnnlib, VnnlibError
from vnnlib.linear import Linear
from vnnlib.reduction import NO_VARIABLE, Comparisons, Reduced
from vnnlib.text import Text
from vnnlib.tokens import ASSERTIONS, CLOSE, COMPARISONS, CONJUNCTIONS, DECLARATIONS, OPEN

CONNECTIVES = (b"and", b"or")
TERMS = (b"+", b"-", b"*")

A_FORMULA = "a comparison, (and ..) or (or ..)"
A_TERM = "a number, a variable or a sum, difference or product"

_DEEPEST = 10_000


class Names(Protocol):
    """What the parser knows of variables, which are even numbers for inputs, odd ones for outputs."""

    def number(self, offset: int, token: bytes) -> int:
        """The variable that ``token`` spells."""

    def require(self, variables: np.ndarray, at: np.ndarray) -> None:
        """Refuse what is not declared so far."""

    def name(self, variable: int) -> str:
        """How the text spells it."""

    def declared_at(self, variable: int) -> int:
        """The offset of its declaration."""


@dataclass(frozen=True)
class Query:
    """All of the constraints ``common`` and one of the disjuncts of ``cases``; both refer to ``comparisons``."""

    text: Text
    variables: Names
    n_inputs: int
    n_outputs: int
    comparisons: Comparisons
    linear_rows: LinearRows
    common: np.ndarray
    cases: Dnf


@dataclass
class Frame:
    """An open parenthesis: its operator and what it has been applied to so far."""

    head: bytes
    offset: int
    formulas: list[Dnf] = field(default_factory=list)
    terms: list[Linear] = field(default_factory=list)
    operand_at: list[int] = field(default_factory=list)

    @property
    def takes_formulas(self) -> bool:
        return self.head in (b"assert", b"and", b"or")


class Parser(ABC):
    """A version of the language says which statements and comparisons there are, and reads declarations."""

    statements: ClassVar[tuple[bytes, ...]]
    comparisons: ClassVar[Mapping[bytes, bytes]]  # by spelling, the sign that it means: one of <= >= < > == !=
    a_statement: ClassVar[str]

    def __init__(self, text: Text, reduced: Reduced, variables: Names) -> None:
        self._text = text
        self._reduced = reduced
        self._variables = variables
        tokens = self._reduced.tokens
        self._kind = tokens.kind.tobytes()
        # Memory views index like lists, to plain integers, at a fraction of a list's size.
        self._start, self._length = tokens.start.data, tokens.length.data
        self._first, self._count = tokens.first.data, tokens.count.data
        self._builder = ConstraintBuilder(len(self._reduced.comparisons))
        self._stack: list[Frame] = []
        self._common: list[np.ndarray] = [dnf.TRUE.item]
        self._cases = dnf.TRUE

    def read(self) -> None:
        """Read all statements."""
        token = 0
        while token < len(self._kind):
            kind = self._kind[token]
            if kind == OPEN:
                token = self._open(token)
                continue
            if kind == CLOSE:
                self._close(self._start[token])
            elif not self._stack:
                self._statement(token)
            elif self._stack[-1].takes_formulas:
                self._formula(token)
            else:
                self._term(token)
            token += 1
        if self._stack:
            raise self._truncated()

    def query(self, n_inputs: int, n_outputs: int) -> Query:
        return Query(
            self._text,
            self._variables,
            n_inputs,
            n_outputs,
            Comparisons.concatenate([self._reduced.comparisons, self._builder.comparisons()]),
            self._builder.linear_rows(),
            np.concatenate(self._common),
            self._cases,
        )

    # Tokens

    def _spelling(self, token: int) -> bytes:
        start = self._start[token]
        return self._text.data[start : start + self._length[token]]

    def _unexpected(self, offset: int, expected: str, where: str = "") -> VnnlibError:
        return self._text.error(offset, f"unexpected {self._text.quote(offset)}{where}", expected)

    def _unsupported(self, offset: int, message: str, expected: str | None = None) -> VnnlibError:
        return self._text.error(offset, message, expected, UnsupportedVnnlib)

    def _truncated(self) -> VnnlibError:
        frame = self._stack[-1]
        opened = self._text.error(frame.offset, "")
        message = f"the file ends within ({frame.head.decode()} .. of line {opened.line}, column {opened.column}"
        return self._text.error(len(self._text.data), message, "`)`")

    # Opening parentheses

    def _open(self, token: int) -> int:
        """Enter the expression or read the whole declaration at ``token``; returns the token to go on with."""
        offset = self._start[token]
        expected = self._expected_here()
        if token + 1 == len(self._kind):
            raise self._text.error(len(self._text.data), "the file ends behind `(`", expected)
        if self._kind[token + 1] in (OPEN, CLOSE) or self._kind[token + 1] >= DECLARATIONS:
            raise self._unexpected(self._start[token + 1], f"the operator of {expected}")
        head = self._spelling(token + 1)
        if not self._allowed(head):
            raise self._refused_head(self._start[token + 1], head, expected)
        if head.startswith(b"declare"):
            return self._declaration(token)
        if len(self._stack) >= _DEEPEST:
            raise self._unsupported(offset, f"more than {_DEEPEST} nested parentheses")
        self._stack.append(Frame(head, offset))
        return token + 2

    def _expected_here(self) -> str:
        if not self._stack:
            return self.a_statement
        return A_FORMULA if self._stack[-1].takes_formulas else A_TERM

    def _allowed(self, head: bytes) -> bool:
        if not self._stack:
            return head in self.statements
        if self._stack[-1].takes_formulas:
            return head in CONNECTIVES or head in self.comparisons
        return head in TERMS

    @abstractmethod
    def _refused_head(self, offset: int, head: bytes, expected: str) -> VnnlibError:
        """What is wrong with an operator that is not allowed where it stands."""

    @abstractmethod
    def _declaration(self, token: int) -> int:
        """Read the declaration whose parenthesis opens at ``token``; returns the token to go on with."""

    @abstractmethod
    def _product(self, frame: Frame) -> Linear:
        """The product of the frame's terms."""

    # Operands

    def _statement(self, token: int) -> None:
        kind, first, stop = self._kind[token], self._first[token], self._first[token] + self._count[token]
        if kind != ASSERTIONS:
            raise self._unexpected(self._start[token], self.a_statement, " outside a statement")
        self._require_declared(first, stop)
        self._common.append(np.arange(first, stop))

    def _formula(self, token: int) -> None:
        kind, first, stop = self._kind[token], self._first[token], self._first[token] + self._count[token]
        frame, comparisons = self._stack[-1], self._reduced.comparisons
        if kind == COMPARISONS:
            operands = first + np.flatnonzero(~comparisons.joined[first:stop])
            at = comparisons.start[operands]
        elif kind == CONJUNCTIONS:
            operands, stop = self._reduced.conjunction_start[first:stop], self._reduced.conjunction_stop[stop - 1]
            at = self._reduced.conjunction_at[first : first + len(operands)]
        else:
            raise self._unexpected(self._start[token], A_FORMULA, f" in ({frame.head.decode()} ..")
        if frame.head == b"assert" and len(operands) > 1:
            raise self._unexpected(int(at[1]), "`)`: an assertion is one formula")
        first = operands[0]
        self._require_declared(first, stop)
        any_of_them = frame.head == b"or"
        frame.formulas.append(dnf.disjunction(operands, stop) if any_of_them else dnf.conjunction(first, stop - first))
        frame.operand_at.append(self._start[token])

    def _require_declared(self, first: int, stop: int) -> None:
        comparisons = self._reduced.comparisons
        start, right = comparisons.start[first:stop], comparisons.right[first:stop]
        self._variables.require(comparisons.left[first:stop], start)
        has_variable = right != NO_VARIABLE
        if has_variable.any():
            self._variables.require(right[has_variable], start[has_variable])

    def _term(self, token: int) -> None:
        offset, frame = self._start[token], self._stack[-1]
        if self._kind[token] >= DECLARATIONS:
            raise self._unexpected(offset, A_TERM, f" as an operand of `{frame.head.decode()}`")
        spelling = self._spelling(token)
        if NUMERAL.fullmatch(spelling):
            value = linear.exact_numeral(spelling)
            if value is None:
                message = f"{self._text.quote(offset)} is beyond double precision"
                raise self._unsupported(offset, message, "a finite double")
            term = Linear(value)
        elif spelling[:1] in b"+-.0123456789" or spelling.lower() in (b"inf", b"nan", b"infinity"):
            expected = "a finite number such as -1, 0.5 or 1e-6"
            raise self._text.error(offset, f"malformed number {self._text.quote(offset)}", expected)
        else:
            variable = self._variables.number(offset, spelling)
            self._variables.require(np.array([variable]), np.array([offset]))
            term = Linear(terms={variable: linear.Fraction(1)})
        frame.terms.append(term)
        frame.operand_at.append(offset)

    # Closing parentheses

    def _close(self, offset: int) -> None:
        if not self._stack:
            raise self._unexpected(offset, f"{self.a_statement} or the end of the file")
        frame = self._stack.pop()
        self._check_arity(frame, offset)
        try:
            if frame.head in TERMS:
                self._stack[-1].terms.append(self._combined(frame))
            elif frame.head == b"assert":
                self._assert(frame.formulas[0])
                return
            else:
                self._stack[-1].formulas.append(self._combined_formula(frame))
        except TooLarge as error:
            raise self._unsupported(frame.offset, str(error), "a smaller query") from error
        except OverflowError as error:
            raise self._unsupported(frame.offset, f"number out of range ({error})", "finite doubles") from error
        self._stack[-1].operand_at.append(frame.offset)

    def _check_arity(self, frame: Frame, closed_at: int) -> None:
        least = 2 if frame.head in self.comparisons else 1
        expected = A_FORMULA if frame.takes_formulas else A_TERM
        exact = frame.head == b"assert" or frame.head in self.comparisons
        n_operands = len(frame.operand_at)
        if n_operands < least:
            message = f"`{frame.head.decode()}` has {n_operands} of {'' if exact else 'at least '}{least} operands"
            raise self._text.error(closed_at, message, expected)
        if frame.head in self.comparisons and n_operands > 2:
            raise self._unexpected(frame.operand_at[2], "`)`: a comparison has two operands")
        if frame.head == b"assert" and n_operands > 1:
            raise self._unexpected(frame.operand_at[1], "`)`: an assertion is one formula")

    def _assert(self, formula: Dnf) -> None:
        if len(formula) == 1:
            self._common.append(formula.item)
        else:
            self._cases = dnf.all_of([self._cases, formula])

    def _combined(self, frame: Frame) -> Linear:
        if frame.head == b"+":
            return linear.total(frame.terms)
        if frame.head == b"-":
            return linear.difference(frame.terms)
        return self._product(frame)

    def _combined_formula(self, frame: Frame) -> Dnf:
        if frame.head == b"and":
            return dnf.all_of(frame.formulas)
        if frame.head == b"or":
            return dnf.any_of(frame.formulas)
        sign = self.comparisons[frame.head]
        difference = linear.difference(frame.terms)
        if sign in (b"<=", b"<"):
            return self._at_most_zero(difference, sign == b"<", frame.offset)
        if sign in (b">=", b">"):
            return self._at_most_zero(difference.scaled(linear.Fraction(-1)), sign == b">", frame.offset)
        below = self._at_most_zero(difference, sign == b"!=", frame.offset)
        above = self._at_most_zero(difference.scaled(linear.Fraction(-1)), sign == b"!=", frame.offset)
        return dnf.any_of([below, above]) if sign == b"!=" else dnf.all_of([below, above])

    def _at_most_zero(self, difference: Linear, strict: bool, offset: int) -> Dnf:
        if not difference.terms:
            return dnf.TRUE if difference.constant < 0 or (difference.constant == 0 and not strict) else dnf.FALSE
        count = self._builder.add(difference, strict, offset)
        return dnf.conjunction(self._builder.n_constraints - count, count)
