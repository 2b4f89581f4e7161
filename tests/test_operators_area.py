"""The lines that are used without any optimisation, compared with the best ones.

The area between a line and a function over an interval depends on the line's height at the middle, and no line
below the function is higher there than the convex envelope; above it is the concave envelope. Both are computed
from the function's values on a grid.
"""

from __future__ import annotations

import pytest
import torch
from one_variable import FUNCTIONS, NAMES, cut
from operator_checks import random_intervals
from torch import Tensor

from lirpa_verify.operators.univariate import Univariate

GRID = 201
LOOSER = 1.03  # times the best area; envelopes of jumps are known up to the width of a cell
SEEN = 1e-6  # areas below this share of the function's size are lost in rounding


def envelope(points: Tensor, values: Tensor, middle: Tensor) -> Tensor:
    """(n,): the convex envelope at the middle, by chords between all points left and right of it; (n, grid) each."""
    width = points.unsqueeze(1) - points.unsqueeze(2)
    share = (middle.unsqueeze(2) - points.unsqueeze(2)) / torch.where(width > 0, width, 1)
    chord = torch.lerp(*torch.broadcast_tensors(values.unsqueeze(2), values.unsqueeze(1), share))
    across = (points <= middle).unsqueeze(2) & (points >= middle).unsqueeze(1)
    return chord.masked_fill(~across, torch.inf).amin((1, 2))


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("function, domain", FUNCTIONS, ids=NAMES)
def test_first_lines_are_the_closest(function: Univariate, domain: tuple[float, float], scale: float) -> None:
    interval = cut(random_intervals(torch.Generator().manual_seed(9), 40, (1,), scale), domain)
    middle = (interval.lower + interval.upper) / 2
    points = interval.lower + torch.linspace(0, 1, GRID, dtype=torch.float64) * (interval.upper - interval.lower)
    values = function.forward(points)
    best = -envelope(points, -values, middle) - envelope(points, values, middle)
    lines = function.relaxation(interval, None)
    assert lines is not None
    below, above = (
        (slope.flatten() * middle.flatten() + offset.flatten()) for slope, offset in (lines[:2], lines[2:4])
    )
    assert bool((above - below <= LOOSER * best + SEEN * (1 + values.abs().amax(1))).all())
