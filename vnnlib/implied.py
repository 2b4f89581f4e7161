"""Bounds that inputs have only through others: ``X_g == X_f`` bounds ``X_g`` where ``X_f`` is bounded.

Points of a model are rounded to its precision, and ends of boxes with them. What follows from a rounded end by
arithmetic is not what follows from the end, rounded; so bounds from arithmetic leave room for single precision.
Nothing is lost by that, as the rows that bounds follow from stay.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from vnnlib.constraints import outward

_LARGEST = 10**300  # a bound that is larger is as good as none
_ROOM = Fraction(1, 1 << 20)  # of the terms: several roundings to single precision

Row = tuple[list[int], list[float], float]  # variables, coefficients, right-hand side


def complete_bounds(lower: np.ndarray, upper: np.ndarray, rows: list[Row]) -> None:
    """Replace infinite ends, in place, by what rows over inputs alone imply; other ends are left as they are."""
    progress = True
    while progress:
        progress = False
        for row in rows:
            if any(np.isinf(lower[v]) or np.isinf(upper[v]) for v in row[0]):
                progress |= _apply(lower, upper, row)


def _apply(lower: np.ndarray, upper: np.ndarray, row: Row) -> bool:
    """A term is at most the right-hand side less what the other terms are at least."""
    variables, coefficients, rhs = row
    ends = [lower[v] if c > 0 else upper[v] for v, c in zip(variables, coefficients)]  # where terms are least
    open_ends = np.isinf(ends)
    n_open = int(open_ends.sum())
    if n_open > 1:
        return False
    terms = [Fraction(c) * Fraction(float(e)) for c, e, o in zip(coefficients, ends, open_ends) if not o]
    least = sum(terms, Fraction(0))
    copies = len(variables) == 2 and coefficients[0] == -coefficients[1] and rhs == 0  # one end becomes another
    room = Fraction(0) if copies else _ROOM * (sum(map(abs, terms), Fraction(0)) + abs(Fraction(rhs)))
    progress = False
    for variable, coefficient, end, is_open in zip(variables, coefficients, ends, open_ends.tolist()):
        target = upper if coefficient > 0 else lower
        if n_open != is_open or not np.isinf(target[variable]):
            continue  # another term has no bound, or there is a bound already
        others = least if is_open else least - Fraction(coefficient) * Fraction(float(end))
        bound = (Fraction(rhs) - others + room) / Fraction(coefficient)
        if abs(bound) < _LARGEST:
            target[variable] = outward(bound, up=coefficient > 0)
            progress = True
    return progress
