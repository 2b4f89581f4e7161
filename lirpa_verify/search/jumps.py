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
from lirpa_verify.search.entry_side import Attempt, Side, attempted, splits_prove, task_of
from lirpa_verify.threads import side_by_side

CLEARANCE = 1e-6  # of an entry's width: how far beyond the jump it is proved to be
SMALL_PART = 0.25  # of the work of a pass over the network: what a search over an entry's part may cost
SHARES = 4  # of the time left per entry that one may take: those that lack little need less, and all have to be proved
FAILURES = 8  # entries without a proof, more than those with one, after which those further away are left alone

Open = Callable[[list[Interval]], Tensor]  # bounds of all nodes -> (disjuncts,) which are not proved impossible
Tell = Callable[[int], None]


def decide_jumps(
    graph: Graph,
    values: list[Interval],
    open_: Open,
    deadline: Deadline,
    tell: Tell = lambda left: None,
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
    values, tried = with_bounded(graph, i, point, values, open_, deadline, tell)
    return with_split(graph, i, values, tried, open_, deadline, tell)


def with_bounded(
    graph: Graph, i: int, point: float, values: list[Interval], open_: Open, deadline: Deadline, tell: Tell
) -> tuple[list[Interval], list[Attempt]]:
    """Bounds of all nodes with the sides of node i's entries that bounds prove, and what these leave of others."""
    tried: set[int] = set()
    attempts: list[Attempt] = []
    while not deadline.passed() and 2 * len(attempts) <= len(tried) + FAILURES:
        sides = [side for side in nearest(graph, i, point, values) if side.entry not in tried]
        part = sides[: fewest(graph, i, values, sides, open_)]
        if not part:
            break
        tell(len(part))
        proved, left = bounded(graph, i, values, part, deadline)
        values = with_sides(graph, i, values, proved)
        attempts += left
        tried |= {side.entry for side in part}
    return values, attempts


def bounded(
    graph: Graph, i: int, values: list[Interval], sides: Sequence[Side], deadline: Deadline
) -> tuple[list[Side], list[Attempt]]:
    """Those of the sides that bounds prove, side by side, and what they leave of others; not all if most fail."""
    proved: list[Side] = []
    left: list[Attempt] = []

    def bound(part: Sequence[Side]) -> None:
        for side in part:
            if deadline.passed() or len(left) > len(proved) + FAILURES:
                return
            task = task_of(graph, i, values, side)
            if task is None:
                continue
            with torch.enable_grad():
                attempt = attempted(task, side, deadline)
            if attempt is None:
                proved.append(side)
            else:
                left.append(attempt)

    side_by_side(bound, sides)
    return proved, left


def with_split(
    graph: Graph,
    i: int,
    values: list[Interval],
    attempts: Sequence[Attempt],
    open_: Open,
    deadline: Deadline,
    tell: Tell,
) -> list[Interval]:
    """Bounds of all nodes with those sides too that splits prove, the nearest ones first."""
    attempts = sorted(attempts, key=lambda attempt: attempt.lacking)
    failures = 0
    while not deadline.passed() and failures < FAILURES:
        part = attempts[: fewest(graph, i, values, [attempt.side for attempt in attempts], open_)]
        if not part:
            break
        tell(len(part))
        proved = searched(part, deadline)
        values = with_sides(graph, i, values, proved)
        failures += len(part) - len(proved)
        attempts = attempts[len(part) :]
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


def one_sided(graph: Graph) -> frozenset[int]:
    """The last nodes that are bounded before the jumps' node and lead to it alone.

    Bounds on one side of their entries suffice for most entries of the jumps' node; what these leave undecided is
    searched, and there both sides are bounded of the entries that matter.
    """
    found = jump(graph)
    if found is None:
        return frozenset()
    i, _ = found
    below = graph.ancestors[i] - {i}
    bounded = [j for j in graph.tightened if j in below]
    last = {j for j in bounded if not any(j != k and j in graph.ancestors[k] for k in bounded)}
    inner = {k for k in below if last & graph.ancestors[k]}
    return frozenset(last) if all(u in below or u == i for k in inner for u in graph.users[k]) else frozenset()


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


def searched(attempts: Sequence[Attempt], deadline: Deadline) -> list[Side]:
    """Those of the sides that a search proves, side by side, each in a few even shares of the time left.

    As many shares as failures are allowed are counted for others that will be tried instead.
    """
    proved: list[Side] = []

    def search(part: Sequence[Attempt]) -> None:
        failures = 0
        for k, attempt in enumerate(part):
            if deadline.passed() or failures == FAILURES:
                return
            share = SHARES * deadline.remaining() / (len(part) - k + FAILURES - failures)
            with torch.enable_grad():
                if splits_prove(attempt, deadline.within(share)):
                    proved.append(attempt.side)
                else:
                    failures += 1

    side_by_side(search, attempts)
    return proved
