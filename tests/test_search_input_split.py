"""The input split's verdicts on small networks whose true minimum is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deciders import split_inputs
from random_networks import Row, dense_graph, generator, graph_of, make_property, network, normal, problem_of, samples

from lirpa_verify.bounds.intermediate import Method
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import batch_size as module
from vnnlib import Property

GAP = 1e-4  # of a threshold from the true minimum, relative


def minimum(graph: Graph, row: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> float:
    """The least value of ``row . y`` found by dense sampling and descent: an upper bound, nearly exact."""
    x = samples(generator(0), Interval(lower.unsqueeze(0), upper.unsqueeze(0)), 3000)[:, 0]
    for step in range(60):
        x = x.detach().requires_grad_()
        value = graph.forward(x) @ row
        (gradient,) = torch.autograd.grad(value.sum(), x)
        size = 0.2 * 0.8**step
        x = torch.minimum(torch.maximum(x.detach() - size * (upper - lower) * gradient.sign(), lower), upper)
    return float((graph.forward(x) @ row).min())


@pytest.mark.parametrize("kind", ["dense", "residual", "concat", "product", "conv"])
@pytest.mark.parametrize("activation", ["relu", "sin", "tanh"])
def test_thresholds_around_the_minimum(kind: str, activation: str) -> None:
    """Attained thresholds are never `unsat`; those just out of reach are."""
    for seed in range(2):
        g = generator(seed)
        graph = graph_of(*network(kind, activation, seed))
        lower = normal(g, graph.n_inputs)
        width = torch.rand(graph.n_inputs, generator=g, dtype=torch.float64)
        width[2:] = width[2:] * (0.0 if kind == "conv" else 0.1)
        upper = lower + width
        row = normal(g, graph.n_outputs)
        least = minimum(graph, row, lower, upper)
        terms = {graph.n_inputs + i: float(c) for i, c in enumerate(row)}
        box = (lower.tolist(), upper.tolist())
        scale = GAP * (1 + abs(least))
        for rhs, expected in ((least + scale, "sat"), (least - 100 * scale, "unsat")):
            prop = make_property(graph.n_inputs, graph.n_outputs, [box], [(0, [(terms, rhs)])])
            assert split_inputs(graph, prop).verdict == expected, (kind, activation, seed, rhs)
        attained = make_property(graph.n_inputs, graph.n_outputs, [box], [(0, [(terms, least)])])
        assert split_inputs(graph, attained, seconds=0.2).verdict != "unsat", (kind, activation, seed)


def random_property(seed: int, n: int, m: int, graph: Graph) -> Property:
    """Several boxes and disjuncts, conjunctions, rows on inputs; thresholds near sampled values."""
    random = np.random.default_rng(seed)
    boxes, disjuncts = [], []
    for b in range(int(random.integers(1, 4))):
        middle = random.normal(size=n)
        radius = random.uniform(0, 0.6, size=n) * (random.random(n) > 0.2)
        boxes.append((list(middle - radius), list(middle + radius)))
        points = torch.tensor(random.uniform(middle - radius, middle + radius, size=(300, n)))
        values = torch.cat([points, graph.forward(points)], 1).numpy()
        for _ in range(int(random.integers(1, 4))):
            rows: list[Row] = []
            anchor = values[random.integers(len(values))]
            for _ in range(int(random.integers(1, 4))):
                about = random.choice([*range(n, n + m)] if random.random() < 0.7 else [*range(n + m)], 2, False)
                coefficients = {int(v): float(c) for v, c in zip(about, random.normal(size=2))}
                reached = sum(c * values[:, v] for v, c in coefficients.items())
                at_anchor = sum(c * anchor[v] for v, c in coefficients.items())
                rhs = random.choice([at_anchor, reached.min() - 0.02, np.quantile(reached, 0.02)])
                rows.append((coefficients, float(rhs)))
            disjuncts.append((b, rows))
    return make_property(n, m, boxes, disjuncts)


def sampled_violation(graph: Graph, prop: Property, count: int = 4000) -> bool:
    box = Interval(torch.from_numpy(prop.lower), torch.from_numpy(prop.upper))
    points = samples(generator(1), box, count)
    for b in range(prop.n_boxes):
        margins = problem_of(prop)
        x = points[:, b]
        found = margins.specification.margins(
            x[:, margins.varying], graph.forward(x), torch.full((count,), b, dtype=torch.int64)
        )
        if bool((found <= 0).all(2).any()):
            return True
    return False


@pytest.mark.parametrize("first", [1, 7, 64])
@pytest.mark.parametrize("method", ["crown", "forward", "ibp", None])
def test_random_properties_whatever_the_batch_size_and_the_bounds(
    first: int, method: Method | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts agree with samples; `None` lets the search choose its bounds."""
    monkeypatch.setattr(module, "FIRST_BATCH", first)
    undecided = 0
    for seed, (graph, prop, violated) in enumerate(CASES):
        verdict = split_inputs(graph, prop, 0.5, method).verdict
        assert verdict in (("sat", "timeout") if violated else ("sat", "unsat", "timeout", "unknown")), seed
        assert verdict == EXPECTED.setdefault(seed, verdict) or "timeout" in (verdict, EXPECTED[seed]), seed
        undecided += verdict == "timeout"
    assert undecided <= len(CASES) // 3


def cases(count: int) -> list[tuple[Graph, Property, bool]]:
    found = []
    for seed in range(count):
        graph = dense_graph(seed, (3, 6, 6, 2), "relu" if seed % 3 else "sigmoid")
        prop = random_property(seed, 3, 2, graph)
        found.append((graph, prop, sampled_violation(graph, prop)))
    return found


CASES = cases(14)
EXPECTED: dict[int, str] = {}
