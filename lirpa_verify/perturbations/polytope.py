"""A box with linear constraints.

By duality the least value of ``w x`` over ``A x <= b`` in a box is the largest, over multipliers
>= 0, of ``min (w + multipliers A) x - multipliers b`` over the box alone. Any multipliers give a
value that holds; those of the linear program's solution give the exact one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.perturbations.base import EmptySet, Perturbation, entries, require_finite, uniform
from lirpa_verify.perturbations.box import Box

WALKS = 20  # hit-and-run steps of a sample


@dataclass(frozen=True)
class ConstrainedBox(Perturbation):
    """``lower <= x <= upper`` and ``matrix x <= limit``.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.
        EmptySet: when it is first bounded, if no point satisfies everything.
    """

    lower: Tensor  # (batch, *input)
    upper: Tensor  # (batch, *input)
    matrix: Tensor  # (batch, constraints, *input)
    limit: Tensor  # (batch, constraints)

    def __post_init__(self) -> None:
        expected = (self.lower.shape[0], *self.limit.shape[1:2], *self.lower.shape[1:])
        if self.lower.shape != self.upper.shape or self.matrix.shape != expected or self.limit.dim() != 2:
            raise ValueError(
                f"a constrained box with ends {tuple(self.lower.shape)} and {tuple(self.upper.shape)}, "
                f"matrix {tuple(self.matrix.shape)} and limits {tuple(self.limit.shape)}"
            )
        require_finite("a constrained box", *self.tensors())

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.lower.shape)

    @cached_property
    def _box(self) -> Interval:
        n = entries(self.shape)
        eye = torch.eye(n, dtype=self.lower.dtype, device=self.lower.device).reshape(1, n, *self.shape[1:])
        rows = torch.cat([eye, -eye], 1).expand(self.shape[0], -1, *self.shape[1:])
        least = self.minimum(rows)
        lower, upper = least[:, :n].reshape(self.shape), -least[:, n:].reshape(self.shape)
        return Interval(torch.maximum(lower, self.lower), torch.minimum(upper, self.upper))

    def box(self) -> Interval:
        return self._box

    def minimum(self, weight: Tensor) -> Tensor:
        """The multipliers' value, which holds whatever the solver's rounding; its gradient is the Lagrangian's."""
        multipliers, x = self.solutions(weight)
        with torch.no_grad():
            total = weight + torch.einsum("brc,bc...->br...", multipliers, self.matrix)
            value = Box(self.lower, self.upper).minimum(total) - (multipliers * self.limit.unsqueeze(1)).sum(2)
        lower, upper = self.lower.unsqueeze(1), self.upper.unsqueeze(1)
        x = torch.where(x == lower, lower, torch.where(x == upper, upper, x))
        excess = torch.einsum("bc...,br...->brc", self.matrix, x) - self.limit.unsqueeze(1)
        lagrangian = (weight * x).flatten(2).sum(2) + (multipliers * excess).sum(2)
        return value.detach() + (lagrangian - lagrangian.detach())

    def minimiser(self, weight: Tensor) -> Tensor:
        return self.solutions(weight)[1]

    def solutions(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Multipliers (batch, rows, constraints) and points (batch, rows, *input), by HiGHS."""
        flat = (weight.flatten(2), self.lower.flatten(1), self.upper.flatten(1), self.matrix.flatten(2), self.limit)
        multipliers, points = Solutions.apply(*(t.detach() for t in flat))
        return multipliers, points.reshape(weight.shape)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Hit and run from a point inside: random directions, uniform on what of the line is inside."""
        batch, n = self.shape[0], entries(self.shape)
        lower, upper = (t.reshape(batch, 1, n) for t in (self.lower, self.upper))
        matrix, limit = self.matrix.flatten(2), self.limit.unsqueeze(1)
        rows = 2 * uniform((batch, count, n), self.lower, generator) - 1
        corners = self.minimiser(rows.reshape(batch, count, *self.shape[1:])).reshape(batch, count, n)
        x = corners.mean(1, keepdim=True).expand(-1, count, -1)
        for _ in range(WALKS):
            d = 2 * uniform((batch, count, n), self.lower, generator) - 1
            slope = torch.cat([d, -d, d @ matrix.mT], 2)
            room = torch.cat([upper - x, x - lower, limit - x @ matrix.mT], 2).clamp(min=0)
            ratio = room / torch.where(slope == 0, 1, slope)
            forth = torch.where(slope > 0, ratio, torch.inf).amin(2, keepdim=True)
            back = torch.where(slope < 0, ratio, -torch.inf).amax(2, keepdim=True)
            x = x + d * torch.lerp(back, forth, uniform((batch, count, 1), self.lower, generator))
        return x.transpose(0, 1).reshape(count, *self.shape)


class Solutions(torch.autograd.Function):
    """The linear programs' solutions as constants, so that autograd and `torch.func` leave them alone."""

    @staticmethod
    def forward(weight: Tensor, lower: Tensor, upper: Tensor, matrix: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """From flat inputs: weight (batch, rows, n), ends (batch, n), matrix (batch, constraints, n)."""
        multipliers, points = weight.new_zeros(*weight.shape[:2], limit.shape[1]), torch.zeros_like(weight)
        costs, *parts = (t.cpu().double().numpy() for t in (weight, lower, upper, matrix, limit))
        for b in range(len(weight)):
            program = LinearProgram(*(part[b] for part in parts))
            for r, cost in enumerate(costs[b]):
                duals, x = program.solve(cost)
                multipliers[b, r], points[b, r] = torch.from_numpy(duals), torch.from_numpy(x)
        return multipliers, points

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *given: Tensor) -> tuple[Any, tuple[int, int]]:
        """What is mapped over becomes part of the batch."""
        size = info.batch_size
        parts = (
            (t.expand(size, *t.shape) if d is None else t.movedim(d, 0)).flatten(0, 1)
            for t, d in zip(given, dims, strict=True)
        )
        return tuple(t.unflatten(0, (size, -1)) for t in Solutions.apply(*parts)), (0, 0)


class LinearProgram:
    """``min w x`` with ``matrix x <= limit`` in a box, for one w after the other, each from the last solution."""

    def __init__(self, lower: np.ndarray, upper: np.ndarray, matrix: np.ndarray, limit: np.ndarray) -> None:
        import highspy  # only needed where there are constraints

        from lirpa_verify.quiet_highs import QuietHighs

        n, rows = len(lower), len(limit)
        self._highs = QuietHighs()
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = n, rows
        program.col_cost_, program.col_lower_, program.col_upper_ = np.zeros(n), lower, upper
        program.row_lower_, program.row_upper_ = np.full(rows, -np.inf), limit
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        row, column = np.nonzero(matrix)
        program.a_matrix_.start_ = np.searchsorted(row, np.arange(rows + 1)).astype(np.int32)
        program.a_matrix_.index_, program.a_matrix_.value_ = column.astype(np.int32), matrix[row, column]
        self._highs.passModel(program)
        self._status = highspy.HighsModelStatus
        self._columns = np.arange(n, dtype=np.int32)

    def solve(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Multipliers >= 0 of the constraints and the point; some of both for weights that are not finite."""
        size = float(np.abs(weight).max(initial=0.0))  # the solver's tolerances are absolute
        usable = 0 < size < np.inf
        self._highs.changeColsCost(len(weight), self._columns, weight / size if usable else np.zeros_like(weight))
        self._highs.run()
        status = self._highs.getModelStatus()
        if status == self._status.kInfeasible:
            raise EmptySet("no point of the box satisfies the constraints")
        if status != self._status.kOptimal:
            raise RuntimeError(f"HiGHS solved no linear program: {self._highs.modelStatusToString(status)}")
        solution = self._highs.getSolution()
        duals = np.maximum(-np.asarray(solution.row_dual), 0) * (size if usable else 0)
        return duals, np.asarray(solution.col_value)
