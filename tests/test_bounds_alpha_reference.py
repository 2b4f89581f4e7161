"""Optimised bounds against a long run of a plain optimiser, and what holds at every step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from random_networks import generator, graph_of, network, normal, samples

from lirpa_verify.bounds.alpha_crown import (
    MULTIPLIER_RATE,
    Parameters,
    Splits,
    Target,
    bound,
    initial_positions,
    optimise,
    step_units,
)
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.roots import ROOT_STEPS

KINDS = [("dense", "relu"), ("residual", "leaky"), ("conv", "relu"), ("dense", "tanh"), ("residual", "sin")]


def setting(kind: str, activation: str, seed: int) -> tuple[Graph, Target, Parameters, Interval]:
    graph = graph_of(*network(kind, activation, seed))
    g = generator(seed)
    middle = normal(g, 1, graph.n_inputs)
    box = Interval(middle - 0.4, middle + 0.4)
    values = bound_nodes(graph, box)
    rows = normal(g, 1, 1, graph.n_outputs)
    target = Target({graph.output: rows}, torch.zeros(1, 1, dtype=torch.float64), box, dict(enumerate(values)),
                    sizes=sizes(graph, values))  # fmt: skip
    start = initial_positions(graph, target.intervals, graph.ancestors[graph.output], 1)
    return graph, target, Parameters(start, {}), box


def reference(graph: Graph, target: Target, start: Parameters) -> float:
    """The best bound that 1,000 small steps of torch's own Adam find."""
    parameters = start.map(lambda t: t.clone())
    variables = [v.requires_grad_() for v in parameters.tensors()]
    optimiser = torch.optim.Adam(variables, lr=0.02, maximize=True)
    best = -float("inf")
    for _ in range(1000):
        optimiser.zero_grad()
        margin, _ = bound(graph, target, parameters)
        best = max(best, margin.item())
        margin.sum().backward()
        optimiser.step()
        with torch.no_grad():
            for variable in variables:
                variable.clamp_(0, 1)
    return best


@pytest.mark.parametrize(("kind", "activation"), KINDS)
@pytest.mark.parametrize("seed", [71, 72])
def test_default_effort_is_near_the_reference(kind: str, activation: str, seed: int) -> None:
    """Within 1 % of the bound, or of what optimisation gains where that is more."""
    graph, target, start, _ = setting(kind, activation, seed)
    found = optimise(graph, target, start, ROOT_STEPS, goal=False).margin.item()
    best, crown = reference(graph, target, start), bound(graph, target, start)[0].item()
    assert found >= best - 0.01 * max(abs(best), best - crown)


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_every_step_is_sound_and_the_best_is_never_looser(kind: str, activation: str) -> None:
    graph, target, start, box = setting(kind, activation, 73)
    points = samples(generator(73), box, 2000)[:, 0]
    least = float((graph.forward(points) @ target.start[graph.output][0, 0]).min())
    history: list[float] = []

    def watch(margin: torch.Tensor) -> bool:
        history.append(margin.item())
        return True

    optimise(graph, target, start, 40, watch, goal=False)
    crown, _ = bound(graph, target, start)
    assert history[0] == crown.item()
    assert all(after >= before for before, after in pairwise(history))
    assert history[-1] <= least + 1e-9
    parameters = start
    for _ in range(5):
        parameters = optimise(graph, target, parameters, 3, goal=False, rate=1.0).parameters
        assert bound(graph, target, parameters)[0].item() <= least + 1e-9


def test_multipliers_that_are_not_used_yet_take_steps_of_their_own() -> None:
    graph, target, start, _ = setting("dense", "relu", 71)
    node = min(i for i in graph.bounded if i)
    one, point = torch.ones_like(target.intervals[node].lower), target.intervals[node].upper
    used = (torch.arange(one.numel()).reshape(1, *one.shape) % 2).double()
    parameters = Parameters(start.positions, {node: used})
    split = replace(target, splits=Splits({node: one}, {node: point}))
    _, linear = bound(graph, split, parameters, (node,))
    *_, units = step_units(parameters, linear, 1.0, {}, 0.3)
    largest = linear.watched[node].abs().max()
    assert torch.is_tensor(units)
    assert torch.allclose(units, (0.3 - (0.3 - MULTIPLIER_RATE) * used) * largest)
