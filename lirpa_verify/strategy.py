"""What to try, in which order, with how much of the time: decided from the network and the property.

A short attack comes first, then bounds over the whole input set, then branch and bound; the attack
goes on beside the proof with a share of the time until one of them succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lirpa_verify.attack.gradient import Attack
from lirpa_verify.bounds.crown import backward, one_hot_rows, with_negated
from lirpa_verify.bounds.intermediate import Method, bound_nodes
from lirpa_verify.bounds.rounding import intersect, outward
from lirpa_verify.deadline import Deadline
from lirpa_verify.errors import PropertyMismatch
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.restrict import restrict
from lirpa_verify.network import Network
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.activation_split import activation_split, make_roots, root_domains, splittable
from lirpa_verify.search.input_split import input_split
from lirpa_verify.search.specification import Problem, enclosing_box, make_problem
from lirpa_verify.verdict import Progress, Result, Witness
from lirpa_verify.witness import Replayer, confirm
from vnnlib import Property

ATTACK_SHARE = 0.1  # of the time a proof takes goes to the attack that runs beside it
INPUT_SPLIT_LIMIT = 12  # varying inputs up to which boxes are split
CANDIDATES = 8  # how many candidate points of a batch are replayed


@dataclass(frozen=True)
class Options:
    method: str = "auto"
    device: str = "auto"
    seed: int = 0


@dataclass
class Judge:
    """Replays candidates with onnxruntime; the session is made for the first one."""

    network: Network
    prop: Property
    problem: Problem
    replayer: Replayer | None = None

    def __call__(self, points: Tensor) -> Witness | None:
        if self.replayer is None:
            self.replayer = Replayer(self.network.model_path)
        full = self.problem.full(points[:CANDIDATES].detach().cpu().double()).numpy()
        for x in full:
            witness = confirm(self.replayer, self.prop, x)
            if witness is not None:
                return witness
        return None


@dataclass
class Interlude:
    """Lets the attack continue beside a proof, with its share of the time."""

    attack: Attack
    deadline: Deadline
    started: float = field(default_factory=time.monotonic)

    def __call__(self) -> Witness | None:
        elapsed = time.monotonic() - self.started
        return self.attack.advance(self.deadline) if self.attack.spent < ATTACK_SHARE * elapsed else None


def verify(
    network: Network, prop: Property, deadline: Deadline, options: Options, report: Callable[[Progress], None]
) -> Result:
    """Decides whether the network can violate the property.

    Args:
        network: the loaded model.
        prop: the set of violations.
        deadline: an answer is returned before it.
        options: method, device and seed.
        report: takes news for the user.

    Raises:
        PropertyMismatch: numbers of inputs or outputs differ.
    """
    check_fit(network, prop)
    if prop.n_disjuncts == 0:
        return Result("unsat", reason="the property is contradictory: no point can satisfy it")
    device = pick_device(options.device)
    problem, graph = prepare(network, prop)
    judge = Judge(network, prop, problem)
    generator = torch.Generator().manual_seed(options.seed)
    attack = Attack(graph.to(torch.float32, device), on(problem, torch.float32, device), judge, generator)
    report(Progress("attack"))
    witness = attack.advance(deadline)
    if witness is not None:
        return Result("sat", witness, "attack")
    interlude = Interlude(attack, deadline)
    if options.method == "activation-split" or (options.method == "auto" and graph.n_inputs > INPUT_SPLIT_LIMIT):
        result = split_activations(
            graph.to(torch.float64, device), on(problem, torch.float64, device), deadline, report, interlude
        )
        if result.verdict != "unknown":
            return result
    method: Method = "forward" if options.method == "forward" else "ibp" if options.method == "ibp" else "crown"
    graph, problem = graph.to(torch.float64, device), on(problem, torch.float64, device)
    return input_split(graph, problem, deadline, judge, report, method, interlude)


def split_activations(
    graph: Graph,
    problem: Problem,
    deadline: Deadline,
    report: Callable[[Progress], None],
    interlude: Interlude,
) -> Result:
    """Closes the disjuncts of every box by splitting activations."""
    layout = splittable(graph)
    for b in range(len(problem.box.lower)):
        box = Interval(problem.box.lower[b : b + 1], problem.box.upper[b : b + 1])
        report(Progress("bounds"))
        with torch.no_grad():
            values = bound_nodes(graph, box)
        disjuncts = (problem.specification.rows[b, :, 0] >= 0).nonzero().flatten()
        roots = make_roots(graph, problem, b, disjuncts)
        domains = root_domains(graph, layout, roots, values, box)
        report(Progress("alpha-crown", len(domains), 0, float(domains.margin.min())))
        result = activation_split(graph, roots, domains, layout, deadline, report, lambda _: interlude())
        if result.verdict != "unsat":
            return result
    return Result("unsat", reason="activation split")


def check_fit(network: Network, prop: Property) -> None:
    graph = network.graph
    if (prop.n_inputs, prop.n_outputs) != (graph.n_inputs, graph.n_outputs):
        raise PropertyMismatch(
            f"the property is about {prop.n_inputs} inputs and {prop.n_outputs} outputs, "
            f"the network has {graph.n_inputs} and {graph.n_outputs}"
        )


def prepare(network: Network, prop: Property) -> tuple[Problem, Graph]:
    """The problem over the varying inputs and the network as a function of them."""
    problem = make_problem(prop, network.recording.inputs[0].dtype)
    fixed = torch.ones(prop.n_inputs, dtype=torch.bool)
    fixed[problem.varying] = False
    return problem, restrict(network.graph, fixed, problem.values)


def on(problem: Problem, dtype: torch.dtype, device: torch.device) -> Problem:
    box = Interval(problem.box.lower.to(device, dtype), problem.box.upper.to(device, dtype))
    return Problem(box, problem.specification.to(dtype, device), problem.varying, problem.values)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def output_ranges(
    network: Network, prop: Property, deadline: Deadline, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Certified lower and upper bounds ``(outputs,)`` of every output over the smallest box around the input set."""
    check_fit(network, prop)
    boxes = enclosing_box(prop, network.recording.inputs[0].dtype)
    box = Interval(boxes.lower.amin(0, keepdim=True), boxes.upper.amax(0, keepdim=True))
    method: Method = "forward" if options.method == "forward" else "ibp" if options.method == "ibp" else "crown"
    graph = network.graph
    values = bound_nodes(graph, box, method)
    result = values[-1]
    if method != "ibp":
        parts = []
        for index in torch.arange(graph.n_outputs).split(256):
            rows = with_negated(one_hot_rows(index, graph.nodes[-1].shape, box.lower))
            bound = backward(graph, {graph.output: rows}, dict(enumerate(values))).lower(box)[0]
            parts.append(torch.stack([bound[: len(index)], -bound[len(index) :]]))
        lower, upper = torch.cat(parts, 1).unsqueeze(1)
        result = intersect(result, Interval(lower, upper))
    lower, upper = outward(result)
    return lower[0].numpy(), upper[0].numpy()
