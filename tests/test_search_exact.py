"""Input splits, activation splits and mixed-integer programs against all activation patterns one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deciders import split_inputs, split_neurons
from exact_networks import exact_value, minimum, rounded_up
from random_networks import Dense, dense_graph, generator, graph_of, make_property, problem_of

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import milp, split_activations
from lirpa_verify.search.roots import make_roots
from vnnlib import Property

SIZES = (3, 4, 3, 2)


def case(seed: int, conjuncts: int) -> tuple[Dense, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A network, rows over its outputs with right-hand sides, and a box; rhs[0] is to be chosen."""
    random = np.random.default_rng(seed)
    module = Dense(generator(seed), SIZES, "relu", 1.5)
    middle = random.normal(size=3)
    radius = random.uniform(0.2, 1.0, size=3) * (random.random(3) > 0.1)
    rows = random.normal(size=(conjuncts, 2))
    inside = graph_of(module, (1, 3)).forward(torch.from_numpy(middle).unsqueeze(0))[0].numpy()
    return module, rows, rows @ inside + random.uniform(0, 0.3, size=conjuncts), middle - radius, middle + radius


def property_of(rows: np.ndarray, rhs: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Property:
    conjunction = [({3 + j: float(c) for j, c in enumerate(row)}, float(r)) for row, r in zip(rows, rhs)]
    return make_property(3, 2, [(lower.tolist(), upper.tolist())], [(0, conjunction)])


def program(graph: Graph, prop: Property) -> milp.Answer:
    problem = problem_of(prop)
    whole = problem.full(torch.stack([problem.box.lower[0], problem.box.upper[0]]))
    values = bound_nodes(graph, Interval(whole[:1], whole[1:]))
    roots = make_roots(graph, problem, 0, torch.tensor([0]))
    return milp.solve(graph, values, roots.start, roots.rhs[0], Deadline.after(20))


@pytest.mark.parametrize("conjuncts", [1, 2])
def test_verdicts_on_both_sides_of_the_minimum(conjuncts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = 0
    for seed in range(6):
        module, rows, rhs, lower, upper = case(seed, conjuncts)
        truth = minimum(module, rows, rhs, lower, upper)
        if truth is None:
            continue
        graph = graph_of(module, (1, 3))
        for shift, possible in ((1e-3, True), (-1e-3, False)):
            rhs[0] = truth[0] + shift
            prop = property_of(rows, rhs, lower, upper)
            assert program(graph, prop).verdict == ("feasible" if possible else "infeasible"), seed
            assert split_inputs(graph, prop, seconds=0.3).verdict != ("unsat" if possible else "sat"), seed
            for beside in (0, 600):  # without and with a mixed-integer program beside the splits
                monkeypatch.setattr(split_activations, "MILP_BINARIES", beside)
                verdict = split_neurons(graph, prop, seconds=0.1 if possible else 20.0).verdict
                assert verdict != "unsat" if possible else verdict == "unsat", (seed, beside)
        decided += 1
    assert decided >= 4


def test_attained_minima_are_never_unsat() -> None:
    """The threshold is the exact value at a point of the box, rounded up: there is a violation, if only one."""
    for seed in range(8):
        module, rows, rhs, lower, upper = case(seed, 1)
        rows[0] = (1.0, 0.0) if seed % 2 else (0.0, -1.0)
        truth = minimum(module, rows, rhs, lower, upper)
        assert truth is not None
        x = np.clip(truth[1], lower, upper)
        value = exact_value(module, x.tolist())
        rhs[0] = rounded_up(value[0] if seed % 2 else -value[1])
        graph, prop = graph_of(module, (1, 3)), property_of(rows, rhs, lower, upper)
        assert program(graph, prop).verdict != "infeasible"
        assert split_neurons(graph, prop, seconds=0.1).verdict != "unsat"
        assert split_inputs(graph, prop, seconds=0.1).verdict != "unsat"


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_programs_of_badly_scaled_networks(scale: float) -> None:
    """The same function with large first and small second weights, or the reverse; also with huge inputs."""
    for seed in range(4):
        module, rows, rhs, lower, upper = case(seed, 1)
        truth = minimum(module, rows, rhs, lower, upper)
        assert truth is not None
        for inputs in (1.0, scale):
            other = Dense(generator(seed), SIZES, "relu", 1.5)
            other.weights[0] = other.weights[0] * scale / inputs
            other.biases[0] = other.biases[0] * scale
            other.weights[1] = other.weights[1] / scale
            graph = graph_of(other, (1, 3))
            for shift, expected in ((1e-3, "feasible"), (-1e-3, "infeasible")):
                prop = property_of(rows, truth[0] + np.array([shift]), lower * inputs, upper * inputs)
                answer = program(graph, prop)
                assert answer.verdict == expected, (seed, inputs, shift)
                if answer.point is not None:
                    value = float(graph.forward(answer.point.unsqueeze(0))[0] @ torch.from_numpy(rows[0]))
                    assert value <= truth[0] + shift + 1e-4


def test_leaky_networks_as_programs() -> None:
    for seed in range(6):
        graph = dense_graph(seed, (2, 5, 5, 1), "leaky")
        axis = torch.linspace(-1, 1, 201, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis)
        least = float(graph.forward(grid).min())
        for shift, expected in ((1e-4, "feasible"), (-0.2, "infeasible")):
            prop = make_property(2, 1, [([-1, -1], [1, 1])], [(0, [({2: 1.0}, least + shift)])])
            assert program_of_two(graph, prop).verdict == expected


def program_of_two(graph: Graph, prop: Property) -> milp.Answer:
    problem = problem_of(prop)
    roots = make_roots(graph, problem, 0, torch.tensor([0]))
    return milp.solve(graph, bound_nodes(graph, problem.box), roots.start, roots.rhs[0], Deadline.after(20))
