"""The shapes that make up nearly all of a large file, read a block at a time without a loop over tokens.

Comparisons ``(op variable numeral)``, ``(op numeral variable)``, ``(op variable variable)`` and declarations
``(declare-const variable Real)`` are found by the kinds of their five tokens, checked in full, put into a
table, and each replaced by one reduced token that refers to the table; neighbours of a kind are then merged.
Next the same is done with ``(and comparison..)`` and ``(assert comparison)``. What does not match, or not
exactly, is left for the parser to read or refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from vnnlib.decimals import read_numerals
from vnnlib.tokens import (
    AND,
    ASSERT,
    ASSERTIONS,
    CLOSE,
    COMPARISON,
    COMPARISONS,
    CONJUNCTIONS,
    DECLARATIONS,
    DECLARE,
    NUMERAL,
    OPEN,
    REAL,
    VARIABLE,
    Tokens,
    blocks,
    padded,
    tokenise,
)

NO_VARIABLE = -1  # as the right side of a comparison: the right side is the number `value`
_STATEMENT = 5  # tokens of a comparison and of a declaration


@dataclass(frozen=True)
class Comparisons:
    """Columns over comparisons ``left <= right`` (``>=``, ``<``, ``>``). A variable is ``2 * index + is_output``."""

    left: np.ndarray  # int32
    right: np.ndarray  # int32, or NO_VARIABLE
    value: np.ndarray  # float64
    greater: np.ndarray  # bool
    strict: np.ndarray  # bool
    joined: np.ndarray  # bool: with the comparison before it, which is `<=`, this one makes up an equality
    start: np.ndarray  # int64 offset in the text

    def __len__(self) -> int:
        return len(self.left)

    @staticmethod
    def concatenate(parts: list[Comparisons]) -> Comparisons:
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:  # no copy of what may be very large
            return parts[0]
        return Comparisons(*(np.concatenate([getattr(p, c.name) for p in parts]) for c in fields(Comparisons)))


@dataclass(frozen=True)
class Reduced:
    """A text as few tokens, and the tables that its reduced tokens refer to."""

    tokens: Tokens
    comparisons: Comparisons
    declared: np.ndarray  # variables in the order of their declarations
    declared_at: np.ndarray  # offsets in the text
    conjunction_start: np.ndarray  # conjunction k is comparisons conjunction_start[k]:conjunction_stop[k]
    conjunction_stop: np.ndarray
    conjunction_at: np.ndarray  # offsets in the text


Reader = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Dialect:
    """How a text spells what is read in bulk."""

    first_bytes: bytes  # kinds of tokens by their first byte
    read_variables: Reader  # (buffer, starts, lengths) to the variables' numbers and which of them are good
    single_equals: bool  # whether `=` is an equality, as `==` is; else it is left for the parser to refuse


def reduce_text(data: bytes, dialect: Dialect, body: int = 0) -> Reduced:
    """The text from the offset ``body`` on."""
    streams, comparisons, declarations = [], [_no_comparisons()], [(_no_variables(), _no_variables())]
    n_comparisons = n_declarations = 0
    for begin, end in blocks(data, body):
        buffer = padded(data[begin:end])
        tokens = tokenise(buffer, dialect.first_bytes)
        tokens, found = _reduce_comparisons(buffer, tokens, begin, n_comparisons, dialect)
        tokens, declared = _reduce_declarations(buffer, tokens, begin, n_declarations, dialect)
        n_comparisons += len(found)
        n_declarations += len(declared[0])
        comparisons.append(found)
        declarations.append(declared)
        streams.append(_merge_runs(replace(tokens, start=tokens.start + begin)))
    stream = _merge_runs(Tokens.concatenate(streams))
    all_comparisons = Comparisons.concatenate(comparisons)
    stream = _reduce_assertions(stream, all_comparisons.joined)
    stream, *conjunctions = _reduce_conjunctions(stream)
    variables, offsets = zip(*declarations)
    return Reduced(
        stream,
        all_comparisons,
        np.concatenate(variables),
        np.concatenate(offsets),
        *conjunctions,
    )


def _no_variables() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


def _no_comparisons() -> Comparisons:
    integers, booleans = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=bool)
    return Comparisons(integers, integers, np.zeros(0), booleans, booleans, booleans, integers.astype(np.int64))


def _find(kind: np.ndarray, *pattern: int | tuple[int, ...]) -> np.ndarray:
    """Where the tokens have kinds that match the pattern, a kind or several for each of them."""
    n = len(kind) - len(pattern) + 1
    if n <= 0:
        return np.zeros(0, dtype=np.int64)
    matches = np.ones(n, dtype=bool)
    for place, wanted in enumerate(pattern):
        column = kind[place : place + n]
        choices = wanted if isinstance(wanted, tuple) else (wanted,)
        alternatives = column == choices[0]
        for choice in choices[1:]:
            alternatives |= column == choice
        matches &= alternatives
    return np.flatnonzero(matches)


def _collapse(
    tokens: Tokens, at: np.ndarray, width: int, kind: int, first: np.ndarray, count: np.ndarray | int
) -> Tokens:
    """Replace the ``width`` tokens from each of ``at`` by one of ``kind``."""
    keep = np.ones(len(tokens), dtype=bool)
    for place in range(1, width):
        keep[at + place] = False
    kinds, firsts, counts = tokens.kind.copy(), tokens.first.copy(), tokens.count.copy()
    kinds[at], firsts[at], counts[at] = kind, first, count
    return replace(tokens, kind=kinds, first=firsts, count=counts).select(keep)


def _merge_runs(tokens: Tokens) -> Tokens:
    """One token for neighbours of the same reduced kind."""
    if not len(tokens):
        return tokens
    head = np.ones(len(tokens), dtype=bool)
    head[1:] = (tokens.kind[1:] != tokens.kind[:-1]) | (tokens.kind[1:] < DECLARATIONS)
    count = np.add.reduceat(tokens.count, np.flatnonzero(head))
    return replace(tokens.select(head), count=count)


def _reduce_declarations(
    buffer: np.ndarray, tokens: Tokens, offset: int, n_before: int, dialect: Dialect
) -> tuple[Tokens, tuple[np.ndarray, np.ndarray]]:
    at = _find(tokens.kind, OPEN, DECLARE, VARIABLE, REAL, CLOSE)
    variable, good = dialect.read_variables(buffer, tokens.start[at + 2], tokens.length[at + 2])
    at, variable = at[good], variable[good]
    declared = variable, tokens.start[at + 2] + offset
    numbered = np.arange(n_before, n_before + len(at), dtype=np.int32)
    return _collapse(tokens, at, _STATEMENT, DECLARATIONS, numbered, 1), declared


def _reduce_comparisons(
    buffer: np.ndarray, tokens: Tokens, offset: int, n_before: int, dialect: Dialect
) -> tuple[Tokens, Comparisons]:
    operand = (VARIABLE, NUMERAL)
    at = _find(tokens.kind, OPEN, COMPARISON, operand, operand, CLOSE)
    kind, start, length = tokens.kind, tokens.start, tokens.length
    swapped = kind[at + 2] == NUMERAL  # (<= 0.5 X_0) is (>= X_0 0.5)
    left, right = at + 2 + swapped, at + 3 - swapped
    left_variable, good = dialect.read_variables(buffer, start[left], length[left])
    right_variable = np.full(len(at), NO_VARIABLE, dtype=np.int32)
    value = np.zeros(len(at))
    has_variable = kind[right] == VARIABLE
    for select, target, reader in (
        (np.flatnonzero(has_variable), right_variable, dialect.read_variables),
        (np.flatnonzero(~has_variable), value, read_numerals),
    ):
        which = right[select]
        target[select], fine = reader(buffer, start[which], length[which])
        good[select] &= fine
    good &= left_variable != right_variable  # (<= Y_0 Y_0) is a constant, which is not for this table
    operator, short = start[at + 1], length[at + 1] == 1  # one of < > = or of <= >= ==
    good &= short | ((length[at + 1] == 2) & (buffer[operator + 1] == ord("=")))
    equal = buffer[operator] == ord("=")
    good &= ~(short & equal) | dialect.single_equals
    greater = ((buffer[operator] == ord(">")) ^ swapped) & ~equal
    value += 0.0  # there is no -0.0 from here on
    columns = (left_variable, right_variable, value, greater, short & ~equal, np.zeros_like(equal), start[at] + offset)
    count = 1 + equal[good]
    found = _with_equalities(Comparisons(*(column[good] for column in columns)), count)
    first = (n_before + np.cumsum(count) - count).astype(np.int32)
    return _collapse(tokens, at[good], _STATEMENT, COMPARISONS, first, count), found


def _with_equalities(found: Comparisons, count: np.ndarray) -> Comparisons:
    """Put a ``>=`` behind each ``<=`` that is an equality, that is, whose ``count`` is 2."""
    if len(found) == count.sum():
        return found
    second = np.cumsum(count)[count == 2] - 1
    doubled = Comparisons(*(np.repeat(getattr(found, column.name), count) for column in fields(found)))
    doubled.greater[second] = True
    doubled.joined[second] = True
    return doubled


def _reduce_assertions(tokens: Tokens, joined: np.ndarray) -> Tokens:
    """``(assert comparison)`` and ``(assert (and comparison..))``."""
    at = _find(tokens.kind, OPEN, ASSERT, COMPARISONS, CLOSE)
    first, count = tokens.first[at + 2], tokens.count[at + 2]
    single = (count == 1) | ((count == 2) & np.append(joined, False)[first + 1])
    tokens = _collapse(tokens, at[single], 4, ASSERTIONS, first[single], count[single])
    at = _find(tokens.kind, OPEN, ASSERT, OPEN, AND, COMPARISONS, CLOSE, CLOSE)
    tokens = _collapse(tokens, at, 7, ASSERTIONS, tokens.first[at + 4], tokens.count[at + 4])
    return _merge_runs(tokens)


def _reduce_conjunctions(tokens: Tokens) -> tuple[Tokens, np.ndarray, np.ndarray, np.ndarray]:
    """``(and comparison..)``: the tokens, and of each conjunction its first comparison, the one behind, the offset."""
    at = _find(tokens.kind, OPEN, AND, COMPARISONS, CLOSE)
    start = tokens.first[at + 2].astype(np.int64)
    stop = start + tokens.count[at + 2]
    numbered = np.arange(len(at), dtype=np.int32)
    return _merge_runs(_collapse(tokens, at, 4, CONJUNCTIONS, numbered, 1)), start, stop, tokens.start[at]
