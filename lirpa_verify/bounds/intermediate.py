"""Bounds of the nodes that feed nonlinear operators, which every linear relaxation needs first.

Intervals are propagated through the whole graph; where a nonlinear operator needs them tighter,
they are intersected with forward or backward linear bounds. With few inputs the forward pass comes
first, as it costs no more than a few rows. Backward rows are spent only on entries whose relaxation
would still change (a ReLU of known sign needs nothing), and never where they cannot be tighter than
what is known: where the interval is exact, or after a forward pass over one nonlinear layer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import Gaps, Pushed, one_hot_rows, push
from lirpa_verify.bounds.entry_rows import Work, tighten_entries
from lirpa_verify.bounds.fields import fields_of
from lirpa_verify.bounds.forward import concretise, forms_step, varying_forms
from lirpa_verify.bounds.interval import interval_step
from lirpa_verify.bounds.rounding import intersect, outward
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.bounds.tiles import best_size, tiling
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.window import FIRST, Window, cropped
from lirpa_verify.operators.base import Interval, Lines, Slopes, flat
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.rearrange import Move
from lirpa_verify.operators.transforms import holds
from lirpa_verify.threads import side_by_side

Method = Literal["ibp", "forward", "crown"]
CHUNK_BYTES = 2**23  # of coefficients at one node in a backward pass: less takes longer to start than to compute
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
    wanted: Mapping[int, Tensor] | None = None,
    one_sided: Collection[int] = (),
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
        wanted: per node which entries (batch or 1, entries) get backward bounds, if they are undecided; else all do.
        one_sided: with `signs_first`, nodes that are content with the first rows.

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
            if wanted is not None:
                mask = mask & wanted[i] if i in wanted else torch.zeros_like(mask)
            size = None if own else best_size(graph, i, int(mask.any(0).sum()))
            first_only = i in one_sided
            if size is None:
                free, fixed = (own, {}) if own else (defaults, lines)
                value = tighten(graph, i, box, value, values, free, fixed, mask, until, centre.get(i), first_only)
            else:
                here = centre.get(i)
                value = tighten_in_windows(graph, i, box, value, values, lines, mask, size, until, here, first_only)
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
    first_only: bool = False,
) -> Interval:
    """Intersects the bounds of node i with backward bounds of its entries in a mask (batch or 1, entries).

    Boxes of a batch differ in what is undecided. Either all boxes get the rows that any of them
    wants, or boxes that want about equally many rows are taken together, each with rows of its own.
    Where signs are all that is wanted, and the node's values somewhere in the box are given (`centre`), one row
    per entry comes first: the bound on the side that would exclude the other sign, with one of the other side that
    is nearly as tight as a row of its own while few entries below are undecided. Entries that these leave undecided get
    the other row too, unless the first ones are to do.
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
        left = mask & (lower < 0) & (upper > 0)  # cut graphs have no users of the node to ask
        part = part[left[:, part].any(0)]
        if len(part) and not first_only:
            start = pushed_to_nonlinear(graph, i, part, known, box.lower)
            side = torch.where(centre.flatten()[part] > 0, -1.0, 1.0).to(box.lower)
            work = replace(work, start=start, gaps=gaps, side=side)
            tighten_entries(work, left, part, room, lower, upper, until)
    return Interval(lower.reshape(batch, *shape), upper.reshape(batch, *shape))


def gaps_of(graph: Graph, i: int, values: list[Interval], lines: Mapping[int, Lines]) -> dict[int, Gaps] | None:
    """Of all nonlinear operators that lead to node i, its own included, over a single box.

    None where some are not functions of one argument.
    """
    found = {}
    for j in graph.ancestors[i]:
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
    first_only: bool = False,
) -> Interval:
    """As `tighten`, window by window, each with the part of the graph that it depends on.

    With a centre (no gradients are wanted) windows are bounded side by side, one thread each.
    """
    batch, shape = box.lower.shape[0], graph.nodes[i].shape
    lower, upper = (end.expand(batch, *shape).clone() for end in value)
    wanted = mask.expand(batch, -1).unflatten(1, shape)

    def bound_windows(windows: Iterable[Window]) -> None:
        for field in fields_of(graph, i, box, [*values, value], wanted, windows):
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
            found = tighten(
                field.graph, output, below[0], last, below, {}, narrow, field.wanted, until, here, first_only
            )
            cropped(lower, field.window, 1).copy_(found.lower)
            cropped(upper, field.window, 1).copy_(found.upper)

    windows = list(tiling(shape[FIRST:], size))
    if centre is None or box.lower.device.type != "cpu":
        bound_windows(windows)
    else:
        side_by_side(bound_windows, windows)
    return Interval(lower, upper)


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
