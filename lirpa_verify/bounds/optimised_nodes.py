"""Intermediate bounds with optimised slopes: every bound of every undecided neuron is a target of its own.

Each row has slopes of its own at every nonlinear node below it, so its bound is as tight as
alpha-CROWN can make it (arXiv:2011.13824); nodes are taken in topological order, each profiting from
those before it. A row stops once its sign is known where that is all a nonlinearity asks. Slopes are looked
for in single precision; the bounds are computed from them in double precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import (
    FIRST_RATE,
    NONE,
    Parameters,
    Splits,
    Target,
    bound,
    initial_positions,
    optimise,
)
from lirpa_verify.bounds.crown import one_hot_rows, with_negated
from lirpa_verify.bounds.fields import fields_of
from lirpa_verify.bounds.input_parts import input_parts
from lirpa_verify.bounds.intermediate import signs_suffice, undecided_entries
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, outward, single
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.bounds.tiles import best_size, tiling
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.window import FIRST, cropped
from lirpa_verify.operators.base import Interval, flat

CHUNK_BYTES = 2**28  # of slopes, their gradients and what autograd keeps
STEP_PASSES = 2  # what a step with gradients in single precision costs, in passes without in double precision
UNIT_ABOVE = 0.03  # first steps of multipliers of constraints above a node, as share of what could pay for them
REACHED_ABOVE = 0.24  # in the same units: few steps are so large that they can get as far together
SMALLEST_PAID = 1e-6
SAMPLE, LEAST_GAIN = 32, 0.01  # entries that are optimised first, and the share of their widths that has to go


@dataclass(frozen=True)
class Effort:
    """How much to spend: gradient steps per row, and a deadline for all of it."""

    steps: int
    deadline: Deadline

    @property
    def rate(self) -> float:
        """First step size: few steps together have to cross a slope's range too."""
        return max(FIRST_RATE, 2 / max(1, self.steps))

    def proceed(self, margin: Tensor) -> bool:
        return not self.deadline.passed()


def optimise_nodes(
    graph: Graph,
    box: Interval,
    values: list[Interval],
    effort: Effort,
    splits: Splits = NONE,
) -> list[Interval]:
    """Tighter bounds of all nodes over one box.

    Args:
        graph: the network.
        box: ``(1, inputs)`` ends.
        values: bounds of every node, for instance from CROWN.
        splits: constraints on nodes that hold as well, in double precision.
        effort: when the deadline has passed the remaining nodes keep what they had.

    Returns:
        One interval per node, nowhere wider than `values`.
    """
    improved = [box]
    fast = graph.to(torch.float32, box.lower.device)
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = intersect(values[i], interval_step(node, improved))
        if i in graph.tightened:
            value = optimise_node(graph, fast, i, value, improved, effort, splits)
        improved.append(value)
    return improved


def optimise_node(
    graph: Graph, fast: Graph, i: int, value: Interval, below: list[Interval], effort: Effort, splits: Splits
) -> Interval:
    """Bounds of one node from those of the nodes below it; `fast` is the network in single precision."""
    mask = undecided_entries(graph, i, value)
    size = None if splits.sign else best_size(graph, i, int(mask.sum()))
    goal = Goal(effort, splits, signs_suffice(graph, i))
    if size is None:
        return optimise_entries(graph, fast, i, mask[0].nonzero().flatten(), [*below, value], goal)
    lower, upper = (end.clone() for end in value)
    done, width, left = 0, 0.0, 0.0
    windows = tiling(graph.nodes[i].shape[FIRST:], size)
    for field in fields_of(graph, i, below[0], [*below, value], mask.unflatten(1, graph.nodes[i].shape), windows):
        if effort.deadline.passed() or (done >= SAMPLE and left > (1 - LEAST_GAIN) * width):
            break
        last = field.values[-1]
        index = field.wanted[0].nonzero().flatten()
        small = field.graph.to(torch.float32, last.lower.device)
        found = optimise_entries(field.graph, small, field.graph.output, index, field.values, goal)
        share = gain(last, found, index)
        before = float((last.upper - last.lower).flatten(1)[:, index].sum())
        done, width, left = done + len(index), width + before, left + (1 - share) * before
        cropped(lower, field.window, 1).copy_(found.lower)
        cropped(upper, field.window, 1).copy_(found.upper)
    return Interval(lower, upper)


@dataclass(frozen=True)
class Goal:
    """What is wanted of entries, under which constraints, with how much work."""

    effort: Effort
    splits: Splits
    signs: bool  # whether their signs suffice
    lacking: float | None = None  # where the splits constrain the output too: what its bound lacks to exclude that


def optimise_entries(
    graph: Graph, fast: Graph, i: int, index: Tensor, values: Sequence[Interval], goal: Goal
) -> Interval:
    """Bounds of entries ``index`` (entries,) of node i, the others as they are.

    `values` are bounds of the nodes up to it, or of all nodes where a constraint on the output is to be used.
    """
    shape, box, value, effort = graph.nodes[i].shape, values[0], values[i], goal.effort
    top = i if goal.lacking is None else graph.output
    lower, upper = (flat(end, 1).clone() for end in value)
    neurons = sum(graph.nodes[a].size for a in graph.ancestors[top] if graph.nodes[a].operator.bounded)
    if neurons == 0 or len(index) == 0:
        return value
    chunk = max(1, CHUNK_BYTES // (2 * 20 * 4 * neurons))
    splits = goal.splits.on(graph.ancestors[top] - {i})
    exact = Target({}, box.lower.new_zeros(1, 0), box, dict(enumerate(values)), splits, sizes(graph, values))
    rounded = {a: single(interval) for a, interval in exact.intervals.items()}
    parts = input_parts(fast, rounded[0])
    first = index[:0]
    for number, part in enumerate(sampled(index, chunk)):
        if effort.deadline.passed() or (number == 1 and gain(value, Interval(lower, upper), first) < LEAST_GAIN):
            break
        first = part
        rows = with_negated(one_hot_rows(part, shape, box.lower))
        start = {i: rows}
        if top != i:
            start[top] = rows.new_zeros(1, rows.shape[1], *graph.nodes[top].shape)
        rhs = rows.new_zeros(1, rows.shape[1])
        estimate = Target(
            {a: r.float() for a, r in start.items()}, rhs.float(), rounded[0], rounded, splits.map(Tensor.float), None
        )
        multipliers = {z: rows.new_zeros(1, rows.shape[1], *graph.nodes[z].shape).float() for z in splits.sign}
        parameters = Parameters(initial_positions(fast, rounded, graph.ancestors[top], rows.shape[1]), multipliers)
        units = units_above(graph, i, part, rounded, multipliers, goal.lacking, effort.steps) if goal.lacking else {}
        best = optimise(fast, estimate, parameters, effort.steps, effort.proceed, effort.rate, goal.signs, units, parts)
        with torch.no_grad():
            parameters = best.parameters.map(Tensor.double)
            margins, _ = bound(graph, replace(exact, start=start, rhs=rhs), parameters)
        found = outward(Interval(margins[:, : len(part)], -margins[:, len(part) :]))
        lower[:, part] = torch.fmax(lower[:, part], found.lower)
        upper[:, part] = torch.fmin(upper[:, part], found.upper)
    return Interval(lower.reshape(-1, *shape), upper.reshape(-1, *shape))


def units_above(
    graph: Graph,
    i: int,
    part: Tensor,
    values: Mapping[int, Interval],
    multipliers: Mapping[int, Tensor],
    lacking: float,
    steps: int,
) -> dict[int, Tensor]:
    """Steps of the multipliers of constraints that are not below node i, in units of what they trade for what.

    A multiplier pays with the distance of its constraint's bound from the point, and gains at most the width of
    the entry's interval.
    """
    width = (values[i].upper - values[i].lower).flatten(1)[:, part].repeat(1, 2)  # (1, rows)
    share = max(UNIT_ABOVE, REACHED_ABOVE / max(1, steps))
    units = {}
    for z in multipliers:
        if z in graph.ancestors[i]:
            continue
        paid = torch.full_like(width[:, :1], lacking) if z == graph.output else values[z].upper - values[z].lower
        paid = paid.clamp(min=SMALLEST_PAID).reshape(1, 1, *paid.shape[1:])
        units[z] = share * width.reshape(*width.shape, *[1] * (paid.dim() - 2)) / paid
    return units


def sampled(index: Tensor, chunk: int) -> list[Tensor]:
    """Parts of at most `chunk` entries; a few of many come first and tell what is to be gained."""
    if len(index) <= 4 * SAMPLE:
        return list(index.split(chunk))
    early = torch.zeros_like(index, dtype=torch.bool)
    early[:: -(-len(index) // SAMPLE)] = True
    return [*index[early].split(chunk), *index[~early].split(chunk)]


def gain(before: Interval, after: Interval, entries: Tensor) -> float:
    """The share of the widths of some undecided entries that is gone, or no longer matters as the sign is known."""
    old, new = (Interval(v.lower.flatten(1)[:, entries], v.upper.flatten(1)[:, entries]) for v in (before, after))
    known = (new.lower >= 0) | (new.upper <= 0)
    crossing = (old.lower < 0) & (old.upper > 0)
    left = torch.where(crossing & known, 0, new.upper - new.lower).sum()
    return 1 - float(left / (old.upper - old.lower).sum().clamp(min=1e-30))


def timed_effort(seconds_per_pass: float, budget: float, deadline: Deadline, most: int = 30) -> Effort:
    """Steps that fit a budget."""
    steps = int(budget / (STEP_PASSES * max(seconds_per_pass, 1e-4)))
    return Effort(max(0, min(most, steps)), deadline.within(budget))
