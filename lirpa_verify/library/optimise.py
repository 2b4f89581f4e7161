"""Optimised slopes for any region (alpha-CROWN, arXiv:2011.13824)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import DECAY, FIRST_RATE, ascend, initial_positions, slopes_at
from lirpa_verify.graph.graph import Graph
from lirpa_verify.library.passes import region_minimum, rows_backward
from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.perturbations.region import Region


def optimised_slopes(
    graph: Graph, rows: Tensor, region: Region, values: list[Interval], steps: int
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
            gradients, bound = torch.func.grad(lower, has_aux=True)(positions)  # also inside other transformations
            best, kept = better(best, bound, kept, positions)
            found = tuple(t for i in positions for t in gradients[i] if t.numel())
            ascend(variables, found, moments, [1.0] * len(variables), step, FIRST_RATE * DECAY**step)
            for variable in variables:
                variable.clamp_(0, 1)
        if best is not None:
            _, kept = better(best, lower(positions)[1], kept, positions)
    return slopes_at(still, intervals, kept)


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
