"""On which side of a jump its arguments are: proved entry by entry, each on the small part of the network below it.

A property of many step functions (how many pixels may change their class, say) is proved once few of them are
undecided. What one of them sees is often a small window of the input, over which a search splits few activations
where a search over the whole network would have to split some for every one of them. The entries that lack least
come first, and no more than the property needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.window import FIRST, fields, work
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.rearrange import Move
from lirpa_verify.operators.sign import Jump
from lirpa_verify.search.entry_side import Side, is_proved
from lirpa_verify.threads import side_by_side

CLEARANCE = 1e-6  # of an entry's width: how far beyond the jump it is proved to be
SMALL_PART = 0.25  # of the work of a pass over the network: what a search over an entry's part may cost
SHARES = 4  # of the time left per entry that one may take: those that lack little need less, and all have to be proved
FAILURES = 8  # entries without a proof in their shares of the time, after which those further away are left alone

Open = Callable[[list[Interval]], Tensor]  # bounds of all nodes -> (disjuncts,) which are not proved impossible


def decide_jumps(
    graph: Graph,
    values: list[Interval],
    open_: Open,
    deadline: Deadline,
    tell: Callable[[int], None] = lambda left: None,
) -> list[Interval]:
    """Bounds of all nodes with as many arguments of jumps decided as suffice to prove what can be proved that way.

    Args:
        graph: the network.
        values: bounds of all nodes over a single box.
        open_: which disjuncts remain with given bounds.
        deadline: when to stop.
        tell: takes how many entries have to be decided yet, as often as that is known.
    """
    found = jump(graph)
    if found is None:
        return values
    i, point = found
    failed: set[int] = set()
    while not deadline.passed() and len(failed) < FAILURES:
        sides = [side for side in nearest(graph, i, point, values) if side.entry not in failed]
        part = sides[: fewest(graph, i, values, sides, open_)]
        if not part:
            break
        tell(len(part))
        proved = searched(graph, i, values, part, deadline)
        values = with_sides(graph, i, values, proved)
        failed |= {side.entry for side in part} - {side.entry for side in proved}
    return values


def jump(graph: Graph) -> tuple[int, float] | None:
    """The last node whose entries, moved about only, jumps take, with windows that depend on a part of the network."""
    for node in reversed(graph.nodes):
        if not isinstance(node.operator, Jump):
            continue
        (i,) = node.arguments
        while isinstance(graph.nodes[i].operator, Move):
            (i,) = graph.nodes[i].arguments
        if i in graph.tightened and is_local(graph, i):
            return i, node.operator.point
    return None


def is_local(graph: Graph, i: int) -> bool:
    """Whether an entry of a node depends on a small part of the network."""
    shape, below = graph.nodes[i].shape, graph.ancestors[i]
    if len(shape) <= FIRST or shape[0] != 1:
        return False
    windows = fields(graph, i, tuple((n // 2, n // 2 + 1) for n in shape[FIRST:]))
    return windows is not None and work(graph, windows, below) <= SMALL_PART * work(graph, {}, below)


def nearest(graph: Graph, i: int, point: float, values: list[Interval]) -> list[Side]:
    """The undecided entries, first those that lack the smallest part of their widths."""
    box = values[0]
    lower, upper = (end.flatten() for end in values[i])
    centre = graph.evaluate((box.lower + box.upper) / 2)[i].flatten()  # elsewhere than there none can be proved to be
    lack = torch.where(centre > point, point - lower, upper - point) / (upper - lower)
    index = ((lower < point) & (upper > point) & torch.isfinite(lack)).nonzero().flatten()
    index = index[lack[index].argsort()]
    sign = torch.where(centre[index] > point, 1.0, -1.0).to(lower)
    limit = sign * point + CLEARANCE * (upper - lower)[index]
    return [Side(*side) for side in zip(index.tolist(), sign.tolist(), limit.tolist(), strict=True)]


def with_sides(graph: Graph, i: int, values: list[Interval], sides: Sequence[Side]) -> list[Interval]:
    """Bounds of all nodes where some entries of node i are known to be on their sides."""
    lower, upper = (end.clone() for end in values[i])
    for side in sides:
        if side.sign > 0:
            lower.view(-1)[side.entry] = max(float(lower.view(-1)[side.entry]), side.limit)
        else:
            upper.view(-1)[side.entry] = min(float(upper.view(-1)[side.entry]), -side.limit)
    known = [*values[:i], Interval(lower, upper)]
    for j in range(i + 1, len(values)):
        known.append(intersect(values[j], interval_step(graph.nodes[j], known)))
    return known


def fewest(graph: Graph, i: int, values: list[Interval], sides: Sequence[Side], open_: Open) -> int:
    """How many of the sides have to be known to prove all that can be proved with them, 0 where nothing can."""

    def left(count: int) -> int:
        return int(open_(with_sides(graph, i, values, sides[:count])).sum())

    least = left(len(sides))
    if least == left(0):
        return 0
    low, high = 0, len(sides)  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) == least else (middle, high)
    return high


def searched(graph: Graph, i: int, values: list[Interval], sides: Sequence[Side], deadline: Deadline) -> list[Side]:
    """Those of the sides that are proved, side by side, each in a few even shares of the time left.

    As many shares as failures are allowed are counted for others that will be tried instead.
    """
    proved: list[Side] = []

    def search(part: Sequence[Side]) -> None:
        failures = 0
        for k, side in enumerate(part):
            if deadline.passed() or failures == FAILURES:
                return
            share = SHARES * deadline.remaining() / (len(part) - k + FAILURES - failures)
            with torch.enable_grad():
                if is_proved(graph, i, values, side, deadline.within(share)):
                    proved.append(side)
                else:
                    failures += 1

    side_by_side(search, sides)
    return proved
