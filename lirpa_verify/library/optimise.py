"""Optimised slopes for any region (alpha-CROWN, arXiv:2011.13824)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import DECAY, FIRST_RATE, ascend, initial_positions, slopes_at
from lirpa_verify.bounds.intermediate import NEVER
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.library.passes import region_minimum, rows_backward
from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.transforms import transforming
from lirpa_verify.perturbations.region import Region


def optimised_slopes(
    graph: Graph, rows: Tensor, region: Region, values: list[Interval], steps: int, until: Deadline = NEVER
) -> dict[int, Slopes]:
    """Slopes that make the lower bounds of ``<rows, output>`` large, every row and example with its own.

    They are constants: bounds made with them have gradients with respect to everything but the slopes,
    which at the optimum is the gradient of the optimised bound.

    Args:
        graph: the network.
        rows: ``(batch or 1, rows, outputs)``.
        region: what the inputs may be.
        values: intervals of the nodes.
        steps: of Adam, with one backward pass and its gradient each.
        until: when to be content with fewer.
    """
    with torch.no_grad():
        still = graph.map_tensors(lambda t: t.detach())
        intervals = {i: Interval(v.lower.detach(), v.upper.detach()) for i, v in enumerate(values)}
        region = Region(tuple(part.map(lambda t: t.detach()) for part in region.parts))
        rows = rows.detach()
        first = initial_positions(still, intervals, still.ancestors[still.output], rows.shape[1])
        positions = {
            i: Slopes(*(t.expand(region.batch, *t.shape[1:]).clone() for t in pair)) for i, pair in first.items()
        }

    def lower(positions: Mapping[int, Slopes]) -> tuple[Tensor, Tensor]:
        slopes = slopes_at(still, intervals, positions)
        bound = region_minimum(rows_backward(still, rows, list(intervals.values()), slopes), region)
        return bound.sum(), bound

    variables = [t for pair in positions.values() for t in pair if t.numel()]
    moments = [(torch.zeros_like(v), torch.zeros_like(v)) for v in variables]
    best: Tensor | None = None
    kept = {i: Slopes(*(t.clone() for t in pair)) for i, pair in positions.items()}
    with torch.no_grad():
        for step in range(steps if variables else 0):
            if until.passed():
                break
            gradients, bound = gradient(lower, positions)
            best, kept = better(best, bound, kept, positions)
            ascend(variables, gradients, moments, [1.0] * len(variables), step, FIRST_RATE * DECAY**step)
            for variable in variables:
                variable.clamp_(0, 1)
        if best is not None:
            _, kept = better(best, lower(positions)[1], kept, positions)
    return slopes_at(still, intervals, kept)


def gradient(
    lower: Callable[[Mapping[int, Slopes]], tuple[Tensor, Tensor]], positions: Mapping[int, Slopes]
) -> tuple[tuple[Tensor | None, ...], Tensor]:
    """The gradient of the first result with respect to all positions that have entries, and the second result."""
    if transforming():  # is slower
        found, bound = torch.func.grad(lower, has_aux=True)(positions)
        return tuple(t for i in positions for t in found[i] if t.numel()), bound
    with torch.enable_grad():
        watched = {i: Slopes(*(t.detach().requires_grad_() for t in pair)) for i, pair in positions.items()}
        total, bound = lower(watched)
        variables = [t for pair in watched.values() for t in pair if t.numel()]
        if not total.requires_grad:  # no slope matters
            return (None,) * len(variables), bound
        return torch.autograd.grad(total, variables, allow_unused=True), bound.detach()


def better(
    best: Tensor | None, bound: Tensor, kept: Mapping[int, Slopes], positions: Mapping[int, Slopes]
) -> tuple[Tensor, dict[int, Slopes]]:
    """The best bounds so far, and the positions with which they were reached, row by row."""
    if best is None:
        return bound, dict(kept)
    improved = bound > best

    def choose(new: Tensor, old: Tensor) -> Tensor:
        if not new.numel():
            return old
        return torch.where(improved.reshape(*improved.shape, *[1] * (new.dim() - 2)), new.detach(), old)

    chosen = {
        i: Slopes(choose(pair.lower, kept[i].lower), choose(pair.upper, kept[i].upper)) for i, pair in positions.items()
    }
    return torch.maximum(best, bound), chosen
