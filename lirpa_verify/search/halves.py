"""Both halves of a network's behaviour at a split of one neuron, with bounds of all nodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Splits
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.branching import splitter
from lirpa_verify.search.influence import entry_gaps
from lirpa_verify.search.roots import Task


@dataclass(frozen=True)
class Half:
    """Half of what a task is about, roughly bounded."""

    values: list[Interval]
    cuts: Splits  # all that lead to it


def halved(task: Task, entry: Tensor) -> tuple[Half, Half]:
    """Bounds of all nodes on both sides of a split, and the splits that lead there."""
    [(z, _, where)] = task.layout.locate(entry.reshape(1))
    operator = task.graph.nodes[splitter(task.graph, z)].operator
    point = operator.split_point(task.nodes[z]).flatten(1)[:, where]
    upper = half_of(task, z, where, "upper", point, 1.0)
    return upper, half_of(task, z, where, "lower", point, -1.0)


def half_of(task: Task, z: int, where: Tensor, side: str, point: Tensor, sign: float) -> Half:
    """The half where the entry's upper or lower end is the point."""
    ends = {"lower": task.nodes[z].lower.clone(), "upper": task.nodes[z].upper.clone()}
    ends[side].flatten(1)[:, where] = point
    zero = torch.zeros_like(ends["lower"])
    signs, points = (have.get(z, zero).clone() for have in (task.cuts.sign, task.cuts.point))
    signs.flatten(1)[:, where], points.flatten(1)[:, where] = sign, point
    known = {i: task.nodes[i] for i in range(1, len(task.nodes))}
    known[z] = Interval(ends["lower"], ends["upper"])
    box = known.pop(0, task.nodes[0])
    cuts = Splits({**task.cuts.sign, z: signs}, {**task.cuts.point, z: points})
    return Half(bound_nodes(task.graph, box, known=known), cuts)


def looseness(task: Task, values: list[Interval]) -> float:
    """The relaxations' gaps that are left, layer by layer relative to those of the cube."""
    total = 0.0
    for z in task.layout.nodes:
        user = splitter(task.graph, z)
        before, after = (entry_gaps(task.graph, user, v) for v in (task.nodes[z], values[z]))
        total += float(after[1].sum() / before[1].sum().clamp(min=1e-12))
    return total
