"""Estimates from parts of the inputs: right on average, as good a guide as all inputs, and never a proof."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_networks import generator, make_property, normal, problem_of
from test_search_activation_split import search_of

from lirpa_verify.bounds import input_parts as module
from lirpa_verify.bounds.alpha_crown import Parameters, Target, bound, initial_positions, optimise, sampled
from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.input_parts import input_parts, lacking, scattered
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.constant import Constant
from lirpa_verify.operators.joint_dense import JointDense
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.search.look_ahead import choose
from lirpa_verify.search.roots import Task, root_domains

LATER = Deadline.after(1e6)
INPUTS, WIDTH, OUTPUTS = 800, 24, 3


def dense(g: torch.Generator, inputs: int, outputs: int) -> JointDense:
    weight = normal(g, inputs, outputs) / inputs**0.5
    return JointDense(weight, 0.3 * normal(g, outputs), torch.zeros(outputs, dtype=torch.float64), (inputs,))


def wide(seed: int) -> tuple[Graph, Interval, list[Interval]]:
    """A collapsed network of many inputs and few neurons, its box, and bounds of its nodes."""
    g = generator(seed)
    sizes = [INPUTS, WIDTH, WIDTH, WIDTH, WIDTH, OUTPUTS]
    operators = [dense(g, INPUTS, WIDTH), ReLU(), dense(g, WIDTH, WIDTH), ReLU(), dense(g, WIDTH, OUTPUTS)]
    given = Node(Constant(torch.zeros(INPUTS, dtype=torch.float64)), (), (INPUTS,), "input")
    graph = Graph((given, *(Node(o, (k,), (sizes[k + 1],), "") for k, o in enumerate(operators))))
    middle = normal(g, 1, INPUTS)
    box = Interval(middle - 0.05, middle + 0.05 * torch.rand(1, INPUTS, generator=g, dtype=torch.float64))
    small = collapse(graph, bound_nodes(graph, box))
    assert small is not None
    return small.graph, box, small.values


def target_of(graph: Graph, box: Interval, values: list[Interval]) -> tuple[Target, Parameters]:
    rows = torch.eye(OUTPUTS, dtype=torch.float64).unsqueeze(0)
    intervals = dict(enumerate(values))
    target = Target({graph.output: rows}, rows.new_zeros(1, OUTPUTS), box, intervals, None, None)
    return target, Parameters(initial_positions(graph, intervals, graph.ancestors[graph.output], OUTPUTS), {})


@pytest.mark.parametrize(("size", "count"), [(800, 8), (803, 8), (7, 3)])
def test_every_input_is_in_one_part(size: int, count: int) -> None:
    parts = scattered(size, count)
    assert sorted(torch.cat(parts).tolist()) == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("direct", [False, True])
def test_estimates_are_right_on_average_and_exact_where_they_start(direct: bool) -> None:
    target, parameters = target_of(*wide(1))
    graph = wide(1)[0]
    if direct:  # what is bounded depends on the inputs beside the network too
        target = replace(target, start={**target.start, 0: normal(generator(7), 1, OUTPUTS, INPUTS)})
    parts = input_parts(graph, target.box)
    assert len(parts) == 8
    margin, linear = bound(graph, target, parameters)
    estimates = torch.stack([bound(p.graph, sampled(target, p), parameters)[0] for p in parts])
    torch.testing.assert_close(estimates.mean(0), margin, rtol=1e-4, atol=1e-5)
    for less, estimate in zip(lacking(parts, linear.weight, target.box), estimates, strict=True):
        torch.testing.assert_close(estimate + less, margin, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_steps_on_parts_gain_as_much(seed: int) -> None:
    graph, box, values = wide(seed)
    target, start = target_of(graph, box, values)
    before, _ = bound(graph, target, start)
    whole = optimise(graph, target, start, 20, goal=False).margin
    found = optimise(graph, target, start, 20, goal=False, parts=input_parts(graph, box))
    after, _ = bound(graph, target, found.parameters)
    assert float((after - before).sum()) >= 0.9 * float((whole - before).sum()) > 0


def test_none_where_inputs_are_few_or_not_what_costs_most(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, box, _ = wide(5)
    monkeypatch.setattr(module, "LEAST_INPUTS", INPUTS)
    assert input_parts(graph, box) == ()
    monkeypatch.setattr(module, "LEAST_INPUTS", 4)
    g = generator(5)
    given = Node(Constant(torch.zeros(8, dtype=torch.float64)), (), (8,), "input")
    sizes = [8, WIDTH, WIDTH, OUTPUTS]
    operators = [dense(g, 8, WIDTH), ReLU(), dense(g, WIDTH, OUTPUTS)]
    few = Graph((given, *(Node(o, (k,), (sizes[k + 1],), "") for k, o in enumerate(operators))))
    narrow = Interval(box.lower[:, :8], box.upper[:, :8])
    assert len(input_parts(few, narrow)) == 2
    deep = Graph((*few.nodes, Node(dense(g, OUTPUTS, 200), (3,), (200,), "")))
    assert input_parts(deep, narrow) == ()


def test_a_search_guided_by_parts_claims_what_all_inputs_confirm() -> None:
    graph, box, values = wide(6)
    g = generator(6)
    ends = (box.lower[0].tolist(), box.upper[0].tolist())
    low = bound(graph, *target_of(graph, box, values))[0][0]
    rows = [({INPUTS + j: 1.0}, float(low[j]) + 0.02 * float(torch.rand(1, generator=g))) for j in range(OUTPUTS)]
    problem = problem_of(make_property(INPUTS, OUTPUTS, [ends], [(0, [row]) for row in rows]))
    task = Task.of(graph, problem, 0, torch.arange(OUTPUTS), values)
    search = search_of(task)
    assert search.parts and search.glance.graph.n_inputs < INPUTS
    search.start(root_domains(task, LATER, 0))
    domains = search.stack.pop(OUTPUTS)
    children = search.bound_children(domains, choose(search.glance, domains), LATER)
    exact = children.double()
    sure, _ = bound(task.graph, task.target(exact), exact.parameters())
    parents = search.roots[children.root]
    assert bool((children.margin <= torch.maximum(sure[:, 0], parents) + 1e-4).all())
    assert bool((sure[children.margin > 0] > 0).all())
