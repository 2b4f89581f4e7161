"""Thresholds that a point of the box attains exactly: no bound may claim more, however badly scaled the network.

The point's outputs are computed in rational arithmetic and rounded up, so the threshold is met; boxes
are the point itself or tiny, where relaxations cost nothing and only rounding separates bound and truth.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from operator import mul

import pytest
import torch
from deciders import restricted, split_inputs, split_neurons
from exact_networks import exact_value, rounded_up
from random_networks import Dense, generator, graph_of, make_property, normal, problem_of

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect
from lirpa_verify.bounds.sizes import sizes, weighed
from lirpa_verify.deadline import Deadline
from lirpa_verify.operators.base import Interval, Slopes, lines_backward
from lirpa_verify.operators.planes import Planes, planes_backward
from lirpa_verify.operators.sign import Sign
from lirpa_verify.search import milp
from lirpa_verify.search.bound_boxes import bound_boxes, bound_rows, interval_rows
from lirpa_verify.search.input_split import initial_boxes
from lirpa_verify.search.roots import Task, root_domains
from lirpa_verify.search.split_domains import feasible

SIZES = (3, 8, 8, 1)


def plain(module: Dense, g: torch.Generator) -> None:
    """Nothing unusual."""


def large_then_small(module: Dense, g: torch.Generator) -> None:
    for k, scale in enumerate((1e6, 1e-12, 1e6)):
        module.weights[k] = module.weights[k] * scale
    module.biases[0], module.biases[1] = module.biases[0] * 1e6, module.biases[1] * 1e-6


def far_inputs(module: Dense, g: torch.Generator) -> None:
    """Inputs near 1e6 (added by the test) less their weighted middle."""
    module.biases[0] = module.biases[0] - 1e6 * module.weights[0].sum(0)


def cancelling_neurons(module: Dense, g: torch.Generator) -> None:
    first, second = normal(g, 3, 4, scale=1e6), normal(g, 4, 8, scale=1e3)
    offset = module.biases[0][:4] + 1e6
    module.weights[0], module.biases[0] = torch.cat([first, first], 1), torch.cat([offset, offset - 0.5])
    module.weights[1] = torch.cat([second, -second])


def cancelling_offsets(module: Dense, g: torch.Generator) -> None:
    module.biases[1] = module.biases[1] + 1e8
    module.biases[2] = module.biases[2] - 1e8 * module.weights[2].sum(0)


def large_everywhere(module: Dense, g: torch.Generator) -> None:
    module.weights = [w * 1e3 for w in module.weights]


STYLES = [plain, large_then_small, far_inputs, cancelling_neurons, cancelling_offsets, large_everywhere]


@pytest.mark.parametrize("radius", [0.0, 1e-12, 1e-6])
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_attained_thresholds_stay_open(style: Callable[[Dense, torch.Generator], None], radius: float) -> None:
    for seed in range(3):
        module, g = Dense(generator(seed), SIZES, "relu"), generator(100 + seed)
        style(module, g)
        x = normal(g, 3) + (1e6 if style is far_inputs else 0.0)
        value = exact_value(module, x.tolist())[0]
        graph = graph_of(module, (1, 3))
        box = (x.tolist(), (x + radius * (1 + x.abs())).tolist())
        for sign in (1, -1):
            prop = make_property(3, 1, [box], [(0, [({3: float(sign)}, rounded_up(sign * value))])])
            small, problem = restricted(graph, prop)
            boxes = initial_boxes(problem)
            for method in ("ibp", "forward", "crown"):
                values = bound_nodes(small, boxes.interval, method)
                for rows in (bound_rows, interval_rows):
                    bounds = rows(small, problem.specification, boxes, values)
                    assert not bool(bounds.closed().any()), (seed, method, rows.__name__)
                    assert float(bounds.linear.lower(boxes.interval).amax()) <= 0
            task = Task.of(small, problem, 0, torch.tensor([0]), values)
            roots, domains = task.roots, root_domains(task, Deadline.after(20))
            assert bool(feasible(domains).all()) and float(domains.margin) <= 0, seed
            answer = milp.solve(small, values, roots.start, roots.rhs[0], Deadline.after(20))
            assert answer.verdict != "infeasible", seed


def test_intervals_hold_exactly() -> None:
    """Against rational arithmetic, for sums that cancel in the first matrix product."""
    for seed in range(10):
        module = Dense(generator(seed), (6, 5), "relu")
        module.weights[0] = module.weights[0] * 1e7
        x = normal(generator(seed), 6, scale=1e3)
        x[3:] = x[:3]
        module.weights[0][3:] = -module.weights[0][:3] + normal(generator(seed + 50), 3, 5, scale=1e-8)
        exact = exact_value(module, x.tolist())
        graph = graph_of(module, (1, 6))
        values = [Interval(x.unsqueeze(0), x.unsqueeze(0))]
        for node in graph.nodes[1:]:
            values.append(interval_step(node, values))
        for value, lower, upper in zip(exact, values[-1].lower.flatten().tolist(), values[-1].upper.flatten().tolist()):
            assert lower <= value <= upper, seed


def test_disjoint_bounds_are_not_taken_for_an_empty_set() -> None:
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0 + 1e-6, float("nan")]])
    lower, upper = intersect(Interval(one, one), Interval(other, other))
    assert lower.tolist() == one.tolist()
    assert torch.equal(upper[0, :1], other[0, :1]) and float(upper[0, 1]) == 0.0


def test_sizes_of_unbounded_nodes_spoil_only_the_rows_that_use_them() -> None:
    rows = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)
    size = torch.tensor([[float("inf"), 2.0]], dtype=torch.float64)
    found = weighed(rows, size)[0]
    assert float(found[0]) == 2.0 and float(found[1]) > 1e20
    graph = graph_of(Dense(generator(0), SIZES, "relu"), (1, 3))
    box = Interval(torch.full((1, 3), -1.0, dtype=torch.float64), torch.full((1, 3), 1.0, dtype=torch.float64))
    for i, found in sizes(graph, bound_nodes(graph, box)).items():
        assert found.shape[1:] == graph.nodes[i].shape and bool((found >= 0).all())


@pytest.mark.parametrize("masked", [-1e9, torch.finfo(torch.float32).min])
def test_what_masks_add_to_attention_costs_nothing_elsewhere(masked: float) -> None:
    """The largest number that masks, like minus infinity, leaves no attention, and no rounding of what is attended."""
    g = generator(3)
    weights = [[normal(g, 4, 4, scale=0.5) for _ in range(3)] for _ in range(2)]

    def margin(value: float) -> float:
        mask = torch.zeros(5, 5, dtype=torch.float64).masked_fill(torch.ones(5, 5).triu(1).bool(), value)

        def attention(x: torch.Tensor) -> torch.Tensor:
            x = x.reshape(5, 4)
            for q, k, v in weights:
                x = x + torch.softmax((x @ q) @ (x @ k).T + mask, -1) @ (x @ v)
            return x[-1:]

        graph, middle = graph_of(attention, (1, 20)), normal(generator(1), 20)
        box = ((middle - 0.05).tolist(), (middle + 0.05).tolist())
        problem = problem_of(make_property(20, 4, [box], [(0, [({20: 1.0}, 0.0)])]))
        found = float(bound_boxes(graph, problem.specification, initial_boxes(problem), "crown").margin)
        points = middle + 0.1 * torch.rand(500, 20, generator=g, dtype=torch.float64) - 0.05
        assert found <= float(graph.forward(points)[:, 0].min())
        return found

    assert margin(masked) > margin(-1e3) - 0.5


def test_sizes_count_as_they_are_unless_infinite() -> None:
    rows, size = torch.tensor([[[0.0, 0.5]]], dtype=torch.float64), torch.tensor([[1e300, 1e38]], dtype=torch.float64)
    assert float(weighed(rows, size)) == pytest.approx(5e37)
    assert float(weighed(rows, 1e-38 * size)) == pytest.approx(0.5)


def test_a_steep_line_leaves_the_other_one_exact() -> None:
    """Below a step close to the end of the interval the line is steep, above it is not: each row meets one of them."""
    interval = Interval(torch.tensor([[-1.0]]).double(), torch.tensor([[1e-12]]).double())
    lines = Sign().lines(interval, Slopes(*Sign().slope_range(interval)[1]))
    assert float(lines.lower) > 1e11 and float(lines.upper) <= 2
    rows = torch.tensor([[[-1.0], [3.0]]]).double()
    (coefficients,) = lines_backward(rows, lines).coefficients
    assert coefficients is not None
    assert coefficients.flatten().tolist() == [-float(lines.upper), 3 * float(lines.lower)]
    planes = Planes((lines.lower,), lines.lower_offset, (lines.upper,), lines.upper_offset)
    (found,) = planes_backward(rows, planes).coefficients
    assert found is not None and torch.equal(found, coefficients)


class Affine(Dense):
    """Matrices in a row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for weight, bias in zip(self.weights, self.biases):
            x = x @ weight + bias
        return x


@pytest.mark.parametrize("seed", range(6))
def test_matrices_whose_product_cancels_stay_apart(seed: int) -> None:
    """Its coefficients would be what rounding left of them, relative to terms that nobody sees afterwards."""
    g = generator(seed)
    module = Affine(g, (3, 8, 8, 1), "relu")
    large, second = normal(g, 3, 4, scale=1e8), normal(g, 4, 8, scale=1e3)
    module.weights[0] = torch.cat([large, torch.nextafter(large, large + 1)], 1)
    module.weights[1] = torch.cat([second, -second])
    module.biases[0][4:] = module.biases[0][:4]
    x = normal(g, 3)
    values = [Fraction(v) for v in x.tolist()]
    for weight, bias in zip(module.weights, module.biases):
        columns = [[Fraction(w) for w in column] for column in weight.T.tolist()]
        values = [sum(map(mul, column, values), Fraction(b)) for column, b in zip(columns, bias.tolist())]
    graph = graph_of(module, (1, 3))
    for sign in (1, -1):
        box, limit = (x.tolist(), (x + 1e-9).tolist()), rounded_up(sign * values[0])
        prop = make_property(3, 1, [box], [(0, [({3: float(sign)}, limit)])])
        for decide in (split_inputs, split_neurons):
            assert decide(graph, prop, seconds=0.05).verdict != "unsat"
