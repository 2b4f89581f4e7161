"""The searches alone, without an attack; a witness is what satisfies the property in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from random_networks import problem_of

from lirpa_verify.bounds.intermediate import Method
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.restrict import restrict
from lirpa_verify.search.input_split import InputSplit
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.split_activations import split_activations
from lirpa_verify.verdict import Result, Witness
from vnnlib import Property

Decide = Callable[..., Result]


def restricted(graph: Graph, prop: Property) -> tuple[Graph, Problem]:
    problem = problem_of(prop)
    fixed = torch.ones(prop.n_inputs, dtype=torch.bool)
    fixed[problem.varying] = False
    return restrict(graph, fixed, problem.values), problem


def judge(graph: Graph, prop: Property, problem: Problem) -> Callable[[torch.Tensor], Witness | None]:
    def confirm(points: torch.Tensor) -> Witness | None:
        for x in problem.full(points.double()):
            y = graph.forward(x.unsqueeze(0))[0]
            if prop.evaluate(x.numpy(), y.numpy()):
                return Witness(x.numpy(), y.numpy())
        return None

    return confirm


def split_inputs(graph: Graph, prop: Property, seconds: float = 20.0, method: Method | None = "crown") -> Result:
    small, problem = restricted(graph, prop)
    confirm = judge(graph, prop, problem)
    latest = Deadline.after(seconds)
    return InputSplit.of(small, problem, latest, confirm, lambda p: None, method, lambda: None).run(latest)


def split_neurons(graph: Graph, prop: Property, seconds: float = 20.0) -> Result:
    small, problem = restricted(graph, prop)
    confirm = judge(graph, prop, problem)
    return split_activations(small, problem, Deadline.after(seconds), confirm, lambda p: None, lambda: None)
