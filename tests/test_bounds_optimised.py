"""Optimised slopes, multipliers of splits and mixed conjunctions: sound at every step, never looser than the start."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, network, random_boxes, samples
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Parameters, Splits, Target, bound, initial_positions, optimise
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.optimised_nodes import Effort, optimise_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import splittable

CASES = [
    ("dense", "relu"),
    ("residual", "leaky"),
    ("concat", "tanh"),
    ("product", "sigmoid"),
    ("conv", "relu"),
    ("dense", "sin"),
]


def target_of(graph: Graph, box: Interval, rows: int, seed: int) -> Target:
    """Random rows over the outputs; everything batched over the boxes."""
    batch = len(box.lower)
    start = torch.randn(batch, rows, graph.n_outputs, generator=generator(seed), dtype=torch.float64)
    intervals = {
        i: Interval(*(end.expand(batch, *end.shape[1:]) for end in interval))
        for i, interval in enumerate(bound_nodes(graph, box))
    }
    return Target({graph.output: start}, torch.zeros(batch, rows, dtype=torch.float64), box, intervals)


def least_values(graph: Graph, target: Target, points: Tensor, keep: Tensor | None = None) -> Tensor:
    """(batch, rows): the least value of each row at points (count, batch, inputs), where wanted."""
    y = graph.forward(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    values = (y.unsqueeze(2) * target.start[graph.output]).sum(3)  # (count, batch, rows)
    if keep is not None:
        values = values.masked_fill(~keep.unsqueeze(2), torch.inf)
    return values.amin(0)


@pytest.mark.parametrize(("kind", "activation"), CASES)
def test_every_step_is_sound_and_the_best_is_kept(kind: str, activation: str) -> None:
    graph = graph_of(*network(kind, activation, 11))
    g = generator(11)
    box = random_boxes(g, 5, graph.n_inputs)
    target = target_of(graph, box, 3, 11)
    least = least_values(graph, target, samples(g, box, 400))
    seen: list[Tensor] = []

    def proceed(margin: Tensor) -> bool:
        seen.append(margin.clone())
        return True

    positions = initial_positions(graph, target.intervals, graph.ancestors[graph.output], 3)
    first, _ = bound(graph, target, Parameters(positions, {}))
    for goal in (True, False):
        seen.clear()
        best = optimise(graph, target, Parameters(positions, {}), 12, proceed, goal=goal)
        for margin in [first, *seen, best.margin]:
            assert bool((margin <= least + 1e-9 * (1 + least.abs())).all())
        assert all(bool((b >= a).all()) for a, b in zip(seen, seen[1:]))  # noqa: RUF007
        assert bool((best.margin >= first - 1e-12 * (1 + first.abs())).all())
        again, linear = bound(graph, target, best.parameters)
        assert torch.allclose(again, best.margin, rtol=1e-9, atol=1e-9)
        assert bool((linear.lower(box) >= again).all())


@pytest.mark.parametrize(("kind", "activation"), CASES)
def test_any_slopes_and_multipliers_are_sound_on_the_sub_domain(kind: str, activation: str) -> None:
    """Random splits, random parameters: every sampled point that satisfies the splits is above the bound."""
    graph = graph_of(*network(kind, activation, 12))
    g = generator(12)
    box = random_boxes(g, 6, graph.n_inputs)
    target = target_of(graph, box, 2, 12)
    points = samples(g, box, 600)
    values = [v.unflatten(0, points.shape[:2]) for v in graph.evaluate(points.flatten(0, 1))]
    keep = torch.ones(points.shape[:2], dtype=torch.bool)
    sign, point, multipliers, intervals = {}, {}, {}, dict(target.intervals)
    for z in splittable(graph).nodes:
        lower, upper = target.intervals[z]
        sign[z] = torch.randint(-4, 5, lower.shape, generator=g).clamp(-1, 1).double()
        sign[z] = sign[z] * (torch.rand(lower.shape, generator=g) < 0.15)
        point[z] = (lower + (upper - lower) * torch.rand(lower.shape, generator=g, dtype=torch.float64)) * (
            sign[z] != 0
        )
        below, above = torch.where(sign[z] < 0, point[z], lower), torch.where(sign[z] > 0, point[z], upper)
        intervals[z] = Interval(below, above)
        multipliers[z] = torch.rand(6, 2, *lower.shape[1:], generator=g, dtype=torch.float64) * 3
        keep &= (sign[z] * (values[z] - point[z]) <= 0).flatten(2).all(2)
    split = Target(target.start, target.rhs, box, intervals, Splits(sign, point))
    least = least_values(graph, target, points, keep)
    positions = initial_positions(graph, intervals, graph.ancestors[graph.output], 2)
    for scale in (0.0, 1.0, 30.0):
        random = Parameters(positions, {z: m * scale for z, m in multipliers.items()})
        random = random.map(lambda t: t)
        for i, slopes in random.positions.items():
            random.positions[i] = type(slopes)(*(torch.rand(t.shape, generator=g, dtype=t.dtype) for t in slopes))
        margin, _ = bound(graph, split, random)
        assert bool((margin <= least + 1e-9 * (1 + margin.abs())).all()), scale
    best = optimise(graph, split, Parameters(positions, multipliers), 8)
    assert bool((best.margin <= least + 1e-9 * (1 + best.margin.abs())).all())


def test_mixed_conjunctions_bound_what_all_rows_together_allow() -> None:
    graph = graph_of(*network("dense", "relu", 13))
    g = generator(13)
    box = random_boxes(g, 4, graph.n_inputs)
    target = target_of(graph, box, 3, 13)
    points = samples(g, box, 500)
    y = graph.forward(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    rows = (y.unsqueeze(2) * target.start[graph.output]).sum(3)
    largest = rows.amax(2).amin(0)  # the best that all rows can be at once
    positions = initial_positions(graph, target.intervals, graph.ancestors[graph.output], 1)
    weights = torch.full((4, 1, 3), 1 / 3, dtype=torch.float64)
    best = optimise(graph, target, Parameters(positions, {}, weights), 15)
    assert bool((best.margin[:, 0] <= largest + 1e-9).all())


@pytest.mark.parametrize(("kind", "activation"), CASES)
def test_optimised_intermediate_bounds_enclose_and_tighten(kind: str, activation: str) -> None:
    graph = graph_of(*network(kind, activation, 14))
    g = generator(14)
    for k in range(3):
        box = random_boxes(g, 1, graph.n_inputs)
        values = bound_nodes(graph, box)
        better = optimise_nodes(graph, box, values, Effort(6, Deadline.after(60)))
        for i, value in enumerate(graph.evaluate(samples(g, box, 300)[:, 0])):
            slack = 1e-9 * (1 + value.abs())
            assert bool((value >= better[i].lower - slack).all()) and bool((value <= better[i].upper + slack).all()), (
                k,
                i,
            )
            if i:
                assert bool((better[i].upper - better[i].lower <= values[i].upper - values[i].lower + 1e-12).all())


def test_a_passed_deadline_leaves_what_is_known() -> None:
    graph = graph_of(*network("dense", "relu", 15))
    box = random_boxes(generator(15), 1, graph.n_inputs)
    ibp = bound_nodes(graph, box, "ibp")
    late = bound_nodes(graph, box, until=Deadline.after(-1))
    assert all(bool((a.lower >= b.lower - 1e-12).all()) for a, b in zip(late, ibp, strict=True))
    better = optimise_nodes(graph, box, ibp, Effort(6, Deadline.after(-1)))
    assert all(torch.equal(a.lower, b.lower) for a, b in zip(better, ibp, strict=True))
