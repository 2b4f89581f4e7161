"""ReLUs bounded over a box: the bounds hold, make the convex hull, and shorten searches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from operator_checks import inside
from random_networks import dense_graph, generator, graph_of, normal
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Parameters, Target, bound, initial_positions, optimise
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.over_box import over_box
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.relu_over_box import ReLUOverBox
from lirpa_verify.search.activation_split import ActivationSplit
from lirpa_verify.search.box_root import over_box_root
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.roots import Roots, Task, root_domains

LATER = Deadline.after(1e6)


def bounds_of(graph: Graph, seed: int) -> list[Interval]:
    """Of the nodes, over a random box."""
    g = generator(seed)
    middle, radius = normal(g, 1, graph.n_inputs), normal(g, 1, graph.n_inputs).abs()
    return bound_nodes(graph, Interval(middle - radius, middle + radius))


def bounded_over_box(graph: Graph, values: list[Interval]) -> Graph:
    found = over_box(graph, values)
    assert found is not None
    return found


def target_of(graph: Graph, rows: Tensor, values: list[Interval]) -> tuple[Target, Parameters]:
    """Every row of the output as a target of its own, with slopes to start from."""
    intervals = {i: values[i] for i in graph.bounded}
    rhs = rows.new_zeros(rows.shape[:2])
    target = Target({graph.output: rows}, rhs, values[0], intervals, None, sizes(graph, values))
    return target, Parameters(initial_positions(graph, intervals, graph.ancestors[graph.output], rows.shape[1]), {})


@pytest.mark.parametrize("activation", ["relu", "leaky"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bounds_of_any_shares_hold_on_the_box(activation: str, dtype: torch.dtype) -> None:
    crossing = 0
    for seed in range(20):
        graph = dense_graph(seed, (5, 7, 6, 3), activation)
        values = bounds_of(graph, seed)
        g, bounded = generator(seed), bounded_over_box(graph, values).to(dtype)
        rows = normal(g, 1, 4, 3)
        target, parameters = target_of(bounded, rows.to(dtype), [Interval(*(e.to(dtype) for e in v)) for v in values])
        random = parameters.map(lambda t: torch.rand(t.shape, generator=g, dtype=torch.float64).to(t))  # noqa: B023
        points = inside(g, values[0], 300)[0]
        exact = graph.forward(points) @ rows[0].mT
        for chosen in (parameters, random):
            assert bool((exact >= bound(bounded, target, chosen)[0]).all()), seed
        first = next(node for node in bounded.nodes if isinstance(node.operator, ReLUOverBox))
        crossing += int((values[first.arguments[0]].lower * values[first.arguments[0]].upper < 0).sum())
    assert crossing > 50


def test_shares_make_the_convex_hull() -> None:
    """A concave function on a box is least at a corner, and so is its hull; the chord over z lies below."""
    better = 0
    for seed in range(10):
        weight, shift = normal(generator(100 + seed), 6, 1), normal(generator(200 + seed), 1)
        graph = graph_of(lambda x: -torch.relu(x @ weight + shift) @ torch.ones(1, 1).double(), (1, 6))  # noqa: B023
        values = bounds_of(graph, seed)
        share = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 6)
        corners = values[0].lower + share * (values[0].upper - values[0].lower)
        tilt = weight.mT * torch.rand(1, 6, generator=generator(300 + seed), dtype=torch.float64)
        least = float((graph.forward(corners) + corners @ tilt.mT).min())
        found = []
        for network in (graph, bounded_over_box(graph, values)):
            target, parameters = target_of(network, torch.ones(1, 1, 1).double(), values)
            tilted = replace(target, start={**target.start, 0: tilt.unsqueeze(0)})
            found.append(float(optimise(network, tilted, parameters, 100, goal=False).margin))
        chord, hull = found
        assert chord <= hull + 1e-6 <= least + 2e-6
        assert hull > least - 0.02 * (1 + abs(least)), seed
        better += hull > chord + 0.05
    assert better >= 3


def test_a_search_is_shorter_and_chosen() -> None:
    graph = dense_graph(5, (16, 60, 1))
    values = bounds_of(graph, 5)
    row, points = torch.ones(1, 1, 1).double(), inside(generator(6), values[0], 2000)[0]
    roots = Roots({graph.output: row}, graph.forward(points).min().reshape(1, 1) - 0.3)
    plain = Task(graph, roots, splittable(graph), tuple(values), sizes(graph, values))
    domains = root_domains(plain, LATER)
    counts = []
    for task, root in ((plain, domains), over_box_root(plain, domains, LATER)):
        search = ActivationSplit(task, lambda x: None, lambda p: None, lambda: None)
        search.start(root)
        assert search.run(Deadline.after(20)).verdict == "unsat"
        counts.append(search.bounded)
    assert counts[0] > 10 * counts[1] > 0


def test_only_small_first_layers_are_bounded_over_the_box() -> None:
    deep = dense_graph(1, (4, 6, 6, 2))
    bounded = bounded_over_box(deep, bounds_of(deep, 1))
    assert [type(node.operator).__name__ for node in bounded.nodes if node.operator.bounded] == ["ReLUOverBox", "ReLU"]
    wide = dense_graph(1, (300, 60, 2))
    assert over_box(wide, bounds_of(wide, 1)) is None
