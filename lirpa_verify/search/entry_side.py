"""Whether an entry of a node is on one side of a point throughout a box: a search over what the entry depends on.

Before anything is split, the neurons that the entry's bound pays most for are bounded again under the assumption that
the entry is on the other side (INVPROP: arXiv:2302.01404). That side is far from what is usual, so it says much about
them, and a few of them carry most of what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lirpa_verify.bounds.fields import Field, fields_of
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.window import FIRST
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.rearrange import Gather
from lirpa_verify.operators.unravelled import unravelled
from lirpa_verify.search.activation_split import ActivationSplit
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.costliest import costliest
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.output_constraint import with_decided
from lirpa_verify.search.roots import Roots, Task, root_domains
from lirpa_verify.search.shared_slopes import assume_with_slopes

STEPS, AGAIN = 8, 3  # of alpha-CROWN for the entry itself, first and after its neurons were bounded again
FEW, MANY = 32, 128  # neurons of every node that are bounded again
LITTLE_GAIN = 0.25  # of what the bound lacks: from then on many neurons
LEAST_GAIN = 0.03  # less is not worth bounding the neurons once more


@dataclass(frozen=True)
class Side:
    """An entry of a node and on which side of the jump it has to be."""

    entry: int
    sign: float  # 1 for above, -1 for below
    limit: float  # proved once sign * entry > limit, which is a little beyond the jump


@dataclass(frozen=True)
class Attempt:
    """A side that bounds alone have not proved."""

    side: Side
    task: Task
    domain: Domains

    @property
    def lacking(self) -> float:
        return -float(self.domain.margin)


def attempted(task: Task, side: Side, deadline: Deadline) -> Attempt | None:
    """What bounds leave of the side's task; None where they prove it."""
    found = assumed(task, root_domains(task, deadline, STEPS), deadline)
    return None if found is None else Attempt(side, *found)


def splits_prove(tried: Attempt, deadline: Deadline) -> bool:
    """Whether a search proves what bounds did not."""
    search = ActivationSplit(tried.task, lambda point: None, lambda progress: None, lambda: None)
    search.start(tried.domain)
    return search.run(deadline).verdict == "unsat"


def assumed(task: Task, domain: Domains, deadline: Deadline) -> tuple[Task, Domains] | None:
    """The task with bounds that hold wherever its only root is violated, as far as they gain; None where it is not."""
    most = FEW
    while len(domain.open_index) and not deadline.passed():
        lacking = -float(domain.margin)
        values = assume_with_slopes(task, domain, costliest(task, domain, most))
        if values is None:
            return None
        cuts = with_decided(task, values)
        task = replace(task, nodes=tuple(values), sizes=sizes(task.graph, values), cuts=cuts)
        domain = root_domains(task, deadline, AGAIN, domain.parameters())
        left = -float(domain.margin)
        if not left < (1 - LEAST_GAIN) * lacking:
            break
        if left > (1 - LITTLE_GAIN) * lacking:
            most = MANY
    return None if len(domain.open_index) == 0 else (task, domain)


def task_of(graph: Graph, i: int, values: list[Interval], side: Side) -> Task | None:
    """What is to be proved, over what the entry depends on; None where nothing but padding leads to it."""
    small = field_of(graph, i, values, side.entry)
    if small is None:
        return None
    shape, like = small.graph.nodes[-1].shape, values[0].lower
    channel = unravelled(torch.tensor([side.entry], device=like.device), graph.nodes[i].shape)[1]
    # The window is one place: of several channels.
    nodes = (*small.graph.nodes, Node(Gather(channel, shape, (1,)), (small.graph.output,), (1,), "entry"))
    known = [*small.values, interval_step(nodes[-1], small.values)]
    field = Graph(nodes)
    roots = Roots(
        {field.output: torch.full((1, 1, 1), side.sign).to(like)},
        torch.full((1, 1), side.limit, dtype=torch.float64).to(like),
    )
    return Task(field, roots, splittable(field), tuple(known), sizes(field, known))


def field_of(graph: Graph, i: int, values: list[Interval], entry: int) -> Field | None:
    """The field of the place where an entry of node i is; None where nothing but padding leads to it."""
    shape = graph.nodes[i].shape
    place = tuple((int(k), int(k) + 1) for k in unravelled(torch.tensor(entry), shape)[FIRST:])
    wanted = torch.ones(1, *shape, dtype=torch.bool, device=values[0].lower.device)
    return next(iter(fields_of(graph, i, values[0], values[: i + 1], wanted, [place])), None)
