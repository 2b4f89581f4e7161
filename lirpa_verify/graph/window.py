"""The part of a convolutional graph that a window of a node depends on, as a graph of its own.

Rows that pick entries of a small window have coefficients within its receptive field only. A graph that is
cut to that field gives them the same bounds for a fraction of the work (what patches do in auto_LiRPA,
arXiv:2002.12920, but with every rule as it is).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.base import Lines
from lirpa_verify.operators.constant import Constant, Input
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.embed import Embed
from lirpa_verify.operators.maximum import Maximum
from lirpa_verify.operators.pad import Pad
from lirpa_verify.operators.rearrange import Concat, Gather, Reshape
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.univariate import Univariate
from lirpa_verify.operators.unravelled import unravelled

Window = tuple[tuple[int, int], ...]  # first and last (exclusive) place along each dimension of space
FIRST = 2  # dimensions of a node before those of space: model batch and channels
ENTRYWISE = Univariate | ReLU | Scale | Combine


@dataclass(frozen=True)
class Cut:
    """A graph cut to the field of a window of its output."""

    graph: Graph
    source: tuple[int | None, ...]  # per node the original's number; None for nodes that were put in between
    windows: dict[int, Window]  # of original nodes; those without one are whole

    def take(self, node: int, values: Tensor, leading: int = 1) -> Tensor:
        """The kept part of what the original node has (after `leading` dimensions)."""
        window = self.windows.get(node)
        return values if window is None else cropped(values, window, leading)

    def take_lines(self, node: int, lines: Lines) -> Lines:
        """The kept part of the original node's relaxation."""
        return lines.select(lambda values: self.take(node, values, 2))


def cropped(values: Tensor, window: Window, leading: int) -> Tensor:
    for d, (start, stop) in enumerate(window):
        place = leading + FIRST + d
        if values.shape[place] > 1:
            values = values.narrow(place, start, stop - start)
    return values


def fields(graph: Graph, i: int, window: Window) -> dict[int, Window] | None:
    """The windows of all nodes that a window of node i depends on, but for those that are needed whole.

    None where the window depends on nothing but padding.
    """
    found: dict[int, Window] = {i: window}
    whole: set[int] = set()
    for j in range(i, 0, -1):
        here, node = found.get(j), graph.nodes[j]
        if here is None and j not in whole:
            continue
        if here is not None and j in whole:
            del found[j]
            here = None
        below = None if here is None else window_below(node, here)
        if below is not None and any(stop <= start for start, stop in below):
            return None
        for a in node.arguments:
            if below is None:
                whole.add(a)
            else:
                found[a] = joined(found[a], below) if a in found else below
    return found


def joined(a: Window, b: Window) -> Window:
    return tuple((min(p[0], q[0]), max(p[1], q[1])) for p, q in zip(a, b, strict=True))


def window_below(node: Node, window: Window) -> Window | None:
    """What of the arguments a window of a node needs; None for all of them."""
    operator = node.operator
    if isinstance(operator, ENTRYWISE | Maximum) or (isinstance(operator, Concat) and operator.dimension < FIRST):
        return window
    if isinstance(operator, Convolution):
        reach = [reach_below(operator, d, *ends) for d, ends in enumerate(window)]
        limits = operator.argument_shape[FIRST:]
        return tuple((max(0, start), min(n, stop)) for (start, stop), n in zip(reach, limits, strict=True))
    if isinstance(operator, Pad) and len(operator.amounts) <= 2 * len(window):
        limits = tuple(
            n - first - last for n, (first, last) in zip(node.shape[FIRST:], added(operator, len(window)), strict=False)
        )
        return tuple(
            (max(0, start - first), min(n, stop - first))
            for (start, stop), (first, _), n in zip(window, added(operator, len(window)), limits, strict=True)
        )
    if isinstance(operator, Gather) and len(operator.argument_shape) == FIRST + len(window):
        index = cropped(operator.index.reshape(node.shape), window, 0)
        if bool((index < 0).all()):
            return None
        places = unravelled(index[index >= 0], operator.argument_shape)[FIRST:]
        return tuple((int(place.min()), int(place.max()) + 1) for place in places)
    return None


def added(operator: Pad, dimensions: int) -> list[tuple[int, int]]:
    """What is added before and after along each dimension of space, the first one first."""
    pairs = list(zip(operator.amounts[::2], operator.amounts[1::2], strict=True))
    return [(0, 0)] * (dimensions - len(pairs)) + pairs[::-1]


def reach_below(operator: Convolution, d: int, start: int, stop: int) -> tuple[int, int]:
    """The places of the argument along a dimension that some places of the result depend on, padding included."""
    stride, padding = operator.stride[d], operator.padding[d]
    span = operator.dilation[d] * (operator.weight.shape[FIRST + d] - 1)
    if operator.transposed:
        return -((span - start - padding) // stride), (stop - 1 + padding) // stride + 1
    return start * stride - padding, (stop - 1) * stride - padding + span + 1


def cut(graph: Graph, i: int, windows: dict[int, Window]) -> Cut:
    """The graph of what node i's window depends on (see `fields`)."""
    nodes: list[Node] = []
    source: list[int | None] = []
    position: dict[int, int] = {}
    for j in sorted(graph.ancestors[i] | {0}):
        old = graph.nodes[j]
        arguments = tuple(position[a] for a in old.arguments)
        window = windows.get(j)
        new = [replace(old, arguments=arguments)] if window is None else narrowed(graph, j, windows, nodes, arguments)
        nodes.extend(new)
        source.extend([None] * (len(new) - 1) + [j])
        position[j] = len(nodes) - 1
    return Cut(Graph(tuple(nodes)), tuple(source), windows)


def of_used_inputs(graph: Graph) -> tuple[Graph, Tensor]:
    """The graph as a function of the inputs that it uses, and which these are; of all where it is no image of them."""
    entries = [j for j, node in enumerate(graph.nodes) if 0 in node.arguments]
    every = torch.arange(graph.n_inputs)
    embeds = {j: embed for j in entries if isinstance(embed := graph.nodes[j].operator, Embed)}
    if len(embeds) < len(entries):
        return graph, every
    nodes, used = list(graph.nodes), torch.zeros(graph.n_inputs + 1, dtype=torch.bool)
    for embed in embeds.values():
        used[embed.index] = True  # -1 is the last one
    kept = used[:-1].nonzero().flatten()
    if len(kept) == 0:
        return graph, every
    place = torch.full((graph.n_inputs + 1,), -1)
    place[kept] = torch.arange(len(kept))
    nodes[0] = replace(nodes[0], shape=(len(kept),))
    for j, embed in embeds.items():
        nodes[j] = replace(nodes[j], operator=replace(embed, index=place[embed.index], inputs=len(kept)))
    return Graph(tuple(nodes)), kept


def narrowed(
    graph: Graph, j: int, windows: dict[int, Window], nodes: list[Node], arguments: tuple[int, ...]
) -> list[Node]:
    """The nodes that make the window of node j from what is left of its arguments."""
    old, window = graph.nodes[j], windows[j]
    operator, shape, at = old.operator, resized(old.shape, window), len(nodes)
    if isinstance(operator, Constant):
        return [Node(Constant(cropped(operator.value.expand(old.shape), window, 0)), (), shape, old.name)]
    if isinstance(operator, Embed):
        index, values = (
            cropped(t.reshape(old.shape), window, 0).reshape(-1) for t in (operator.index, operator.values)
        )
        return [Node(Embed(index, values, operator.inputs, shape), arguments, shape, old.name)]
    if isinstance(operator, Reshape) and old.arguments == (0,):
        index = cropped(torch.arange(old.size).reshape(old.shape), window, 0).reshape(-1)
        values = torch.zeros(len(index), dtype=torch.float64)
        return [Node(Embed(index, values, old.size, shape), arguments, shape, old.name)]
    wanted = window_below(old, window)
    if wanted is None:  # needs all of its arguments
        return [replace(old, arguments=arguments), Node(Pad(border(window, old.shape)), (at,), shape, old.name)]
    have = [windows.get(a, everything(graph.nodes[a].shape, len(window))) for a in old.arguments]
    if isinstance(operator, Convolution):
        return convolved(old, operator, window, have[0], at, arguments)
    if isinstance(operator, Gather):
        index = cropped(operator.index.reshape(old.shape), window, 0)
        return [Node(renumbered(operator, index, nodes[arguments[0]].shape, have[0]), arguments, shape, old.name)]
    if isinstance(operator, Pad):
        needed = [
            (start - n, stop - n) for (start, stop), (n, _) in zip(window, added(operator, len(window)), strict=True)
        ]
        around = [(first - start, stop - last) for (start, stop), (first, last) in zip(needed, have[0], strict=True)]
        return [Node(Pad(tuple(n for pair in reversed(around) for n in pair)), arguments, shape, old.name)]
    if isinstance(operator, Scale):
        constants = [
            None if t is None else constant_part(t, old.shape, window) for t in (operator.factor, operator.shift)
        ]
        operator = Scale(*constants)
    steps, cuts = [], list(arguments)
    for k, (a, part) in enumerate(zip(old.arguments, have, strict=True)):
        if part != wanted:  # another user needs more of it
            inner = tuple((start - p[0], stop - p[0]) for (start, stop), p in zip(wanted, part, strict=True))
            before = nodes[arguments[k]].shape
            steps.append(Node(Pad(border(inner, before)), (arguments[k],), resized(before, inner), graph.nodes[a].name))
            cuts[k] = at + len(steps) - 1
    return [*steps, Node(operator, tuple(cuts), shape, old.name)]


def everything(shape: tuple[int, ...], dimensions: int) -> Window:
    return tuple((0, n) for n in shape[FIRST : FIRST + dimensions])


def resized(shape: tuple[int, ...], window: Window) -> tuple[int, ...]:
    space = tuple(stop - start for start, stop in window)
    return (*shape[:FIRST], *space, *shape[FIRST + len(window) :])


def border(window: Window, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Amounts for `Pad` that leave the window of a node."""
    kept = [(-start, stop - n) for (start, stop), n in zip(window, shape[FIRST:], strict=False)]
    rest = [(0, 0)] * (len(shape) - FIRST - len(window))
    return tuple(n for pair in reversed([*kept, *rest]) for n in pair)


def constant_part(value: Tensor, shape: tuple[int, ...], window: Window) -> Tensor:
    """The window of a constant that is broadcast to the node."""
    full = value.reshape(*[1] * (len(shape) - value.dim()), *value.shape)
    for d, (start, stop) in enumerate(window):
        if full.shape[FIRST + d] > 1:
            full = full.narrow(FIRST + d, start, stop - start)
    return full


def renumbered(operator: Gather, index: Tensor, shape: tuple[int, ...], window: Window) -> Gather:
    """The same rearrangement of what is left of the argument."""
    places = list(unravelled(index.clamp(min=0), operator.argument_shape))
    for d, (start, _) in enumerate(window):
        places[FIRST + d] = places[FIRST + d] - start
    number = torch.zeros_like(index)
    for place, n in zip(places, shape, strict=True):
        number = number * n + place
    return Gather(torch.where(index >= 0, number, -1).reshape(-1), shape, tuple(index.shape))


def convolved(
    old: Node, operator: Convolution, window: Window, below: Window, at: int, arguments: tuple[int, ...]
) -> list[Node]:
    """A convolution without padding of its own: what it needs is put around what it has of its argument."""
    zero, size, shape = (0,) * len(window), resized(old.shape, window), resized(operator.argument_shape, below)
    if not operator.transposed:
        reach = [reach_below(operator, d, *ends) for d, ends in enumerate(window)]
        around = tuple(
            n for (start, stop), (first, last) in zip(reversed(reach), reversed(below), strict=True)
            for n in (first - start, stop - last)
        )  # fmt: skip
        padded = (*shape[:FIRST], *(stop - start for start, stop in reach))
        plain = replace(operator, padding=zero, argument_shape=padded)
        steps = [Node(Pad(around), arguments, padded, old.name)] if any(around) else []
        return [*steps, Node(plain, (at,) if steps else arguments, size, old.name)]
    plain = replace(operator, padding=zero, output_padding=zero, bias=None, argument_shape=shape)
    space, around_ends = [], []
    for d, ((start, stop), (first, last)) in enumerate(zip(window, below, strict=True)):
        span = operator.dilation[d] * (operator.weight.shape[FIRST + d] - 1)
        made, length = (
            first * operator.stride[d] - operator.padding[d],
            (last - first - 1) * operator.stride[d] + span + 1,
        )
        space.append(length)
        around_ends.append((made - start, stop - made - length))
    full = (*old.shape[:FIRST], *space)
    amounts = tuple(n for pair in reversed(around_ends) for n in pair)
    steps = [Node(plain, arguments, full, old.name), Node(Pad(amounts), (at,), size, old.name)]
    if operator.bias is not None:
        bias = operator.bias.reshape(-1, *[1] * len(window))
        steps.append(Node(Scale(None, bias), (at + 1,), size, old.name))
    return steps


def work(graph: Graph, windows: dict[int, Window], ancestors: Iterable[int]) -> float:
    """Multiplications that a row costs in the convolutions of a graph cut to windows."""
    total = 0.0
    for j in ancestors:
        operator = graph.nodes[j].operator
        if isinstance(operator, Convolution):
            space = [stop - start for start, stop in windows[j]] if j in windows else graph.nodes[j].shape[FIRST:]
            scale = math.prod(operator.stride) if operator.transposed else 1
            total += operator.weight.numel() * math.prod(space) / scale
        elif not isinstance(operator, Input):
            space = resized(graph.nodes[j].shape, windows[j]) if j in windows else graph.nodes[j].shape
            total += 4 * math.prod(space)
    return total
