"""Decimal numerals to the nearest float64, many at a time.

A numeral ``digits.digits`` is an integer over a power of ten. When both are exact in float64 (below
2**53, up to 10**22) their IEEE quotient is the correctly rounded value. The other numerals (exponents,
17 digits) go one by one through Python's ``float``, which rounds correctly, too.
"""

from __future__ import annotations

import re

import numpy as np

NUMERAL = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")

PADDING = 24  # blanks that must follow the last token of a buffer
_WIDEST = 20  # 19 digits and a point still fit in a uint64
_EXACT_INTEGER = 1 << 53
_POWERS_OF_TEN = np.array([float(f"1e{power}") for power in range(_WIDEST + 1)])
_ZERO, _POINT, _MINUS = ord("0"), ord("."), ord("-")


def columns_of(buffer: np.ndarray, start: np.ndarray, length: np.ndarray, widest: int) -> np.ndarray:
    """Characters of the tokens, column by column, zero bytes behind the end: (at most ``widest``, tokens) uint8."""
    width = max(1, min(widest, int(length.max(initial=0))))
    rows = np.lib.stride_tricks.sliding_window_view(buffer, width)[start]
    columns = np.ascontiguousarray(rows.T)
    columns[np.arange(width)[:, None] >= length] = 0
    return columns


def read_indices(buffer: np.ndarray, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of the indices at ``start`` (at most 9 digits, no leading zero), and which ones are such."""
    columns = columns_of(buffer, start, length, 9)
    digits = columns - np.uint8(_ZERO)
    is_digit = digits < 10
    good = (is_digit.sum(axis=0, dtype=np.int64) == length) & (length > 0) & ((length == 1) | (digits[0] != 0))
    return _horner(digits, is_digit).astype(np.int64), good


def read_numerals(buffer: np.ndarray, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of the numerals at ``start``, and which ones are well-formed and finite."""
    minus = buffer[start] == _MINUS
    first, size = start + minus, length - minus
    columns = columns_of(buffer, first, size, _WIDEST)
    digits = columns - np.uint8(_ZERO)
    is_digit, is_point = digits < 10, columns == _POINT
    n_digits = is_digit.sum(axis=0, dtype=np.int64)
    n_points = is_point.sum(axis=0, dtype=np.int64)
    fraction = np.where(n_points > 0, size - 1 - is_point.argmax(axis=0), 0)
    good = (n_digits + n_points == size) & (n_points <= 1) & (n_digits < _WIDEST) & (n_digits > fraction)
    good &= (n_points == 0) | (fraction > 0)
    mantissa = _horner(digits, is_digit)
    exact = good & (mantissa <= _EXACT_INTEGER)
    value = mantissa.astype(np.float64) / _POWERS_OF_TEN[np.where(exact, fraction, 0)]
    np.negative(value, out=value, where=minus)
    characters = b"" if exact.all() else buffer.tobytes()
    for those, reader in ((good & ~exact, float), (~good, read_numeral)):  # what is good needs no second check
        begin, end = start[those].tolist(), (start + length)[those].tolist()
        value[those] = [reader(characters[b:e]) for b, e in zip(begin, end)]
    return value, np.isfinite(value)


def read_numeral(token: bytes) -> float:
    """The nearest float64, infinite where it overflows, NaN where ``token`` is no numeral."""
    return float(token) if NUMERAL.fullmatch(token) else np.nan


def _horner(digits: np.ndarray, is_digit: np.ndarray) -> np.ndarray:
    """The integer that each column's digits spell, what is no digit left out (uint64, wraps beyond 19 digits)."""
    base = np.where(is_digit, np.uint8(10), np.uint8(1))
    digits = np.where(is_digit, digits, np.uint8(0))
    value = np.zeros(digits.shape[1], dtype=np.uint64)
    for column in range(len(digits)):
        value *= base[column]
        value += digits[column]
    return value
