"""Bounds of neurons from trees of splits: they hold, they get as tight as splits can make them, and time ends them."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, network, normal
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import NONE, Splits
from lirpa_verify.bounds.collapse import collapse_below
from lirpa_verify.bounds.intermediate import bound_nodes, undecided_entries
from lirpa_verify.bounds.optimised_nodes import Effort, optimise_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import trees
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.trees import Growth, grown

LATER = Deadline.after(1e6)
KINDS = [("dense", "relu"), ("residual", "leaky"), ("concat", "relu"), ("dense", "tanh"), ("conv", "relu")]


def setting(kind: str, activation: str, seed: int, radius: float = 0.7) -> tuple[Graph, Interval, Tensor]:
    graph = graph_of(*network(kind, activation, seed))
    g = generator(seed)
    middle = normal(g, 1, graph.n_inputs)
    points = middle + radius * (2 * torch.rand(4000, graph.n_inputs, generator=g, dtype=torch.float64) - 1)
    return graph, Interval(middle - radius, middle + radius), points


def assert_hold(values: list[Tensor], bounds: list[Interval], where: Tensor | slice = slice(None)) -> None:
    for value, bound in zip(values, bounds, strict=True):
        assert bool((value[where] >= bound.lower - 1e-9).all()) and bool((value[where] <= bound.upper + 1e-9).all())


def undecided(graph: Graph, values: list[Interval]) -> int:
    return sum(int(undecided_entries(graph, i, values[i]).sum()) for i in graph.tightened)


@pytest.mark.parametrize(("kind", "activation"), KINDS)
@pytest.mark.parametrize("seed", [71, 72, 73])
def test_bounds_hold_and_are_nowhere_wider(kind: str, activation: str, seed: int) -> None:
    graph, box, points = setting(kind, activation, seed)
    values = bound_nodes(graph, box)
    found = grown(graph, values, NONE, Growth(20, LATER))
    assert_hold(graph.evaluate(points), found)
    for before, after in zip(values, found, strict=True):
        assert bool((after.lower >= before.lower).all()) and bool((after.upper <= before.upper).all())


@pytest.mark.parametrize(("kind", "activation"), [("dense", "relu"), ("residual", "leaky"), ("dense", "tanh")])
def test_bounds_hold_where_cuts_do(kind: str, activation: str) -> None:
    graph, box, points = setting(kind, activation, 74)
    values, evaluated = bound_nodes(graph, box), graph.evaluate(points)
    z = splittable(graph).nodes[0]
    sign = torch.zeros_like(values[z].lower)
    sign[..., ::2], sign[..., 1::4] = 1.0, -1.0
    point = ((values[z].lower + values[z].upper) / 2).expand_as(sign)
    kept = torch.zeros(1, sign[0].numel(), dtype=torch.bool)
    kept[:, :2] = True  # of more constraints no point would be left
    sign = torch.where(kept.reshape(sign.shape), sign, 0.0)
    inside = (sign * (evaluated[z] - point) <= 0).flatten(1).all(1)
    assert bool(inside.any()) and not bool(inside.all())
    known: dict[int, Interval] = {
        z: Interval(
            torch.where(sign < 0, point, values[z].lower),
            torch.where(sign > 0, point, values[z].upper),
        )
    }
    cut = bound_nodes(graph, box, known=known)
    assert_hold(evaluated, grown(graph, cut, Splits({z: sign}, {z: point}), Growth(20, LATER)), inside)


def test_neurons_that_depend_on_nothing_undecided_are_constants() -> None:
    """Their intervals may be wide nevertheless: they may come from earlier bounds of what lies below."""
    g = generator(76)
    weight, bias = normal(g, 3, 5), normal(g, 4)
    graph = graph_of(lambda x: torch.relu(x @ weight) @ torch.zeros(5, 4, dtype=torch.float64) + bias, (1, 3), False)
    box = Interval(torch.full((1, 3), -1.0, dtype=torch.float64), torch.full((1, 3), 1.0, dtype=torch.float64))
    values = bound_nodes(graph, box)
    values[-1] = Interval(values[-1].lower - 1, values[-1].upper + 1)
    found = trees.grown_entries(graph, values, torch.arange(4), False, NONE, Growth(5, LATER))
    assert torch.allclose(found.lower.flatten(), bias, atol=1e-6) and torch.allclose(
        found.upper.flatten(), bias, atol=1e-6
    )
    assert bool((found.lower.flatten() <= bias).all()) and bool((found.upper.flatten() >= bias).all())


def test_trees_decide_what_slopes_do_not() -> None:
    graph, box, _ = setting("dense", "relu", 75, radius=0.5)
    values = optimise_nodes(graph, box, bound_nodes(graph, box), Effort(60, LATER))
    few, many = (grown(graph, values, NONE, Growth(splits, LATER)) for splits in (4, 64))
    assert undecided(graph, many) < undecided(graph, values)
    for a, b in zip(many, few, strict=True):
        assert float((a.upper - a.lower).sum()) <= float((b.upper - b.lower).sum()) + 1e-9


def test_leaves_without_undecided_neurons_are_exact_enough() -> None:
    """Each leaf is then a linear program over the box, whose best multipliers a few steps come near to."""
    graph, box, points = setting("dense", "relu", 76, radius=0.3)
    last = max(graph.tightened)
    found = grown(graph, bound_nodes(graph, box), NONE, Growth(200, LATER))[last]
    reached = graph.evaluate(points)[last]
    open_ = (found.lower < 0) & (found.upper > 0)
    reach = (reached.amax(0) - reached.amin(0))[open_[0]]
    assert bool(((found.upper - found.lower)[open_] < 2 * reach + 1e-3).all())


def test_time_that_is_up_leaves_the_bounds_as_they_were() -> None:
    graph, box, points = setting("dense", "relu", 77)
    values = bound_nodes(graph, box)
    for before, after in zip(values, grown(graph, values, NONE, Growth(20, Deadline.after(-1))), strict=True):
        assert torch.equal(before.lower, after.lower) and torch.equal(before.upper, after.upper)
    assert_hold(graph.evaluate(points), values)


def test_what_layers_leave_of_their_shares_of_the_time_is_for_those_above(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, box, _ = setting("residual", "leaky", 78)
    count, given = len(graph.tightened), []

    def quick(graph: Graph, i: int, values: list[Interval], cuts: Splits, growth: Growth) -> Interval:
        given.append(growth.deadline.remaining())
        return values[i]

    monkeypatch.setattr(trees, "grown_node", quick)
    grown(graph, bound_nodes(graph, box), NONE, Growth(1, Deadline.after(1e6)))
    assert count > 1 and given == pytest.approx([1e6 / left for left in range(count, 0, -1)], rel=1e-3)


def test_entries_are_taken_in_parts_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, box, points = setting("dense", "relu", 75, radius=0.5)
    values = bound_nodes(graph, box)
    whole = grown(graph, values, NONE, Growth(8, LATER))
    monkeypatch.setattr(trees, "LEAVES_BYTES", 1)
    parts = grown(graph, values, NONE, Growth(8, LATER))
    assert_hold(graph.evaluate(points), parts)
    assert undecided(graph, parts) < undecided(graph, values)
    assert abs(undecided(graph, parts) - undecided(graph, whole)) <= 2


def test_a_few_neurons_tell_whether_the_others_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, box, _ = setting("dense", "relu", 75, radius=0.5)
    values = bound_nodes(graph, box)
    i = max(graph.tightened, key=lambda j: int(undecided_entries(graph, j, values[j]).sum()))
    monkeypatch.setattr(trees, "SAMPLE", 1)
    taken: list[Tensor] = []

    def unchanged(graph: Graph, values: list[Interval], entries: Tensor, *rest: object) -> Interval:
        taken.append(entries)
        return values[-1]

    monkeypatch.setattr(trees, "grown_entries", unchanged)
    trees.grown_node(graph, i, values[: i + 1], NONE, Growth(8, LATER))
    monkeypatch.setattr(trees, "LEAST_GAINED", -1.0)
    trees.grown_node(graph, i, values[: i + 1], NONE, Growth(8, LATER))
    few, first, others = taken
    assert torch.equal(few, first)
    assert (
        sorted(torch.cat([first, others]).tolist())
        == undecided_entries(graph, i, values[i])[0].nonzero().flatten().tolist()
    )


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_rows_below_a_node_are_its_entries(kind: str, activation: str) -> None:
    graph, box, points = setting(kind, activation, 78)
    values = bound_nodes(graph, box)
    for i in sorted(graph.tightened):
        entries = torch.arange(graph.nodes[i].size)[::2]
        found = collapse_below(Graph(graph.nodes[: i + 1]), values[: i + 1], entries, {})
        if found is None:
            continue
        small, rows = found
        evaluated = small.graph.evaluate(points)
        total = rows.offset + sum(evaluated[j].flatten(1) @ block.mT for j, block in rows.start.items())
        expected = graph.evaluate(points)[i].flatten(1)[:, entries]
        torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-10)
        assert bool((rows.size >= expected.abs().amax(0) - 1e-9).all())
