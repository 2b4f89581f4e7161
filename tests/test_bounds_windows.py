"""Bounding window by window gives the bounds of whole rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from function_checks import Function, constant
from random_networks import generator, samples

from lirpa_verify.bounds import intermediate, optimised_nodes, tiles
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load.record import record
from lirpa_verify.operators.base import Interval
from lirpa_verify.threads import torch_threads

K0, K1, K2, K3 = constant(2, 4, 3, 3), constant(4, 2, 3, 3), constant(4, 4, 3, 3) / 2, constant(4, 4, 3, 3, seed=1) / 2
NETWORKS: dict[str, Function] = {
    "relu": lambda x: F.relu(F.conv2d(F.relu(F.conv2d(x, K1, constant(4), padding=1)), K2, padding=1)).mean((2, 3)),
    "residual": lambda x: F.relu(
        F.conv2d(F.relu(F.conv2d(a := F.relu(F.conv2d(x, K1)), K2, padding=1)) + a, K3, stride=2)
    ).mean((2, 3)),
    "pooled": lambda x: F.conv2d(F.max_pool2d(torch.tanh(F.conv2d(x, K1, padding=1)), 2), K2).sigmoid().sum((2, 3)),
    "generator": lambda x: F.conv_transpose2d(F.relu(F.conv_transpose2d(x, K0, padding=1)), K2, None, 2).relu().sum(2),
}


def setting(name: str, size: int, boxes: int, radius: float, seed: int = 0) -> tuple[Graph, Interval]:
    """A network on images of two channels, and boxes around random ones."""
    graph = simplify(lower(record(NETWORKS[name], [constant(1, 2, size, size)]), RULES))
    centre = torch.randn(boxes, graph.n_inputs, generator=generator(seed), dtype=torch.float64)
    return graph, Interval(centre - radius, centre + radius)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_bounds_as_with_whole_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, box = setting(name, size=12, boxes=2, radius=0.1)
    monkeypatch.setattr(intermediate, "best_size", lambda *arguments: None)
    whole = bound_nodes(graph, box, "crown")
    chosen = []

    def always(graph: Graph, i: int, rows: int) -> int | None:
        chosen.append(i)
        return 5 if len(graph.nodes[i].shape) == 4 else None

    monkeypatch.setattr(intermediate, "best_size", always)
    part = bound_nodes(graph, box, "crown")
    assert chosen
    for a, b in zip(whole, part, strict=True):
        assert torch.allclose(a.lower, b.lower, atol=1e-8) and torch.allclose(a.upper, b.upper, atol=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_optimised_bounds_in_windows_hold_and_gain_as_much(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, box = setting(name, size=8, boxes=1, radius=0.1)
    values = bound_nodes(graph, box, "crown")
    monkeypatch.setattr(optimised_nodes, "LEAST_GAIN", -1.0)  # no entry is left out because others gain little
    found = []
    for size in (None, 3):

        def chosen(graph: Graph, i: int, rows: int, size: int | None = size) -> int | None:
            return size if len(graph.nodes[i].shape) == 4 else None

        monkeypatch.setattr(optimised_nodes, "best_size", chosen)
        found.append(optimised_nodes.optimise_nodes(graph, box, values, optimised_nodes.Effort(4, Deadline.after(1e6))))
    points = samples(generator(0), box, 300)[:, 0]
    reached = [points]
    for node in graph.nodes[1:]:
        reached.append(node.operator.forward(*(reached[a] for a in node.arguments)))
    for whole, part, value, point in zip(*found, values, reached, strict=True):
        assert bool(((part.lower <= point + 1e-9) & (point <= part.upper + 1e-9)).all())
        assert bool(((value.lower <= part.lower) & (part.upper <= value.upper)).all())
        assert float((part.upper - part.lower).sum()) == pytest.approx(
            float((whole.upper - whole.lower).sum()), rel=1e-3
        )
    gained = [bool((a.upper - a.lower < b.upper - b.lower).any()) for a, b in zip(found[1], values, strict=True)]
    assert any(gained) == (name != "pooled")  # all that is relaxed there is a function of one convolution of the input


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_signs_first_in_windows_side_by_side(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signs, and undecided entries as tight as with both sides of whole rows, for one thread or several."""
    graph, box = setting(name, size=12, boxes=1, radius=0.03, seed=1)
    monkeypatch.setattr(intermediate, "best_size", lambda *arguments: None)
    whole = bound_nodes(graph, box)
    monkeypatch.setattr(intermediate, "best_size", lambda graph, i, rows: 5 if len(graph.nodes[i].shape) == 4 else None)
    with torch_threads(threads):
        part = bound_nodes(graph, box, signs_first=True)
        assert torch.get_num_threads() == threads
    for i in graph.tightened:
        mask = intermediate.undecided_entries(graph, i, whole[i])
        assert torch.equal(mask, intermediate.undecided_entries(graph, i, part[i]))
        mask = mask.reshape(whole[i].lower.shape)
        assert bool((part[i].lower >= whole[i].lower - 1e-8)[mask].all())
        assert bool((part[i].upper <= whole[i].upper + 1e-8)[mask].all())


def test_small_windows_of_large_images_are_worthwhile() -> None:
    graph = simplify(lower(record(NETWORKS["relu"], [constant(1, 2, 40, 40)]), RULES))
    convolutions = [i for i, node in enumerate(graph.nodes) if node.shape[1:2] == (4,) and len(node.shape) == 4]
    assert tiles.best_size(graph, convolutions[2], 3000) in tiles.SIZES
    assert tiles.best_size(graph, convolutions[2], 1) is None
