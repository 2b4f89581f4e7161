"""A property as tensors: which rows must be impossible in which input box.

A violation satisfies ``output_rows . y + input_rows . x <= rhs`` for every row of some disjunct.
Rows often repeat up to their right-hand side, so coefficients are stored once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from vnnlib import Property


@dataclass(frozen=True)
class Specification:
    """Rows by box: disjunct d of box b has rows ``rows[b, d, :]`` (-1: no such row or disjunct)."""

    output: Tensor  # (distinct rows, outputs)
    input: Tensor | None  # (distinct rows, varying inputs); None where no row mentions an input
    kind: Tensor  # (rows,) which distinct row
    rhs: Tensor  # (rows,)
    rows: Tensor  # (boxes, disjuncts, rows per disjunct) int64

    def margins(self, x: Tensor, y: Tensor, box: Tensor) -> Tensor:
        """``row . (x, y) - rhs`` at points; a disjunct holds where all its margins are <= 0.

        Args:
            x: ``(points, varying inputs)``.
            y: ``(points, outputs)``.
            box: ``(points,)`` the box each point belongs to.

        Returns:
            ``(points, disjuncts, rows)``: -inf at missing rows, +inf at missing disjuncts.
        """
        values = y @ self.output.T
        if self.input is not None:
            values = values + x @ self.input.T
        rows = self.rows[box]
        flat = rows.clamp(min=0).flatten(1)
        margins = (values.gather(1, self.kind[flat]) - self.rhs[flat]).reshape(rows.shape)
        missing = (rows < 0) & (rows[..., :1] >= 0)
        return margins.masked_fill(missing, -torch.inf).masked_fill(rows[..., :1] < 0, torch.inf)

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Specification:
        return Specification(
            self.output.to(device, dtype),
            None if self.input is None else self.input.to(device, dtype),
            self.kind.to(device),
            self.rhs.to(device, dtype),
            self.rows.to(device),
        )


@dataclass(frozen=True)
class Problem:
    """Boxes over the varying inputs, and what must be impossible in each."""

    box: Interval  # (boxes, varying inputs), float64
    specification: Specification
    varying: Tensor  # (varying inputs,) their places in the full input
    values: Tensor  # (inputs,) the full input, right where an input is fixed
    mentioned: Tensor | None = None  # (outputs,) the numbers of the outputs that the specification is about; else all

    def full(self, x: Tensor) -> Tensor:
        """Full inputs from the varying ones: (points, inputs)."""
        whole = self.values.to(x).expand(x.shape[0], -1).clone()
        whole[:, self.varying.to(x.device)] = x
        return whole

    def of_mentioned_outputs(self) -> tuple[Problem, Tensor]:
        """The problem over the outputs that some row mentions (one, if none does), and their numbers."""
        used = (self.specification.output != 0).any(0)
        mentioned = used.nonzero().flatten() if bool(used.any()) else torch.zeros(1, dtype=torch.int64)
        specification = replace(self.specification, output=self.specification.output[:, mentioned])
        return replace(self, specification=specification, mentioned=mentioned), mentioned

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Problem:
        box = Interval(self.box.lower.to(device, dtype), self.box.upper.to(device, dtype))
        return replace(self, box=box, specification=self.specification.to(dtype, device))


def enclosing_box(prop: Property, single: np.ndarray | bool) -> Interval:
    """The boxes over all points that the model's own precision can represent in them; `single` for which inputs it is.

    A witness is judged after rounding to the model's input type, so an end rounds to a point that
    counts as inside; both the end and its rounding are kept. A pinned input has only its rounding.
    """
    lower, upper = prop.lower, prop.upper
    with np.errstate(over="ignore"):
        rounded = [np.where(single, a.astype(np.float32).astype(np.float64), a) for a in (lower, upper)]
    # What overflows is no point of a witness.
    rounded_lower, rounded_upper = (
        np.where(np.isfinite(r), r, a) for r, a in zip(rounded, (lower, upper), strict=True)
    )
    pinned = lower == upper
    low = np.where(pinned, rounded_lower, np.minimum(lower, rounded_lower))
    high = np.where(pinned, rounded_upper, np.maximum(upper, rounded_upper))
    return Interval(torch.from_numpy(low), torch.from_numpy(high))


def make_problem(prop: Property, single: np.ndarray | bool) -> Problem:
    """The problem a property poses to a network that has some or all of its inputs in single precision."""
    box = enclosing_box(prop, single)
    first = box.lower[0]
    fixed = ((box.lower == first) & (box.upper == first)).all(0)
    varying = (~fixed).nonzero().flatten()
    if len(varying) == 0:  # a single point: keep one input so that every tensor has a column
        varying, fixed = torch.zeros(1, dtype=torch.int64), fixed.clone()
    specification = make_specification(prop, varying, first)
    return Problem(Interval(box.lower[:, varying], box.upper[:, varying]), specification, varying, first)


def make_specification(prop: Property, varying: Tensor, values: Tensor) -> Specification:
    coefficients, rhs = row_coefficients(prop, values.numpy(), varying.numpy())
    distinct, kind = np.unique(coefficients, axis=0, return_inverse=True)
    output = torch.from_numpy(np.ascontiguousarray(distinct[:, : prop.n_outputs]))
    inputs = torch.from_numpy(np.ascontiguousarray(distinct[:, prop.n_outputs :]))
    return Specification(
        output,
        inputs if inputs.shape[1] else None,
        torch.from_numpy(kind.reshape(-1)),
        torch.from_numpy(rhs),
        rows_by_box(prop),
    )


def row_coefficients(prop: Property, values: np.ndarray, varying: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dense rows over (outputs, varying inputs) and their right-hand sides less what fixed inputs contribute.

    Input columns are left out where no row mentions an input. One more row, 0 <= 0, follows the
    property's own: it stands for a disjunct that has no rows, which every point of its box satisfies.
    """
    n, m = prop.n_inputs, prop.n_outputs
    columns = m + (len(varying) if bool((prop.variable < n).any()) else 0)
    place = np.full(n + m, -1)
    place[n:] = np.arange(m)
    if columns > m:
        place[varying] = np.arange(m, columns)
    row = np.repeat(np.arange(prop.n_rows), np.diff(prop.term_start))
    free = place[prop.variable] >= 0
    coefficients = np.zeros((prop.n_rows + 1, columns))
    np.add.at(coefficients, (row[free], place[prop.variable[free]]), prop.coefficient[free])
    rhs = np.append(prop.rhs, 0.0)
    np.subtract.at(rhs, row[~free], prop.coefficient[~free] * values[prop.variable[~free]])
    return coefficients, rhs


def rows_by_box(prop: Property) -> Tensor:
    """(boxes, disjuncts, rows) numbers of rows, -1 where there is none."""
    counts = np.diff(prop.row_start)
    disjuncts_of_box = np.bincount(prop.box, minlength=prop.n_boxes)
    order = np.argsort(prop.box, kind="stable")
    starts = np.concatenate([[0], np.cumsum(disjuncts_of_box)[:-1]])
    slot = np.empty(prop.n_disjuncts, dtype=np.int64)
    slot[order] = np.arange(prop.n_disjuncts) - np.repeat(starts, disjuncts_of_box)
    rows = np.full((prop.n_boxes, int(disjuncts_of_box.max()), max(1, int(counts.max()))), -1, dtype=np.int64)
    disjunct = np.repeat(np.arange(prop.n_disjuncts), counts)
    within = np.arange(prop.n_rows) - np.repeat(prop.row_start[:-1], counts)
    rows[prop.box[disjunct], slot[disjunct], within] = np.arange(prop.n_rows)
    empty = np.flatnonzero(counts == 0)
    rows[prop.box[empty], slot[empty], 0] = prop.n_rows
    return torch.from_numpy(rows)
