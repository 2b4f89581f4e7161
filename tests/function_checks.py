"""From torch functions to graphs: the same values, and bounds of every method that enclose them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load.record import record
from lirpa_verify.load.replay import replay
from lirpa_verify.operators.base import Interval

Function = Callable[[Tensor], Tensor]

SLACK = {torch.float64: 1e-8, torch.float32: 1e-5}
RADII = (0.0, 1e-7, 0.01, 0.3, 1.2, 30.0)  # a point, tiny, usual, huge
POINTS = 30


def constant(*shape: int, seed: int = 0) -> Tensor:
    """Something irregular that is no random call, which a recording would refuse."""
    return torch.sin(torch.arange(math.prod(shape)) * 1.7 + 0.4 + seed).reshape(shape)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def methods(graph: Graph, box: Interval) -> dict[str, Interval]:
    """Bounds of the outputs by every method."""
    found = {}
    rows = torch.eye(graph.n_outputs, dtype=box.lower.dtype).unsqueeze(0)
    rows = torch.cat([rows, -rows], 1)
    for method in ("ibp", "forward", "crown"):
        values = bound_nodes(graph, box, method)  # type: ignore[arg-type]
        found[method] = values[-1]
        bound = backward(graph, {graph.output: rows}, dict(enumerate(values))).lower(box)
        found[f"{method} and backward"] = Interval(bound[:, : graph.n_outputs], -bound[:, graph.n_outputs :])
    return found


def check_function(name: str, function: Function, shape: tuple[int, ...]) -> None:
    """Values as torch's, and bounds in both precisions around them, finite on usual boxes."""
    recording = record(function, [constant(*shape)])
    graph = simplify(lower(recording, RULES))
    generator = torch.Generator().manual_seed(1)
    n, boxes = math.prod(shape), len(RADII)
    centre = torch.randn(boxes, n, generator=generator, dtype=torch.float64)
    radius = torch.tensor(RADII, dtype=torch.float64).unsqueeze(1)
    share = torch.rand(boxes, POINTS, n, generator=generator, dtype=torch.float64)
    share[:, :10] = share[:, :10].round()
    for dtype in (torch.float64, torch.float32):
        lower_end, upper_end = (centre - radius).to(dtype), (centre + radius).to(dtype)
        low, high = (end.double().unsqueeze(1) for end in (lower_end, upper_end))
        points = torch.minimum(torch.maximum(low + share * (high - low), low), high)
        values = graph.forward(points.flatten(0, 1)).unflatten(0, (boxes, POINTS))
        if dtype == torch.float64:
            check_values(name, recording, points[:, 15], values[:, 15], shape)
        for method, found in methods(graph.to(dtype), Interval(lower_end, upper_end)).items():
            check_enclosed(f"{name}: {method}, {dtype}", found, values, SLACK[dtype])


def check_values(name: str, recording, points: Tensor, values: Tensor, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    for point, value in zip(points, values, strict=True):
        outputs = replay(recording, [point.reshape(shape)], torch.float64)
        expected = torch.cat([output.reshape(-1).double() for output in outputs])
        assert torch.allclose(value, expected, 1e-10, 1e-10, equal_nan=True), name


def check_enclosed(what: str, found: Interval, values: Tensor, slack: float) -> None:
    """Where a value is not a number, the point lies outside the function's domain."""
    low, high = (end.double().unsqueeze(1) for end in found)
    assert not (torch.isnan(low).any() or torch.isnan(high).any()), what
    size = torch.where(torch.isfinite(values), values.abs(), 0)
    outside = (values < low - slack * (1 + size)) | (values > high + slack * (1 + size))
    assert not bool(outside.any()), what
    usual = slice(0, len(RADII) - 2)
    assert bool(torch.isfinite(low[usual]).all() and torch.isfinite(high[usual]).all()), what
