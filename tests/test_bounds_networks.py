"""Bounds of whole random networks enclose what the networks do, whatever the method."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, network, random_boxes, samples
from torch import Tensor

from lirpa_verify.bounds.crown import backward, one_hot_rows, with_negated
from lirpa_verify.bounds.forward import concretise, forms_step, input_forms, varying_forms
from lirpa_verify.bounds.intermediate import Method, bound_nodes, undecided_entries
from lirpa_verify.bounds.interval import interval_bounds
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
NETWORKS = [
    (kind, activation)
    for kind in ("dense", "residual", "concat", "product", "conv")
    for activation in ("relu", "leaky", "sigmoid", "tanh", "sin", "mixed")
]


def output_rows(graph: Graph, box: Interval, values: list[Interval]) -> Interval:
    """CROWN bounds of the outputs."""
    index = torch.arange(graph.n_outputs)
    rows = with_negated(one_hot_rows(index, graph.nodes[-1].shape, box.lower))
    bound = backward(graph, {graph.output: rows}, dict(enumerate(values))).lower(box)
    return Interval(bound[:, : len(index)], -bound[:, len(index) :])


def assert_inside(value: Tensor, interval: Interval, what: str) -> None:
    """``(points, batch, *node)`` in ``(batch or 1, *node)``, up to rounding."""
    slack = TOLERANCE[interval.lower.dtype] * (1 + value.abs())
    assert not (value < interval.lower - slack).any(), f"{what}: a value lies below"
    assert not (value > interval.upper + slack).any(), f"{what}: a value lies above"
    assert not torch.isnan(interval.lower).any() and not torch.isnan(interval.upper).any(), what


def values_at(graph: Graph, points: Tensor) -> list[Tensor]:
    """Values of all nodes, (points, batch, *node), in float64."""
    found = graph.evaluate(points.flatten(0, 1))
    return [v.expand(points.shape[0] * points.shape[1], *v.shape[1:]).unflatten(0, points.shape[:2]) for v in found]


@pytest.mark.parametrize(("kind", "activation"), NETWORKS)
def test_every_method_encloses_samples(kind: str, activation: str) -> None:
    g = generator(100)
    for seed in range(2):
        graph = graph_of(*network(kind, activation, seed))
        for batch in (1, 7):
            box = random_boxes(g, batch, graph.n_inputs)
            values = values_at(graph, samples(g, box, 200))
            for dtype in (torch.float64, torch.float32):
                cast = Interval(box.lower.to(dtype), box.upper.to(dtype))
                same = graph.to(dtype)
                for method in ("ibp", "forward", "crown"):
                    bounds = bound_nodes(same, cast, method)
                    for i, interval in enumerate(bounds[1:], start=1):
                        assert_inside(values[i], interval, f"{method} {dtype} node {i}")
                    assert_inside(values[-1], output_rows(same, cast, bounds), f"output {method} {dtype}")


@pytest.mark.parametrize("method", ["forward", "crown"])
@pytest.mark.parametrize(("kind", "activation"), NETWORKS[::2])
def test_linear_bounds_are_never_looser_than_intervals(kind: str, activation: str, method: Method) -> None:
    g = generator(7)
    graph = graph_of(*network(kind, activation, 3))
    box = random_boxes(g, 5, graph.n_inputs)
    for tight, loose in zip(bound_nodes(graph, box, method), interval_bounds(graph, box), strict=True):
        for narrow, wide, sign in ((tight.lower, loose.lower, 1), (tight.upper, loose.upper, -1)):
            assert bool((sign * (narrow - wide) >= -1e-13 * (1 + wide.abs())).all())  # rounding is not monotone


@pytest.mark.parametrize(("kind", "activation"), NETWORKS)
def test_forward_forms_enclose_samples(kind: str, activation: str) -> None:
    """The forms as functions, not only the intervals made of them."""
    g = generator(5)
    graph = graph_of(*network(kind, activation, 5))
    box = random_boxes(g, 4, graph.n_inputs)
    intervals = interval_bounds(graph, box)
    forms = [input_forms(graph, box)]
    for i in range(1, len(graph.nodes)):
        forms.append(forms_step(graph, i, forms, intervals, box))
    points = samples(g, box, 100)
    for i, value in enumerate(values_at(graph, points)):
        tail = [1] * (value.dim() - 2)
        x = points.reshape(*points.shape, *tail)
        for weight, offset, sign in ((*forms[i][:2], 1), (*forms[i][2:], -1)):
            form = (x * weight).sum(2) + offset
            assert not (sign * (value - form) < -1e-9 * (1 + form.abs())).any(), f"node {i}"
        assert_inside(value, concretise(forms[i], box), f"node {i}")


@pytest.mark.parametrize(("kind", "activation"), NETWORKS)
def test_linear_bounds_hold_as_functions(kind: str, activation: str) -> None:
    """Not only at their minimum: the search uses them as half-spaces."""
    g = generator(6)
    graph = graph_of(*network(kind, activation, 6))
    box = random_boxes(g, 4, graph.n_inputs)
    rows = torch.randn(1, 5, graph.n_outputs, generator=g, dtype=torch.float64)
    linear = backward(graph, {graph.output: rows}, dict(enumerate(bound_nodes(graph, box))))
    points = samples(g, box, 200)
    wanted = graph.forward(points.flatten(0, 1)).unflatten(0, points.shape[:2]) @ rows[0].T
    form = (points.unsqueeze(2) * linear.weight).sum(3) + linear.offset
    assert bool((form <= wanted + 1e-9 * (1 + wanted.abs())).all())
    corner = linear.corner(box)
    lowest = (corner * linear.weight).sum(2) + linear.offset
    assert torch.allclose(lowest, linear.lower(box).expand_as(lowest), rtol=1e-9, atol=1e-9)


def test_bounds_of_a_point_are_its_value() -> None:
    for kind, activation in NETWORKS:
        graph = graph_of(*network(kind, activation, 8))
        x = torch.randn(2, graph.n_inputs, generator=generator(8), dtype=torch.float64)
        box = Interval(x, x)
        for method in ("ibp", "forward", "crown"):
            lower, upper = output_rows(graph, box, bound_nodes(graph, box, method))
            y = graph.forward(x)
            assert torch.allclose(lower, y, atol=1e-7) and torch.allclose(upper, y, atol=1e-7), (kind, activation)


def test_boxes_of_a_batch_do_not_influence_each_other() -> None:
    for kind, activation in NETWORKS[::3]:
        graph = graph_of(*network(kind, activation, 9))
        box = random_boxes(generator(9), 6, graph.n_inputs)
        for method in ("ibp", "forward", "crown"):
            together = bound_nodes(graph, box, method)
            for b in range(6):
                alone = bound_nodes(graph, Interval(box.lower[b : b + 1], box.upper[b : b + 1]), method)
                for i in graph.bounded:  # elsewhere, rows that one box wants may tighten another's by chance
                    wanted = undecided_entries(graph, i, alone[i])[0]
                    for x, y in zip(alone[i], together[i], strict=True):
                        difference = (x[0] - y[min(b, len(y) - 1)]).flatten()[wanted]
                        assert float(difference.abs().amax() if len(difference) else 0.0) < 1e-8, (kind, method, i)


def test_what_is_fixed_in_a_box_costs_nothing_and_changes_nothing() -> None:
    """Boxes that each vary in other inputs: the same bounds as one by one, over the varying inputs alone."""
    g = generator(91)
    graph = graph_of(*network("product", "relu", 91))
    middle = torch.randn(6, graph.n_inputs, generator=g, dtype=torch.float64)
    radius = torch.zeros_like(middle)
    for b in range(6):
        radius[b, [b % 4, (b + 1 + b // 4) % 4]] = 0.3
    box = Interval(middle - radius, middle + radius)
    reduced, _ = varying_forms(graph, box)
    assert reduced.lower.shape[1] < graph.n_inputs
    together = bound_nodes(graph, box, "forward")[-1]
    points = middle + radius * (2 * torch.rand(400, 6, graph.n_inputs, generator=g, dtype=torch.float64) - 1)
    values = graph.forward(points.flatten(0, 1)).unflatten(0, (400, 6))
    assert bool((values >= together.lower).all()) and bool((values <= together.upper).all())
    for b in range(6):
        alone = bound_nodes(graph, Interval(box.lower[b : b + 1], box.upper[b : b + 1]), "forward")[-1]
        torch.testing.assert_close(alone.lower[0], together.lower[b], rtol=1e-9, atol=1e-9)
