"""Enclosed networks: what they stand for lies between their functions, and proofs on them hold for the network."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, make_property, network, normal, problem_of, samples
from torch import Tensor

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.enclose import enclose
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.optimised_nodes import Effort, optimise_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval, LinearForms
from lirpa_verify.operators.enclosure import Enclosure
from lirpa_verify.search import enclosed_root
from lirpa_verify.search.cubes import Cubes
from lirpa_verify.search.enclosed_root import enclosed
from lirpa_verify.search.roots import Task, root_domains

LATER = Deadline.after(1e6)
KINDS = [("attention", "relu"), ("attention", "leaky"), ("attention", "tanh"), ("product", "relu"), ("dense", "relu")]


def setting(kind: str, activation: str, seed: int, radius: float) -> tuple[Graph, Interval, Tensor]:
    graph = graph_of(*network(kind, activation, seed))
    g = generator(seed)
    middle = normal(g, 1, graph.n_inputs)
    box = Interval(middle - radius, middle + radius)
    return graph, box, samples(g, box, 400)[:, 0]


@pytest.mark.parametrize(("kind", "activation"), KINDS)
@pytest.mark.parametrize("radius", [1e-6, 0.05, 0.5])
def test_values_lie_between_the_functions_and_bounds_hold(kind: str, activation: str, radius: float) -> None:
    graph, box, points = setting(kind, activation, 71, radius)
    values = bound_nodes(graph, box)
    rows = normal(generator(72), 1, 4, graph.n_outputs)
    if radius < 1e-3:  # all activations are decided
        values = [Interval(v.lower - 0.1, v.upper + 0.1) for v in values]
        values[0] = box
    small = enclose(graph, values, {graph.output: rows}, {})
    assert small is not None
    exact = graph.evaluate(points)
    have: dict[int, Tensor] = {0: points, small.graph.output: exact[-1] @ rows[0].mT}
    have |= {kept.node: exact[z].flatten(1)[:, kept.entries] for z, kept in small.kept.items()}
    enclosures = 0
    for i, node in enumerate(small.graph.nodes):
        if i not in have:
            have[i] = node.operator.forward(*(have[a] for a in node.arguments))
        if isinstance(node.operator, Enclosure):
            enclosures += 1
            low, high = node.operator.interval(*(Interval(have[a], have[a]) for a in node.arguments))
            assert bool((have[i] >= low - 1e-12).all()) and bool((have[i] <= high + 1e-12).all())
    assert enclosures == len(small.kept) + 1
    tighter = optimise_nodes(small.graph, box, small.values, Effort(5, LATER))
    for found in (small.values, tighter):
        for i, value in have.items():
            assert bool((value >= found[i].lower - 1e-12).all()) and bool((value <= found[i].upper + 1e-12).all())


def test_the_rules_hold_for_whatever_lies_between() -> None:
    g = generator(73)
    lower, spread = normal(g, 5, 4), normal(g, 5, 4).abs()
    middle = normal(g, 3, 5)
    box = Interval(middle - 0.5, middle + 0.5)
    x = samples(g, box, 300)  # (count, 3, 5)
    # On x in the box, x @ (lower + spread) + offset exceeds x @ lower - 9 by far.
    operator = Enclosure(lower, torch.full((4,), -9.0).double(), lower + spread, torch.full((4,), 9.0).double(), (2, 3))
    share = torch.rand(300, 3, 4, generator=g, dtype=torch.float64).round()
    y = (1 - share) * (x @ lower - 9) + share * (x @ (lower + spread) + 9)
    parts = tuple(Interval(*(end[:, cut] for end in box)) for cut in (slice(0, 2), slice(2, 5)))
    interval = operator.interval(*parts)
    assert bool((y >= interval.lower - 1e-12).all()) and bool((y <= interval.upper + 1e-12).all())
    rows = normal(g, 3, 6, 4)
    found = operator.backward(rows, parts, None)
    bound = sum(
        torch.einsum("nbi,bri->nbr", x[..., cut], c)
        for c, cut in zip(found.coefficients, (slice(0, 2), slice(2, 5)), strict=True)
        if c is not None
    )
    assert bool((torch.einsum("nbj,brj->nbr", y, rows) >= bound + found.offset - 1e-12).all())
    eye = torch.eye(5, dtype=torch.float64).expand(3, 5, 5)
    zero = torch.zeros(3, 5, dtype=torch.float64)
    forms = tuple(
        LinearForms(eye[..., cut], zero[:, cut] - 0.1, eye[..., cut], zero[:, cut] + 0.1)
        for cut in (slice(0, 2), slice(2, 5))
    )
    composed = operator.compose(forms, parts)
    assert bool((y >= torch.einsum("nbi,bij->nbj", x, composed.lower_weight) + composed.lower_offset - 1e-12).all())
    assert bool((y <= torch.einsum("nbi,bij->nbj", x, composed.upper_weight) + composed.upper_offset + 1e-12).all())


def test_rounding_of_the_functions_is_counted() -> None:
    graph, box, _ = setting("attention", "relu", 74, 0.3)
    small = enclose(graph, bound_nodes(graph, box), {graph.output: normal(generator(74), 1, 2, 3)}, {})
    assert small is not None
    for node in small.graph.nodes:
        if isinstance(node.operator, Enclosure):
            operator = node.operator
            reach = [torch.maximum(*(end.abs() for end in small.values[a])) for a in node.arguments]
            sizes = operator.term_sizes(*reach)
            assert bool((sizes >= (operator.lower_offset.abs())).all())


def test_what_cannot_be_split_or_is_too_large_stays() -> None:
    graph, box, _ = setting("attention", "relu", 75, 0.3)
    rows = {graph.output: normal(generator(75), 1, 2, 3)}
    assert enclose(graph, bound_nodes(graph, box), rows, {}, largest=5) is None
    graph, box, _ = setting("attention", "relu", 75, 0.0)
    assert enclose(graph, bound_nodes(graph, box), rows, {}) is None


def verdict_of(kind: str, seed: int, below: float, wait: float) -> str:
    """On the enclosed network, of two conjuncts that say the same; what points reach is possible."""
    graph, box, points = setting(kind, "relu", seed, 0.12)
    y = graph.forward(points)[:, 0]
    limit = float(y.min() - below * (y.max() - y.min()))
    n = graph.n_inputs
    violation = [({n: 1.0}, limit), ({n: 2.0}, 2 * limit)]
    prop = make_property(n, graph.n_outputs, [(box.lower[0].tolist(), box.upper[0].tolist())], [(0, violation)])
    problem = problem_of(prop)
    disjuncts = torch.tensor([0])
    task = Task.of(graph, problem, 0, disjuncts, bound_nodes(graph, problem.box))
    small = enclosed(task, disjuncts, root_domains(task, LATER, 0), LATER)
    if small is None or not len(small.domains.open_index):
        return "root"
    search = Cubes(problem, 0, Deadline.after(wait), lambda found: None, lambda progress: None, lambda: None)
    return search.solve(small).verdict


@pytest.mark.parametrize("kind", ["attention", "gated"])
def test_what_points_reach_is_never_proved_impossible(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclosed_root, "TOLERATED", 100.0)
    assert verdict_of(kind, 76, -0.02, 1.0) != "unsat"


def test_splits_prove_more_than_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclosed_root, "TOLERATED", 100.0)
    assert verdict_of("gated", 81, 0.1, 20.0) == "unsat"


@pytest.mark.parametrize(("kind", "splits_narrow_factors"), [("gated", False), ("product", True), ("shares", True)])
def test_networks_whose_splits_narrow_factors_are_not_enclosed(
    kind: str, splits_narrow_factors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enclosed_root, "TOLERATED", 100.0)
    assert (verdict_of(kind, 81, -0.02, 0.1) == "root") == splits_narrow_factors


def test_bounds_in_parts_hold() -> None:
    """A part of the box that splits confine: its bound is below all points of the part."""
    graph, box, points = setting("attention", "relu", 77, 0.4)
    rows = normal(generator(77), 1, 2, 3)
    small = enclose(graph, bound_nodes(graph, box), {graph.output: rows}, {})
    assert small is not None
    [first, *_] = small.kept
    kept = small.kept[first]
    inside = graph.evaluate(points)[first].flatten(1)[:, kept.entries[0]] >= 0
    known = dict(enumerate(small.values))
    lower = known[kept.node].lower.clone()
    lower[:, 0] = 0.0
    known[kept.node] = Interval(lower, known[kept.node].upper)
    hot = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    bound = backward(small.graph, {small.graph.output: hot}, known).lower(box)
    least = (graph.forward(points[inside]) @ rows[0].mT).amin(0)
    assert int(inside.sum()) > 10
    assert bool((bound <= least + 1e-12).all())


def test_rounding_of_terms_that_cancel_is_counted_in_intervals() -> None:
    weight = torch.tensor([[1e8], [-1e8]], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    node = Node(Enclosure(weight, zero, weight, zero, (2,)), (0,), (1,), "difference")
    point = torch.full((1, 2), 0.1, dtype=torch.float64)
    low, high = interval_step(node, [Interval(point, point)])
    assert float(low) < -1e7 * 1e-15 and float(high) > 1e7 * 1e-15
