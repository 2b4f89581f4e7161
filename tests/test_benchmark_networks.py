"""Every network of the shared benchmark families: as onnxruntime computes it, and bounded around 10,000 samples."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vnnlib
from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.load.replay import replay
from lirpa_verify.network import load_network
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.divide import Divide
from lirpa_verify.operators.power import NegativePower
from lirpa_verify.strategy import prepare
from lirpa_verify.witness import Replayer

SHARED = Path(__file__).resolve().parents[2] / "shared" / "vnncomp"
SAMPLES, AT_ONCE = 10_000, 2**24  # values of all nodes together
SECONDS = 8.0  # for the intermediate bounds of a network; those left over stay intervals
REPLAYED = 16  # samples that onnxruntime computes as well
ROWS = 64  # combinations of outputs that are bounded: the property's, and single outputs


def networks() -> dict[str, str]:
    """One property for every network."""
    if not SHARED.is_dir():
        return {}
    with (SHARED / "instances.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {row["onnx"]: row["vnnlib"] for row in reversed(rows)}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the benchmark networks are not here")
@pytest.mark.parametrize("model, prop", networks().items())
@torch.no_grad()
def test_network(model: str, prop: str) -> None:
    network, query = load_network(SHARED / model), vnnlib.read(str(SHARED / prop))
    problem, graph = prepare(network, query)
    box = Interval(problem.box.lower[:1], problem.box.upper[:1])
    points = samples(box, SAMPLES)
    some = points[:: SAMPLES // REPLAYED]
    agrees(network, SHARED / model, problem.full(some), graph.forward(some), problem.mentioned)
    rows = chosen_rows(problem.specification.output)
    bounds = bounds_of(graph, box, rows)
    for outputs in batches(graph, points):
        for method, found in bounds.items():
            values = outputs if method == "ibp" else outputs @ rows.T
            slack = 1e-9 * (1 + values.abs())
            assert bool(((values >= found.lower - slack) & (values <= found.upper + slack)).all()), method
    for method, found in bounds.items():
        if not finite(found):  # only where a quotient's denominator may be 0 in the whole box, and not in parts of it
            assert unbounded_at_a_pole(graph, box) and finite_nearby(graph, box), method


def samples(box: Interval, count: int) -> Tensor:
    """Uniform ones and corners."""
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(count, box.lower.shape[1], generator=generator, dtype=torch.float64)
    share[: count // 4] = share[: count // 4].round()
    return box.lower + share * (box.upper - box.lower)


def batches(graph: Graph, points: Tensor):  # type: ignore[no-untyped-def]
    size = max(1, AT_ONCE // sum(node.size for node in graph.nodes))
    for part in points.split(size):
        yield graph.forward(part)


def agrees(network, path: Path, points: Tensor, values: Tensor, outputs: Tensor) -> None:  # type: ignore[no-untyped-def]
    """The recording, in the model's own precision, the graph's values of some outputs, and onnxruntime on the file."""
    replayer = Replayer(path)
    for point, value in zip(points, values, strict=True):
        x = point.numpy().astype(replayer.dtype)
        expected = torch.from_numpy(replayer(x).astype(np.float64))
        parts, start = [], 0
        for spec in network.recording.inputs:
            size = int(np.prod(spec.shape))
            parts.append(torch.from_numpy(x[start : start + size]).reshape(spec.shape).to(spec.dtype))
            start += size
        found = torch.cat([output.reshape(-1).double() for output in replay(network.recording, parts)])
        scale = expected.abs().max().clamp(min=1)
        assert bool(((found - expected).abs() <= 1e-4 * scale).all())
        assert bool(((value - expected[outputs]).abs() <= 1e-3 * scale).all())


def chosen_rows(specification: Tensor) -> Tensor:
    """(rows, outputs): the property's, then single outputs spread over all."""
    n = specification.shape[1]
    single = torch.linspace(0, n - 1, min(n, ROWS // 2)).round().long()
    return torch.cat([specification[: ROWS // 2], torch.nn.functional.one_hot(single, n).double()])


def bounds_of(graph: Graph, box: Interval, rows: Tensor) -> dict[str, Interval]:
    """Of the outputs by intervals, of the rows by CROWN."""
    found = {"ibp": bound_nodes(graph, box, "ibp")[-1]}
    values = dict(enumerate(bound_nodes(graph, box, "crown", until=Deadline.after(SECONDS))))
    start = torch.cat([rows, -rows]).unsqueeze(0)
    bound = backward(graph, {graph.output: start}, values).lower(box)
    found["crown"] = Interval(bound[:, : len(rows)], -bound[:, len(rows) :])
    return found


def finite(bounds: Interval) -> bool:
    return bool(torch.isfinite(bounds.lower).all() and torch.isfinite(bounds.upper).all())


def unbounded_at_a_pole(graph: Graph, box: Interval) -> bool:
    """Whether the first node without finite bounds is a quotient whose denominator's interval holds 0."""
    values = bound_nodes(graph, box, "ibp")
    first = next(node for node, value in zip(graph.nodes, values, strict=True) if not finite(value))
    divisor = values[first.arguments[-1]]
    return isinstance(first.operator, Divide | NegativePower) and bool(
        ((divisor.lower <= 0) & (divisor.upper >= 0)).any()
    )


def finite_nearby(graph: Graph, box: Interval) -> bool:
    """By CROWN: intervals of such a deep network grow from their margins for rounding alone."""
    centre = samples(box, 8)[-1:]
    for step in (4, 8, 16, 32):
        radius = (box.upper - box.lower) / 2**step
        part = Interval(torch.maximum(box.lower, centre - radius), torch.minimum(box.upper, centre + radius))
        if finite(bound_nodes(graph, part)[-1]):
            return True
    return False
