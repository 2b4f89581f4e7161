"""CROWN with optimised relaxations: free slopes (alpha) and multipliers of splits (beta).

Every choice of slopes in their range and every multiplier >= 0 gives a valid bound, so gradient
ascent may stop anywhere and the best bound seen is kept (arXiv:2011.13824 for the slopes,
arXiv:2103.06624 for the multipliers). Slopes are optimised as positions in [0, 1] within their
range, which makes one step size fit all functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import LinearBound, backward
from lirpa_verify.bounds.input_parts import Part, lacking
from lirpa_verify.bounds.rounding import margin
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval, Lines, Relaxations, Slopes

FIRST_RATE, DECAY = 0.15, 0.97
SMALLEST_UNIT = 1e-9
MULTIPLIER_RATE = 0.1  # first step size of multipliers, in units of the largest coefficient at their node
ESTIMATED = 1e-6  # relative rounding error of a bound that is not certified


@dataclass(frozen=True)
class Splits:
    """Constraints of sub-problems on nodes: ``sign * (node - point) <= 0`` where sign is not 0."""

    sign: dict[int, Tensor]  # per node (batch, *node): 1 for node <= point, -1 for node >= point
    point: dict[int, Tensor]  # per node (batch, *node)

    def on(self, nodes: Collection[int]) -> Splits:
        """Those on some nodes, without nodes that have none."""
        used = [i for i in self.sign if i in nodes and bool((self.sign[i] != 0).any())]
        return Splits({i: self.sign[i] for i in used}, {i: self.point[i] for i in used})

    def map(self, function: Callable[[Tensor], Tensor]) -> Splits:
        return Splits({i: function(t) for i, t in self.sign.items()}, {i: function(t) for i, t in self.point.items()})


NONE = Splits({}, {})


@dataclass(frozen=True)
class Parameters:
    """What is optimised; every tensor has a leading (batch, rows)."""

    positions: dict[int, Slopes]  # per nonlinear node, in [0, 1] of the slope's range
    multipliers: dict[int, Tensor]  # per split node, >= 0
    weights: Tensor | None = None  # (batch, rows, conjuncts): how the rows of a conjunction are mixed

    def tensors(self) -> list[Tensor]:
        mixed = [] if self.weights is None else [self.weights]
        slopes = [t for pair in self.positions.values() for t in pair if t.numel()]
        return slopes + list(self.multipliers.values()) + mixed

    def map(self, function: Callable[[Tensor], Tensor]) -> Parameters:
        return Parameters(
            {i: Slopes(function(s.lower), function(s.upper)) for i, s in self.positions.items()},
            {i: function(m) for i, m in self.multipliers.items()},
            None if self.weights is None else function(self.weights),
        )


@dataclass(frozen=True)
class Target:
    """What is bounded from below: ``sum(<start[i], node i>) - rhs`` for every row, over boxes and splits."""

    start: dict[int, Tensor]  # (batch, conjuncts, *node)
    rhs: Tensor  # (batch, conjuncts)
    box: Interval
    intervals: Mapping[int, Interval]
    splits: Splits | None = None
    sizes: Mapping[int, Tensor] | None = field(default_factory=dict)  # `bounds.sizes` over the boxes or around them


@dataclass(frozen=True)
class Optimised:
    margin: Tensor  # (batch, rows): best lower bound, rounding taken off; an estimate where parts of the inputs told it
    parameters: Parameters  # with which it was reached


def initial_positions(
    graph: Graph, intervals: Mapping[int, Interval], below: frozenset[int], rows: int
) -> dict[int, Slopes]:
    """Every operator's own choice of slopes, as positions, for `rows` rows."""
    positions = {}
    for i in sorted(below):
        node = graph.nodes[i]
        if not node.operator.bounded:
            continue
        arguments = tuple(intervals[a] for a in node.arguments)
        slopes, limits = node.operator.default_slopes(*arguments), node.operator.slope_range(*arguments)
        if slopes is None or limits is None:
            continue
        positions[i] = Slopes(*(relative(s, lo, hi).repeat(1, rows, *[1] * (s.dim() - 2))
                                for s, lo, hi in zip(slopes, *limits, strict=True)))  # fmt: skip
    return positions


def relative(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    width = high - low
    return torch.where(width > 0, (value - low) / torch.where(width > 0, width, 1), 0.5).clamp(0, 1)


def slopes_at(graph: Graph, intervals: Mapping[int, Interval], positions: Mapping[int, Slopes]) -> dict[int, Slopes]:
    slopes = {}
    for i, position in positions.items():
        node = graph.nodes[i]
        limits = node.operator.slope_range(*(intervals[a] for a in node.arguments))
        assert limits is not None
        slopes[i] = between(position, limits)
    return slopes


def between(position: Slopes, limits: tuple[Slopes, Slopes]) -> Slopes:
    """The slopes at positions in [0, 1] between their limits."""
    return Slopes(*(lo + p * (hi - lo) for p, lo, hi in zip(position, *limits, strict=True)))


def relaxations(
    graph: Graph, intervals: Mapping[int, Interval], positions: Mapping[int, Slopes]
) -> dict[int, Relaxations]:
    """Per nonlinear node all its relaxations, where these have something in common."""
    found = {i: graph.nodes[i].operator.relaxations(intervals[graph.nodes[i].arguments[0]]) for i in positions}
    return {i: relaxed for i, relaxed in found.items() if relaxed is not None}


def lines_at(relaxed: Mapping[int, Relaxations], positions: Mapping[int, Slopes]) -> dict[int, Lines]:
    return {i: lines(positions[i]) for i, lines in relaxed.items()}


def bound(
    graph: Graph,
    target: Target,
    parameters: Parameters,
    watch: tuple[int, ...] = (),
    lines: Mapping[int, Lines] | None = None,
) -> tuple[Tensor, LinearBound]:
    """Margins (batch, rows), certified where the target has sizes, and the linear bound they come from.

    Lines that are given take the place of those at the parameters' positions.
    """
    free = {i: position for i, position in parameters.positions.items() if not lines or i not in lines}
    slopes = slopes_at(graph, target.intervals, free)
    start, rhs = dict(target.start), target.rhs
    if parameters.weights is not None:
        share = parameters.weights / parameters.weights.sum(2, keepdim=True)
        start = {i: (share @ rows.flatten(2)).unflatten(2, rows.shape[2:]) for i, rows in start.items()}
        rhs = (share @ rhs.unsqueeze(2)).squeeze(2)
    extra = split_terms(target.splits, parameters.multipliers) if target.splits else ({}, 0.0)
    linear = backward(graph, start, target.intervals, slopes, watch, extra[0], target.sizes, lines)
    linear = replace(linear, offset=linear.offset - rhs - extra[1])
    lower = linear.lower(target.box)
    with torch.no_grad():
        if target.sizes is None:  # an estimate will do
            slack = ESTIMATED * (linear.offset.abs() + (lower - linear.offset).abs() + rhs.abs())
        else:
            slack = margin(linear.magnitude(target.box) + 2 * rhs.abs())
    return lower - slack, linear


def split_terms(splits: Splits, multipliers: Mapping[int, Tensor]) -> tuple[dict[int, Tensor], Tensor | float]:
    """Coefficients that the multipliers add at split nodes, and the offset they take away."""
    rows: dict[int, Tensor] = {}
    offset: Tensor | float = 0.0
    for i, beta in multipliers.items():
        rows[i] = beta * splits.sign[i].unsqueeze(1)
        offset = offset + (rows[i] * splits.point[i].unsqueeze(1)).flatten(2).sum(2)
    return rows, offset


def optimise(
    graph: Graph,
    target: Target,
    parameters: Parameters,
    steps: int,
    proceed: Callable[[Tensor], bool] = lambda margin: True,
    rate: float = FIRST_RATE,
    goal: bool = True,
    given: Mapping[int, Tensor] | None = None,
    parts: Sequence[Part] = (),
    unused_rate: float = MULTIPLIER_RATE,
) -> Optimised:
    """Gradient ascent (Adam) on the slopes and multipliers of every row that is not yet proved.

    Args:
        graph: the network.
        target: what to bound.
        parameters: where to start.
        steps: iterations at most.
        proceed: asked after every iteration with the best margins; False stops.
        rate: first step size, in units of a slope's range.
        goal: whether a margin above 0 is all that is wanted of a row.
        given: first steps of the multipliers of some nodes ``(batch, rows, *node)``, where coefficients do not tell.
        parts: of the inputs, which the steps take in turn; margins are estimates then.
        unused_rate: first step size of multipliers that are 0, in units of the largest coefficient at their node.
    """
    parameters = parameters.map(lambda t: t.detach().clone())
    variables = parameters.tensors()
    for variable in variables:
        variable.requires_grad_()
    moments = [(torch.zeros_like(v), torch.zeros_like(v)) for v in variables]
    best: Optimised | None = None
    units: list[Tensor | float] = [1.0] * len(variables)
    relaxed = relaxations(graph, target.intervals, parameters.positions)
    views = views_of(graph, target, parameters, lines_at(relaxed, parameters.positions), parts)
    for step in range(steps + 1):
        view, watch = views[step % len(views)], tuple(parameters.multipliers) if step == 0 else ()
        with torch.set_grad_enabled(step < steps):
            lines = lines_at(relaxed, parameters.positions)
            estimate, linear = bound(view.graph, view.target, parameters, watch, lines)
            margins = estimate + view.lacking
        if watch:
            units = step_units(parameters, linear, rate, given or {}, unused_rate)
        best = improved(best, margins.detach(), parameters)
        # A relaxation may be reached by no coefficients: behind a choice by places, say.
        if step == steps or not margins.requires_grad or not proceed(best.margin):
            break
        # A row that is proved needs no further progress; every other row's progress counts the same.
        objective = torch.where(best.margin > 0, 0, margins).sum() if goal else margins.sum()
        gradients = torch.autograd.grad(objective, variables, allow_unused=True)
        ascend(variables, gradients, moments, units, step, rate * DECAY**step)
        with torch.no_grad():
            for position in parameters.positions.values():
                for t in position:
                    t.clamp_(0, 1)
            for beta in parameters.multipliers.values():
                beta.clamp_(min=0)
            if parameters.weights is not None:
                parameters.weights.clamp_(min=1e-3)
    assert best is not None
    return best


@dataclass(frozen=True)
class View:
    """A network and a target with all inputs or some of them."""

    graph: Graph
    target: Target
    lacking: Tensor | float = 0.0  # what it tells too little, where the ascent starts


@torch.no_grad()
def views_of(
    graph: Graph, target: Target, parameters: Parameters, lines: Mapping[int, Lines], parts: Sequence[Part]
) -> list[View]:
    """What the steps of an ascent see in turn: parts of the inputs, or all of them where there are none."""
    if not parts:
        return [View(graph, target)]
    _, whole = bound(graph, target, parameters, (), lines)
    less = lacking(parts, whole.weight, target.box)
    return [View(part.graph, sampled(target, part), lack) for part, lack in zip(parts, less, strict=True)]


def sampled(target: Target, part: Part) -> Target:
    """The target with a part of the inputs."""
    start, rhs = part.target(target.start, target.rhs)
    return replace(target, start=start, rhs=rhs, box=part.box)


def step_units(
    parameters: Parameters, linear: LinearBound, rate: float, given: Mapping[int, Tensor], unused_rate: float
) -> list[Tensor | float]:
    """Per variable the unit of its steps: slopes move within [0, 1], a multiplier adds to the coefficients it meets."""
    units: list[Tensor | float] = []
    for i, beta in parameters.multipliers.items():
        if i in given:
            units.append(given[i] / rate)
            continue
        rows = linear.watched[i].detach().abs()
        largest = rows.flatten(2).amax(2).clamp(min=SMALLEST_UNIT)
        share = torch.where(beta.detach() > 0, beta.new_tensor(MULTIPLIER_RATE), unused_rate)
        units.append(share / rate * largest.reshape(*largest.shape, *[1] * (beta.dim() - 2)))
    mixed = [] if parameters.weights is None else [1.0]
    before = len(parameters.tensors()) - len(units) - len(mixed)
    return [1.0] * before + units + mixed


def ascend(
    variables: list[Tensor],
    gradients: tuple[Tensor | None, ...],
    moments: list[tuple[Tensor, Tensor]],
    units: list[Tensor | float],
    step: int,
    rate: float,
) -> None:
    """One Adam step (arXiv:1412.6980) upwards."""
    with torch.no_grad():
        for variable, gradient, (mean, square), unit in zip(variables, gradients, moments, units, strict=True):
            if gradient is None:
                continue
            mean.lerp_(gradient, 0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            scale = (square / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-12)
            variable.addcdiv_(mean * unit, scale, value=rate / (1 - 0.9 ** (step + 1)))


def improved(best: Optimised | None, margins: Tensor, parameters: Parameters) -> Optimised:
    """Row by row the better of the best so far and the present."""
    if best is None:
        return Optimised(margins, parameters.map(lambda t: t.detach().clone()))
    better = margins > best.margin  # False where a margin is not a number

    def choose(new: Tensor, old: Tensor) -> Tensor:
        return (
            torch.where(better.reshape(*better.shape, *[1] * (new.dim() - 2)), new.detach(), old)
            if new.numel()
            else old
        )

    kept = Parameters(
        {
            i: Slopes(
                choose(p.lower, best.parameters.positions[i].lower), choose(p.upper, best.parameters.positions[i].upper)
            )
            for i, p in parameters.positions.items()
        },
        {i: choose(m, best.parameters.multipliers[i]) for i, m in parameters.multipliers.items()},
        None if parameters.weights is None else choose(parameters.weights, best.parameters.weights),  # type: ignore[arg-type]
    )
    return Optimised(torch.where(better, margins, best.margin), kept)
