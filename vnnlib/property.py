"""The normal form of a VNN-LIB query: a disjunction of boxes with linear constraints.

A property describes the *violations*: it is satisfied by a point ``x`` (with ``y = net(x)``) when
some disjunct holds as a whole. A disjunct is an input box and a conjunction of linear constraints
over inputs and outputs. Boxes that repeat are stored once, constraints are sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

# Relative error of a sum of k products in float64 is below (k + 1) * 2**-53; this leaves a factor of 2.
_UNIT_ROUNDOFF = 2.0**-52


@dataclass(frozen=True)
class Property:
    """Disjunction over ``d`` of ``lower[box[d]] <= x <= upper[box[d]]`` and the rows of ``d``.

    Row ``r`` reads ``sum(coefficient * variable) <= rhs[r]`` (``<`` where ``strict[r]``).
    Variables ``0 .. n_inputs-1`` are inputs, ``n_inputs .. n_inputs+n_outputs-1`` outputs.

    A strict bound of an input is in the box, as if it were not strict, and a strict row as well.
    """

    n_inputs: int
    n_outputs: int
    lower: np.ndarray  # (boxes, n_inputs) float64
    upper: np.ndarray  # (boxes, n_inputs) float64
    box: np.ndarray  # (disjuncts,) int64: which box
    row_start: np.ndarray  # (disjuncts + 1,) int64: rows of disjunct d are row_start[d]:row_start[d+1]
    term_start: np.ndarray  # (rows + 1,) int64: terms of row r are term_start[r]:term_start[r+1]
    variable: np.ndarray  # (terms,) int64
    coefficient: np.ndarray  # (terms,) float64
    rhs: np.ndarray  # (rows,) float64
    strict: np.ndarray  # (rows,) bool

    @property
    def n_boxes(self) -> int:
        return len(self.lower)

    @property
    def n_disjuncts(self) -> int:
        return len(self.box)

    @property
    def n_rows(self) -> int:
        return len(self.rhs)

    def dense(self, disjunct: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(A_x, A_y, rhs)`` of a disjunct: its rows are ``A_x @ x + A_y @ y <= rhs``."""
        first, last = self.row_start[disjunct], self.row_start[disjunct + 1]
        begin, end = self.term_start[first], self.term_start[last]
        matrix = np.zeros((last - first, self.n_inputs + self.n_outputs))
        row = np.repeat(np.arange(last - first), np.diff(self.term_start[first : last + 1]))
        matrix[row, self.variable[begin:end]] = self.coefficient[begin:end]
        return matrix[:, : self.n_inputs], matrix[:, self.n_inputs :], self.rhs[first:last].copy()

    def evaluate(self, x: np.ndarray, y: np.ndarray, input_tolerance: float = 0.0) -> bool:
        """Whether the point is a violation: some disjunct holds. The rows are decided without rounding."""
        return bool(self.holds(x, y, input_tolerance).any())

    def holds(self, x: np.ndarray, y: np.ndarray, input_tolerance: float = 0.0) -> np.ndarray:
        """Which disjuncts hold at ``x`` and ``y`` (any shape, taken in C order).

        The tolerance is absolute and relaxes the bounds of boxes only, never a row. NaN satisfies nothing.
        """
        inputs = np.asarray(x, dtype=np.float64).reshape(-1)
        outputs = np.asarray(y, dtype=np.float64).reshape(-1)
        if len(inputs) != self.n_inputs or len(outputs) != self.n_outputs:
            expected = f"{self.n_inputs} inputs and {self.n_outputs} outputs"
            raise ValueError(f"the property has {expected}, the point {len(inputs)} and {len(outputs)}")
        inside = (inputs >= self.lower - input_tolerance) & (inputs <= self.upper + input_tolerance)
        holds = np.all(inside, axis=1)[self.box]
        candidates = np.flatnonzero(np.repeat(holds, np.diff(self.row_start)))
        broken = candidates[~self._rows_hold(candidates, np.concatenate([inputs, outputs]))]
        holds[np.searchsorted(self.row_start, broken, side="right") - 1] = False
        return holds

    def _rows_hold(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """In float64 where its error cannot matter, in rational arithmetic where it could."""
        row_of_term = np.repeat(np.arange(self.n_rows), np.diff(self.term_start))
        with np.errstate(over="ignore", invalid="ignore"):
            product = self.coefficient * values[self.variable]
            sums = np.bincount(row_of_term, product, self.n_rows)[rows]
            sizes = np.bincount(row_of_term, np.abs(product), self.n_rows)[rows]
            margin = self.rhs[rows] - sums
            n_terms = np.diff(self.term_start)[rows]
            doubt = (n_terms + 2) * _UNIT_ROUNDOFF * (sizes + np.abs(self.rhs[rows])) + np.finfo(np.float64).tiny
            holds = margin > doubt
            undecided = ~(holds | (margin < -doubt))
        for place in np.flatnonzero(undecided).tolist():
            holds[place] = self._row_holds_exactly(int(rows[place]), values)
        return holds

    def _row_holds_exactly(self, row: int, values: np.ndarray) -> bool:
        terms = slice(self.term_start[row], self.term_start[row + 1])
        factors = values[self.variable[terms]]
        if not np.isfinite(factors).all():
            return False
        total = sum(Fraction(c) * Fraction(v) for c, v in zip(self.coefficient[terms].tolist(), factors.tolist()))
        rhs = Fraction(float(self.rhs[row]))
        return total < rhs or (total == rhs and not self.strict[row])
