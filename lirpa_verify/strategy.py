"""What to try, in which order, with how much of the time: decided from the network and the property.

A short attack comes first, then a proof: boxes are split on trial unless very many inputs vary, then activations,
or both beside each other by what they bring, with a mixed-integer program beside them where the network is small.
The attack goes on beside the proof with a share of the time until one of them succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lirpa_verify.attack.gradient import Attack
from lirpa_verify.attack.straight_through import with_soft_steps
from lirpa_verify.bounds.intermediate import Method
from lirpa_verify.deadline import Deadline
from lirpa_verify.errors import PropertyMismatch
from lirpa_verify.graph.demand import demanded
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.restrict import restrict
from lirpa_verify.judge import Judge
from lirpa_verify.methods import DEVICES, METHODS
from lirpa_verify.network import Network
from lirpa_verify.ranges import output_ranges
from lirpa_verify.search.box_constants import with_box_constants
from lirpa_verify.search.cheapest_first import proved_by_intervals
from lirpa_verify.search.count import count_combinations
from lirpa_verify.search.input_split import InputSplit, most_varying
from lirpa_verify.search.input_split_beside import InputSplitBeside, input_split_trial
from lirpa_verify.search.propagation import decided_by_propagation
from lirpa_verify.search.single_pass import single_pass
from lirpa_verify.search.specification import Problem, make_problem
from lirpa_verify.search.split_activations import split_activations
from lirpa_verify.search.unrectified import unrectified
from lirpa_verify.search.unsquashed import unsquashed
from lirpa_verify.verdict import Progress, Result
from lirpa_verify.witness import Model
from vnnlib import Property

ATTACK_SHARE = 0.1  # of the time a proof takes goes to the attack that runs beside it
TRIAL_INPUTS = 64  # that vary in one box, up to which splitting boxes is tried
BACKWARD: dict[str, Method] = {"ibp": "ibp", "forward": "forward"}

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Options:
    method: str = "auto"  # auto, ibp, crown, forward, alpha-crown (one pass each), input-split, activation-split
    device: str = "auto"  # auto, cpu, cuda
    seed: int = 0

    def __post_init__(self) -> None:
        for value, choices in ((self.method, METHODS), (self.device, DEVICES)):
            if value not in choices:
                raise ValueError(f"{value!r} is none of {', '.join(choices)}")


@dataclass
class Interlude:
    """Lets the attack continue beside a proof, with its share of the time."""

    attack: Attack
    deadline: Deadline
    started: float = field(default_factory=time.monotonic)

    def __call__(self) -> Result | None:
        # As often as it takes: a round of the proof may be longer than many runs of the attack.
        while self.attack.spent < ATTACK_SHARE * (time.monotonic() - self.started) and not self.deadline.passed():
            witness = self.attack.advance(self.deadline)
            if witness is not None:
                return Result("sat", witness, "attack")
        return None


def verify(
    network: Network,
    prop: Property,
    deadline: Deadline,
    options: Options,
    report: Report,
    model: Model | None = None,
) -> Result:
    """Decides whether the network can violate the property.

    Args:
        network: the loaded model.
        prop: the set of violations.
        deadline: an answer is returned before it.
        options: method, device and seed.
        report: takes news for the user.
        model: what confirms witnesses; without one, onnxruntime on the network's file.

    Raises:
        PropertyMismatch: numbers of inputs or outputs differ.
    """
    check_fit(network, prop)
    if prop.n_disjuncts == 0:
        return Result("unsat", reason="the property is contradictory: no point can satisfy it")
    device = pick_device(options.device)
    problem, graph = prepare(network, prop)
    judge = Judge(network, prop, problem, model)
    graph, problem = graph.to(torch.float64, device), problem.to(torch.float64, device)
    original = graph, problem
    graph, problem = unrectified(*unsquashed(graph, problem))
    if options.method == "auto":
        if proved_by_intervals(graph, problem, deadline):
            return Result("unsat", reason="interval bounds")
        counted = count_combinations(*original, deadline, judge, judge.outputs, report)
        if counted is not None:
            return counted
    generator = torch.Generator().manual_seed(options.seed % 2**64)
    attack = Attack(
        with_soft_steps(graph.to(torch.float32, device)), problem.to(torch.float32, device), judge, generator
    )
    report(Progress("attack"))
    witness = attack.begin(deadline)
    if witness is not None:
        return Result("sat", witness, "attack")
    return prove(graph, problem, judge, deadline, options, report, Interlude(attack, deadline))


def prove(
    graph: Graph,
    problem: Problem,
    judge: Judge,
    deadline: Deadline,
    options: Options,
    report: Report,
    interlude: Interlude,
) -> Result:
    """The proof, with the attack beside it."""
    method = options.method
    if method in ("ibp", "forward", "crown", "alpha-crown"):
        return single_pass(graph, problem, deadline, BACKWARD.get(method, "crown"), method == "alpha-crown", report)
    decided = decided_by_propagation(graph, problem, deadline, judge) if method == "auto" else None
    if decided is not None:
        return decided
    if method == "activation-split":
        return split_activations(graph, problem, deadline, judge, report, interlude, guide=interlude.attack.guide)
    inputs = graph.n_inputs
    smaller, posed = with_box_constants(graph, problem)
    boxes = InputSplit.of(smaller, posed, deadline, lambda x: judge(x[:, :inputs]), report, None, interlude)
    if method == "input-split":
        return boxes.run(deadline)
    return split_what_pays(graph, problem, deadline, judge, report, interlude, boxes)


def split_what_pays(
    graph: Graph,
    problem: Problem,
    deadline: Deadline,
    judge: Judge,
    report: Report,
    interlude: Interlude,
    boxes: InputSplit,
) -> Result:
    """Inputs, activations, or both, by what a trial of them brings."""
    guide = interlude.attack.guide
    if most_varying(problem) > TRIAL_INPUTS:
        result = split_activations(graph, problem, deadline, judge, report, interlude, guide=guide)
    else:
        decided = input_split_trial(boxes, deadline)
        if decided is not None:
            return decided
        beside = InputSplitBeside(boxes, interlude, deadline)
        result = split_activations(graph, problem, deadline, judge, report, beside, beside.watch, guide)
    return boxes.run(deadline) if result.verdict == "unknown" else result


def check_fit(network: Network, prop: Property) -> None:
    graph = network.graph
    if (prop.n_inputs, prop.n_outputs) != (graph.n_inputs, graph.n_outputs):
        raise PropertyMismatch(
            f"the property is about {prop.n_inputs} inputs and {prop.n_outputs} outputs, "
            f"the network has {graph.n_inputs} and {graph.n_outputs}"
        )


def prepare(network: Network, prop: Property) -> tuple[Problem, Graph]:
    """The problem over the varying inputs and the mentioned outputs, and the network as a function of them."""
    problem = make_problem(prop, network.in_single_precision)
    fixed = torch.ones(prop.n_inputs, dtype=torch.bool)
    fixed[problem.varying] = False
    problem, mentioned = problem.of_mentioned_outputs()
    return problem, restrict(demanded(network.graph, mentioned), fixed, problem.values)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


__all__ = ["Options", "output_ranges", "verify"]
