"""Bounds of the nodes that feed nonlinear operators, which every linear relaxation needs first.

Intervals are propagated through the whole graph; where a nonlinear operator needs them tighter,
they are intersected with forward or backward linear bounds. With few inputs the forward pass comes
first, as it costs no more than a few rows. Backward rows are spent only on entries whose relaxation
would still change (a ReLU of known sign needs nothing), and never where they cannot be tighter than
what is known: where the interval is exact, or after a forward pass over one nonlinear layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import Gaps, LinearBound, Pushed, backward, one_hot_rows, push, with_negated
from lirpa_verify.bounds.fields import fields_of
from lirpa_verify.bounds.forward import concretise, forms_step, varying_forms
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, margin, outward
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.bounds.tiles import best_size
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.window import cropped
from lirpa_verify.operators.base import Interval, Lines, Slopes, flat
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.rearrange import Move
from lirpa_verify.operators.transforms import holds

Method = Literal["ibp", "forward", "crown"]
CHUNK_BYTES = 2**23  # of coefficients at one node in a backward pass: less takes longer to start than to compute
OWN_ROW_COST = 1.2  # a row with coefficients of its own costs this much more than one that all boxes share
SMALLEST_GROUP, GROUP_SPREAD = 16, 0.7  # boxes taken together, and how few rows one may want of the most
PREFIX_CHUNKS = 8  # rows pushed through the linear steps below a node at once, in units of a chunk
NEVER = Deadline(math.inf)
FORWARD_INPUTS = (
    64  # varying in one box: a forward pass costs as much as that many rows of a backward pass over one layer
)


def bound_nodes(
    graph: Graph,
    box: Interval,
    method: Method = "crown",
    known: Mapping[int, Interval] | None = None,
    slopes: Mapping[int, Mapping[int, Slopes]] | None = None,
    until: Deadline = NEVER,
    signs_first: bool = False,
) -> list[Interval]:
    """Bounds of every node, tight at the nodes that nonlinear operators take.

    Args:
        graph: the network.
        box: ``(batch, inputs)`` ends.
        method: what tightens the intervals: nothing, forward or backward linear bounds.
        known: bounds of some nodes that hold as well (of a parent box, say).
        slopes: free slopes per start node and nonlinear node, for `method` crown.
        until: when to be content with interval bounds for what is left.
        signs_first: for a single box: half the work where few signs stay undecided; the side of an interval
            that does not matter then may be a little wider.

    Returns:
        One interval per node, ``(batch or 1, *node)``.
    """
    if signs_first and len(box.lower) != 1:
        raise ValueError("signs come first in a single box only")
    known = known or {}
    slopes = slopes or {}
    ahead = method == "forward" or (method == "crown" and int((box.upper > box.lower).sum(1).max()) <= FORWARD_INPUTS)
    varying, first = varying_forms(graph, box) if ahead else (box, None)
    values, forms = [box], [] if first is None else [first]
    centre = centres(graph, box) if signs_first and not slopes else {}
    depth = nonlinear_depth(graph)
    defaults: dict[int, Slopes] = {}
    lines: dict[int, Lines] = {}
    for i, node in enumerate(graph.nodes[1:], start=1):
        value = interval_step(node, values)
        if i in known:
            value = intersect(value, known[i])
        if node.operator.bounded and method != "ibp" and len(node.arguments) == 1:
            relaxation = node.operator.relaxation(values[node.arguments[0]], None)
            if relaxation is not None:
                lines[i] = relaxation
        if ahead:
            forms.append(forms_step(graph, i, forms, values, varying, lines.get(i)))
        if ahead and i in graph.tightened:
            value = intersect(value, outward(concretise(forms[i], varying)))
        if i in graph.tightened and method == "crown" and not (ahead and depth[i] <= 1 and i not in slopes):
            own, mask = slopes.get(i), undecided_entries(graph, i, value)
            size = None if own else best_size(graph, i, int(mask.any(0).sum()))
            if size is None:
                start = centre.get(i)
                value = tighten(graph, i, box, value, values, own or defaults, {} if own else lines, mask, until, start)
            else:
                value = tighten_in_windows(graph, i, box, value, values, lines, mask, size, until, centre.get(i))
        values.append(value)
        if node.operator.bounded and method == "crown" and i not in lines:
            default = node.operator.default_slopes(*(values[a] for a in node.arguments))
            if default is not None:
                defaults[i] = default
    return values


def centres(graph: Graph, box: Interval) -> dict[int, Tensor]:
    """In the middle of a single box, the nodes of whose entries the signs are all that is wanted: (1, *node)."""
    wanted = [i for i in graph.tightened if signs_suffice(graph, i)]
    values = graph.evaluate((box.lower + box.upper) / 2) if wanted else []
    return {i: values[i] for i in wanted}


def nonlinear_depth(graph: Graph) -> list[int]:
    """Per node the number of nonlinear operators on the longest path to it."""
    depth = [0]
    for node in graph.nodes[1:]:
        depth.append(max((depth[a] for a in node.arguments), default=0) + node.operator.bounded)
    return depth


def tighten(
    graph: Graph,
    i: int,
    box: Interval,
    value: Interval,
    values: list[Interval],
    slopes: Mapping[int, Slopes],
    lines: Mapping[int, Lines],
    mask: Tensor,
    until: Deadline = NEVER,
    centre: Tensor | None = None,
) -> Interval:
    """Intersects the bounds of node i with backward bounds of its entries in a mask (batch or 1, entries).

    Boxes of a batch differ in what is undecided. Either all boxes get the rows that any of them
    wants, or boxes that want about equally many rows are taken together, each with rows of its own.
    Where signs are all that is wanted, and the node's values somewhere in the box are given (`centre`), one row
    per entry comes first: the bound on the side that would exclude the other sign, with one of the other side that
    is nearly as tight as a row of its own while few entries below are undecided.
    """
    mask = mask.expand(box.lower.shape[0], -1)
    union = mask.any(0).nonzero().flatten()
    if len(union) == 0:
        return value
    batch, shape = box.lower.shape[0], graph.nodes[i].shape
    lower, upper = (flat(end.expand(batch, *shape), 1).clone() for end in value)
    known = sizes(graph, [*values, value])
    gaps = None if centre is None else gaps_of(graph, i, values, lines)
    room = rows_per_chunk(graph, i, box.lower.element_size())
    for part in union.split(PREFIX_CHUNKS * room):
        if until.passed():
            break
        start = pushed_to_nonlinear(graph, i, part, known, box.lower)
        work = Work(graph, i, box, values, slopes, lines, start, known)
        if centre is None or gaps is None:
            tighten_entries(work, mask, part, room // 2, lower, upper, until)
            continue
        side = torch.where(centre.flatten()[part] > 0, 1.0, -1.0).to(box.lower)
        tighten_entries(replace(work, gaps=gaps, side=side), mask, part, room, lower, upper, until)
        found = Interval(*(end.reshape(batch, *shape) for end in (lower, upper)))
        left = mask & undecided_entries(graph, i, found)
        part = part[left[:, part].any(0)]
        if len(part):
            start = pushed_to_nonlinear(graph, i, part, known, box.lower)
            side = torch.where(centre.flatten()[part] > 0, -1.0, 1.0).to(box.lower)
            work = replace(work, start=start, gaps=gaps, side=side)
            tighten_entries(work, left, part, room, lower, upper, until)
    return Interval(lower.reshape(batch, *shape), upper.reshape(batch, *shape))


def gaps_of(graph: Graph, i: int, values: list[Interval], lines: Mapping[int, Lines]) -> dict[int, Gaps] | None:
    """Of all nonlinear operators below node i over a single box; None where some are not functions of one argument."""
    found = {}
    for j in graph.ancestors[i] - {i}:
        node = graph.nodes[j]
        if not node.operator.bounded:
            continue
        gaps = node.operator.gaps(values[node.arguments[0]], None) if j in lines else None
        if gaps is None:
            return None
        below, above = (gap.flatten() for gap in gaps)
        index = ((below != 0) | (above != 0)).nonzero().flatten()  # also where one is no number
        found[j] = Gaps(index, below[index], above[index])
    return found


def pushed_to_nonlinear(graph: Graph, i: int, entries: Tensor, known: Mapping[int, Tensor], like: Tensor) -> Pushed:
    """Rows that pick entries of node i, pushed through what is linear below it; `known` are its sizes."""
    node = graph.nodes[i]

    def stop(a: int) -> bool:
        return graph.nodes[a].operator.bounded

    if not isinstance(node.operator, Convolution) or node.operator.transposed or node.operator.groups > 1:
        return push(graph, {i: one_hot_rows(entries, node.shape, like)}, {}, {}, stop, sizes=known)
    pushed = push(graph, {node.arguments[0]: node.operator.rows_of(entries)}, {}, {}, stop, sizes=known)
    constant = node.operator.constant()
    if constant is not None:
        offset = constant.expand(node.shape).reshape(-1)[entries]
        pushed = replace(pushed, offset=pushed.offset + offset)
    return replace(pushed, size=pushed.size + known[i].flatten(1)[:, entries])


def tighten_in_windows(
    graph: Graph,
    i: int,
    box: Interval,
    value: Interval,
    values: list[Interval],
    lines: Mapping[int, Lines],
    mask: Tensor,
    size: int,
    until: Deadline,
    centre: Tensor | None = None,
) -> Interval:
    """As `tighten`, window by window, each with the part of the graph that it depends on."""
    batch, shape = box.lower.shape[0], graph.nodes[i].shape
    lower, upper = (end.expand(batch, *shape).clone() for end in value)
    wanted = mask.expand(batch, -1).unflatten(1, shape)
    for field in fields_of(graph, i, box, [*values, value], wanted, size):
        if until.passed():
            break
        narrow = {
            j: field.part.take_lines(k, lines[k])
            for j, k in enumerate(field.part.source)
            if k is not None and k in lines
        }
        *below, last = field.values
        here = None if centre is None else cropped(centre, field.window, 1)
        output = field.graph.output
        found = tighten(field.graph, output, below[0], last, below, {}, narrow, field.wanted, until, here)
        cropped(lower, field.window, 1).copy_(found.lower)
        cropped(upper, field.window, 1).copy_(found.upper)
    return Interval(lower, upper)


def tighten_entries(
    work: Work, mask: Tensor, union: Tensor, room: int, lower: Tensor, upper: Tensor, until: Deadline
) -> None:
    """Bounds the entries `union` where `mask` wants them, and takes what is tighter into `lower` and `upper`."""
    batch = len(mask)
    groups = alike(mask[:, union].sum(1))
    if OWN_ROW_COST * sum(len(who) * most for who, most in groups) >= batch * len(union):
        for who in torch.arange(batch, device=mask.device).split(max(1, room // len(union))):
            for which in torch.arange(len(union), device=mask.device).split(max(1, room)):
                if until.passed():
                    return
                bounds = work.bound_all(slice(int(who[0]), int(who[-1]) + 1), which)
                absorb(lower, upper, mask, who.unsqueeze(1), union[which], bounds)
        return
    place = torch.zeros_like(mask[0], dtype=torch.int64)
    place[union] = torch.arange(len(union), device=union.device)
    for members, most in groups:
        for who in members.split(max(1, room // most)):
            # Those that want fewer rows than others of the group have some decided entries bounded too.
            entry = union[mask[who][:, union].to(torch.uint8).argsort(1, descending=True)[:, :most]]
            for part in entry.split(max(1, room), 1):
                if until.passed():
                    return
                absorb(lower, upper, mask, who.unsqueeze(1), part, work.bound_own(who, place[part]))


def alike(count: Tensor) -> list[tuple[Tensor, int]]:
    """Boxes with nearly as many undecided entries, and the most that any of them has."""
    ordered, order = count.sort(descending=True)
    wanting = int((ordered > 0).sum())
    groups, begin = [], 0
    while begin < wanting:
        most = int(ordered[begin])
        end = min(wanting, max(begin + SMALLEST_GROUP, int((ordered > GROUP_SPREAD * most).sum())))
        groups.append((order[begin:end], most))
        begin = end
    return groups


def absorb(lower: Tensor, upper: Tensor, mask: Tensor, who: Tensor, entry: Tensor, bounds: Interval) -> None:
    """Intersects entries of some boxes, in place, with new bounds of them: (boxes, entries).

    Only undecided ones, so that the result for a box does not depend on its companions.
    """
    wanted, low, high = mask[who, entry], lower[who, entry], upper[who, entry]
    lower[who, entry] = torch.where(wanted, torch.fmax(low, bounds.lower), low)
    upper[who, entry] = torch.where(wanted, torch.fmin(high, bounds.upper), high)


@dataclass(frozen=True)
class Work:
    """Backward bounds of entries of node i, their coefficients already pushed through what is linear below it."""

    graph: Graph
    i: int
    box: Interval
    values: list[Interval]
    slopes: Mapping[int, Slopes]
    lines: Mapping[int, Lines]  # of nodes whose relaxation is the same whatever the start
    start: Pushed  # (1, wanted entries, *node)
    sizes: Mapping[int, Tensor]
    gaps: Mapping[int, Gaps] | None = None  # with these, rows of one side bound the other one too
    side: Tensor | None = None  # (wanted entries,) 1 for rows of lower bounds, -1 for those of upper bounds

    def bound_all(self, who: slice, which: Tensor) -> Interval:
        """Bounds of some of the wanted entries in every one of some boxes: (boxes, entries)."""
        start = {a: rows[:, which] for a, rows in self.start.coefficients.items()}
        offset, size = self.start.offset[:, which], self.first_size()[:, which]
        if self.side is not None:
            return self.bound_one_side(start, offset, size, self.side[which].unsqueeze(0), who)
        return self.bound(start, offset, size, who)

    def bound_own(self, who: Tensor, which: Tensor) -> Interval:
        """Bounds of entries ``which`` (boxes, entries) of the wanted ones, other entries in every box."""
        start = {a: rows[0][which] for a, rows in self.start.coefficients.items()}
        offset, size = self.start.offset[0][which], self.first_size()[0][which]
        if self.side is not None:
            return self.bound_one_side(start, offset, size, self.side[which], who)
        return self.bound(start, offset, size, who)

    def first_size(self) -> Tensor:
        """(1, wanted entries): what the first steps have added up, in the box where that is most."""
        return (self.start.size + torch.zeros_like(self.start.offset)).amax(0, keepdim=True)

    def bound(self, start: Mapping[int, Tensor], offset: Tensor, size: Tensor, who: Tensor | slice) -> Interval:
        box, linear = self.backward({a: with_negated(coefficients) for a, coefficients in start.items()}, who)
        bound = linear.lower(box) - margin(linear.magnitude(box))
        half = bound.shape[1] // 2
        pad = margin(size + offset.abs())
        return outward(Interval(bound[:, :half] + offset - pad, offset - bound[:, half:] + pad))

    def bound_one_side(
        self, start: Mapping[int, Tensor], offset: Tensor, size: Tensor, side: Tensor, who: Tensor | slice
    ) -> Interval:
        """Bounds from one row per entry, which is ``side`` (batch or 1, entries) times the entry."""
        rows = {a: c * side.reshape(*side.shape, *[1] * (c.dim() - 2)) for a, c in start.items()}
        box, linear = self.backward(rows, who)
        pad = margin(linear.magnitude(box) + linear.spread) + margin(size + offset.abs())
        low, high = linear.lower(box) - pad, linear.upper(box) + pad
        as_is = side > 0
        return outward(Interval(offset + torch.where(as_is, low, -high), offset + torch.where(as_is, high, -low)))

    def backward(self, rows: Mapping[int, Tensor], who: Tensor | slice) -> tuple[Interval, LinearBound]:
        """The boxes, and linear bounds of the rows over them."""

        def chosen(t: Tensor) -> Tensor:
            return t if t.shape[0] == 1 else t[who]

        below = self.graph.ancestors[self.i]
        needed = {a for b in below if self.graph.nodes[b].operator.bounded for a in self.graph.nodes[b].arguments}
        intervals = {a: Interval(chosen(self.values[a].lower), chosen(self.values[a].upper)) for a in needed}
        slopes = {a: Slopes(chosen(s.lower), chosen(s.upper)) for a, s in self.slopes.items() if a in below}
        lines = {a: r.select(chosen) for a, r in self.lines.items() if a in below}
        known = {a: chosen(s) for a, s in self.sizes.items() if a in below}
        linear = backward(self.graph, rows, intervals, slopes, sizes=known, lines=lines, gaps=self.gaps)
        return Interval(self.box.lower[who], self.box.upper[who]), linear


def undecided_entries(graph: Graph, i: int, value: Interval) -> Tensor:
    """(batch or 1, entries): the entries of node i that some nonlinear user wants tighter, of it or of its images."""
    mask = torch.zeros_like(value.lower, dtype=torch.bool)
    for user in graph.users[i]:
        node = graph.nodes[user]
        if node.operator.exact_image:
            image = node.operator.interval(value)
            wanted = undecided_entries(graph, user, image).reshape(image.lower.shape)
            if holds(wanted.any()):
                mask |= node.operator.needed(wanted, value)
        for position, argument in enumerate(node.arguments):
            if argument == i and node.operator.bounded:
                mask |= node.operator.undecided(value, position)
    return mask.reshape(len(mask), -1)


def signs_suffice(graph: Graph, i: int) -> bool:
    """Whether all that is wanted of node i is the signs of its entries."""
    for user in graph.users[i]:
        operator = graph.nodes[user].operator
        if isinstance(operator, Move):
            if not signs_suffice(graph, user):
                return False
        elif (operator.bounded and not operator.sign_decides) or wanted_beyond(graph, user):
            return False
    return True


def wanted_beyond(graph: Graph, i: int) -> bool:
    """Whether bounds of node i are wanted that are read off the node below it."""
    return graph.nodes[i].operator.exact_image and any(
        not graph.nodes[u].operator.settled or wanted_beyond(graph, u) for u in graph.users[i]
    )


def rows_per_chunk(graph: Graph, i: int, element: int) -> int:
    """How many rows, of all boxes together, a backward pass from node i should carry at once."""
    widest = max(width(graph, a) for a in graph.ancestors[i])
    return max(2, CHUNK_BYTES // max(1, widest * element))


def width(graph: Graph, i: int) -> int:
    """Entries that one row needs at a node; a convolution in float64 unfolds its argument on the way."""
    operator = graph.nodes[i].operator
    return operator.unfolded if isinstance(operator, Convolution) else graph.nodes[i].size
