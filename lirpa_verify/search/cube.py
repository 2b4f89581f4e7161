"""A part of a network's behaviour with bounds of all nodes, and what its search and its trees have come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.bounds.collapse import collapsible
from lirpa_verify.search.activation_split import HOPELESS, ActivationSplit, Outlook
from lirpa_verify.search.branching import splitter
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.influence import entry_gaps
from lirpa_verify.search.roots import Task, rooted

HALVINGS = 60  # of an interval that a root is in
TINY = 1e-12  # gain per level of a tree that gains nothing, and what a bound of 0 lacks


@dataclass(frozen=True)
class Growing:
    """The trees of a cube's neurons."""

    splits: int = 0  # per end of a neuron
    seconds: float = 0.0  # that they took
    pays: bool = True  # whether they brought the cube nearer to a proof


@dataclass(frozen=True)
class Cube:
    """A part of the network's behaviour, bounded."""

    task: Task  # its network is collapsed where that is possible
    disjuncts: Tensor  # of the problem, one per root of the task
    domains: Domains
    seconds: float  # that bounding it took, or would take one of its halves
    searched: bool = False  # whether searches were given up
    narrowed: bool = False  # whether bounds under the assumption of a violation were tried
    trees: Growing = Growing()
    going: Going | None = None

    @property
    def margin(self) -> float:
        return float(self.domains.margin.min())


@dataclass(frozen=True)
class Going:
    """A search that has not ended, of a part of a cube with one root."""

    cube: Cube  # the whole
    search: ActivationSplit  # of the domains that are left in the part


def growable(cube: Cube) -> bool:
    """Whether more trees may bring the cube nearer to a proof."""
    return cube.trees.pays and math.isfinite(cube.margin) and collapsible(cube.task.graph)


def divisible(cube: Cube) -> bool:
    """Whether cuts can bring the cube nearer to a proof."""
    return bool(cube.task.layout.nodes) and math.isfinite(cube.margin)


def with_roots(cube: Cube, wanted: Sequence[int]) -> Cube:
    """The cube with some of its roots."""
    if len(cube.domains) == len(wanted):
        return cube
    index = torch.tensor(wanted, device=cube.disjuncts.device)
    task = cube.task.of_roots(index)
    return replace(cube, task=task, disjuncts=cube.disjuncts[index], domains=rooted(cube.domains[index], task.roots))


def levels(cube: Cube, rate: float) -> float:
    """Of splits that a cube needs, where each gains so much."""
    return -cube.margin / max(rate, TINY)


def size(cubes: Sequence[Cube], rate: float) -> float:
    """Leaves of the searches of all cubes, where a level of splits gains so much."""
    return sum(2 ** min(levels(cube, rate), HOPELESS) for cube in cubes)


def worth_starting_anew(gained: float, outlook: Outlook, spent: float) -> bool:
    """Whether a root that is nearer to a proof makes up for the splits of the search that is going.

    A tree becomes smaller by a factor, what was done already as well as the rest; but the former is done again.
    """
    smaller = 2 ** -(gained / max(outlook.rate, TINY))
    return smaller * (spent + outlook.seconds) < outlook.seconds


def undecided(task: Task) -> int:
    """Entries that can be split to some effect."""
    return sum(
        int((entry_gaps(task.graph, splitter(task.graph, z), task.nodes[z])[1] > 0).sum()) for z in task.layout.nodes
    )


def even_gain(one: float, other: float) -> float:
    """What both halves of every cut have to gain for a tree as large as that of halves which gain so much.

    A tree whose two halves are nearer to a proof by a and b grows by x for every unit of distance, with
    x^-a + x^-b = 1 (Le Bodic and Nemhauser 2017, arXiv:1511.01818). Where one half gains next to nothing the mean of
    both promises a far smaller tree than there will be.
    """
    most, least = max(one, other), min(one, other)
    if least <= TINY:
        return 0.0
    low, high = 0.0, math.log(2) / least  # logarithms of x
    for _ in range(HALVINGS):
        x = (low + high) / 2
        grows = math.exp(-x * most) + math.exp(-x * least) > 1
        low, high = (x, high) if grows else (low, x)
    return math.log(2) / high
