"""The constraints of a query: the table of comparisons, and linear rows for what does not fit in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from vnnlib.linear import Linear
from vnnlib.reduction import NO_VARIABLE, Comparisons

LINEAR_ROW = -2  # as the right side of a comparison: the whole constraint is the linear row `value`


@dataclass(frozen=True)
class LinearRows:
    """Row ``r``: sum of ``coefficient * variable`` over the terms ``start[r]:start[r + 1]``, at most ``rhs[r]``."""

    start: np.ndarray
    variable: np.ndarray
    coefficient: np.ndarray
    rhs: np.ndarray


@dataclass
class ConstraintBuilder:
    """Adds constraints ``linear <= 0`` one at a time behind the comparisons that were read in bulk.

    Arithmetic in the text is exact up to here; each number is rounded once, to the nearest float64.
    """

    n_before: int
    _entries: list[tuple[int, int, float, bool, bool, int]] = field(default_factory=list)
    _rows: list[tuple[list[int], list[float], float]] = field(default_factory=list)

    def add(self, linear: Linear, strict: bool, offset: int) -> int:
        """The constraint ``linear <= 0`` (``< 0``); returns how many entries, the last ones, it took."""
        if len(linear.terms) == 1:
            [(variable, coefficient)] = linear.terms.items()
            bound = -linear.constant / coefficient
            if abs(coefficient) == 1:
                self._entries.append((variable, NO_VARIABLE, _nearest(bound), coefficient < 0, strict, offset))
                return 1
            if variable % 2 == 0:
                # The quotient may not be a float64. The box takes it rounded outwards, the row keeps the exact scale.
                end = outward(bound, up=coefficient > 0)
                self._entries.append((variable, NO_VARIABLE, end, coefficient < 0, False, offset))
                self._add_row(linear, strict, offset)
                return 2
        self._add_row(linear, strict, offset)
        return 1

    def _add_row(self, linear: Linear, strict: bool, offset: int) -> None:
        variables = sorted(linear.terms, key=lambda variable: (variable % 2, variable))  # inputs first
        coefficients = [_nearest(linear.terms[variable]) for variable in variables]
        if 0.0 in coefficients:
            raise OverflowError("a coefficient is too small for double precision")
        self._entries.append((0, LINEAR_ROW, len(self._rows), False, strict, offset))
        self._rows.append((variables, coefficients, _nearest(-linear.constant)))

    @property
    def n_constraints(self) -> int:
        return self.n_before + len(self._entries)

    def comparisons(self) -> Comparisons:
        left, right, value, greater, strict, start = zip(*self._entries) if self._entries else [()] * 6
        return Comparisons(
            np.array(left, dtype=np.int32),
            np.array(right, dtype=np.int32),
            np.array(value, dtype=np.float64),
            np.array(greater, dtype=bool),
            np.array(strict, dtype=bool),
            np.zeros(len(strict), dtype=bool),
            np.array(start, dtype=np.int64),
        )

    def linear_rows(self) -> LinearRows:
        return LinearRows(
            np.cumsum([0, *(len(variables) for variables, _, _ in self._rows)]),
            np.array([v for variables, _, _ in self._rows for v in variables], dtype=np.int64),
            np.array([c for _, coefficients, _ in self._rows for c in coefficients], dtype=np.float64),
            np.array([rhs for _, _, rhs in self._rows], dtype=np.float64),
        )


def _nearest(number: Fraction) -> float:
    """Rounds correctly; raises OverflowError beyond the largest float64."""
    return number.numerator / number.denominator


def outward(number: Fraction, up: bool) -> float:
    """The nearest float64 that is not below (``up``) or not above the number."""
    value = _nearest(number)
    if up and Fraction(value) < number:
        return math.nextafter(value, math.inf)
    if not up and Fraction(value) > number:
        return math.nextafter(value, -math.inf)
    return value
