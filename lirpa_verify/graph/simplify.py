"""Rewrites of a graph that keep its function: fewer, larger linear steps.

Each rule looks at one node and the nodes below it and returns what to put in its place. Rules are
tried node by node in topological order until nothing changes. A node below is absorbed only when
nobody else uses it, so that no work is done twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.graph.cancelling import cancels, magnitude
from lirpa_verify.graph.channels import products_of_channels
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.graph.mirror import merge_mirrored
from lirpa_verify.graph.multiples import merge_multiples
from lirpa_verify.operators.arithmetic import Scale
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.constant import Constant, Input
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.embed import Embed
from lirpa_verify.operators.pad import Pad
from lirpa_verify.operators.rearrange import Gather, Permute, Reshape
from lirpa_verify.operators.sparse_dense import SPARSE_DENSITY, SPARSE_SIZE, SparseDense

Rule = Callable[[Node, tuple[Node, ...], tuple[bool, ...]], "Node | None"]


def simplify_structure(graph: Graph) -> Graph:
    """The same function with constants folded and rearrangements merged.

    What is merged does not depend on the values of constants, so that gradients with respect to them are right.
    """
    while True:
        rewritten = rewrite_once(graph, STRUCTURAL_RULES) or bypass_identities(graph)
        if rewritten is None:
            return graph
        graph = rewritten


def simplify(graph: Graph) -> Graph:
    """The same function with constants folded and neighbouring linear operators merged."""
    graph = products_of_channels(graph)
    while True:
        rewritten = rewrite_once(graph)
        if rewritten is None:
            merged = merge_multiples(graph)
            if merged is None:
                break
            rewritten = prune(list(merged.nodes))
        graph = rewritten
    graph = prune(list(merge_mirrored(graph).nodes))
    return rewrite_once(graph, (sparse_dense,)) or graph


def rewrite_once(graph: Graph, rules: tuple[Rule, ...] | None = None) -> Graph | None:
    """One sweep of all rules over all nodes; None when none applied."""
    nodes: list[Node] = []
    changed = False
    uses = [len(u) for u in graph.users]
    for node in graph.nodes:
        below = tuple(nodes[a] for a in node.arguments)
        sole = tuple(uses[a] == 1 for a in node.arguments)
        for rule in RULES if rules is None else rules:
            better = rule(node, below, sole)
            if better is not None:
                node, changed = better, True
                break
        nodes.append(node)
    if not changed:
        return bypass_identities(graph) if rules is None else None
    return prune(nodes)


def is_identity(node: Node) -> bool:
    if isinstance(node.operator, Pad):
        return not any(node.operator.amounts)
    return isinstance(node.operator, Reshape) and node.operator.argument_shape == node.shape


def bypass_identities(graph: Graph) -> Graph | None:
    """Points users of an identity at what it copies (the output node stays a node of its own)."""
    target = list(range(len(graph.nodes)))
    for i, node in enumerate(graph.nodes):
        if is_identity(node) and i < graph.output:
            target[i] = target[node.arguments[0]]
    if target == list(range(len(graph.nodes))):
        return None
    return prune([replace(n, arguments=tuple(target[a] for a in n.arguments)) for n in graph.nodes])


def prune(nodes: list[Node]) -> Graph:
    """Drops nodes that nothing needs; the last one is the output, node 0 the input."""
    needed = {0, len(nodes) - 1}
    for i in range(len(nodes) - 1, -1, -1):
        if i in needed:
            needed.update(nodes[i].arguments)
    order = sorted(needed)
    renumber = {old: new for new, old in enumerate(order)}
    return Graph(tuple(replace(nodes[i], arguments=tuple(renumber[a] for a in nodes[i].arguments)) for i in order))


def fold_constants(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """An operator of constants is a constant, where it has a value."""
    if isinstance(node.operator, Constant | Input) or not all(isinstance(b.operator, Constant) for b in below):
        return None
    arguments = [b.operator.forward() for b in below]
    if not node.operator.defined(*arguments):
        return None
    value = node.operator.forward(*arguments)[0]
    return Node(Constant(value), (), node.shape, node.name)


def merge_reshapes(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    if not (isinstance(node.operator, Reshape) and isinstance(below[0].operator, Reshape)):
        return None
    operator = Reshape(below[0].operator.argument_shape, node.shape)
    return replace(node, operator=operator, arguments=below[0].arguments)


def merge_gathers(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """A rearrangement of a rearrangement (or of a reshape) is one rearrangement."""
    if not isinstance(node.operator, Gather):
        return None
    inner, index = below[0].operator, node.operator.index
    if isinstance(inner, Reshape):
        return replace(node, operator=Gather(index, inner.argument_shape, node.shape), arguments=below[0].arguments)
    if isinstance(inner, Gather):
        composed = torch.where(index >= 0, inner.index[index.clamp(min=0)], -1)
        return replace(node, operator=Gather(composed, inner.argument_shape, node.shape), arguments=below[0].arguments)
    return None


def plain_gather(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """A rearrangement that keeps the order is a reshape; one that keeps nothing is zero."""
    if not isinstance(node.operator, Gather):
        return None
    index = node.operator.index
    if bool((index < 0).all()):
        return Node(Constant(torch.zeros(node.shape, dtype=torch.float64)), (), node.shape, node.name)
    if len(index) == below[0].size and torch.equal(index, torch.arange(len(index))):
        return replace(node, operator=Reshape(node.operator.argument_shape, node.shape))
    return None


def gather_embed(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """A rearrangement of an input of which only some entries vary; a constant where none does."""
    if not (isinstance(node.operator, Gather) and isinstance(below[0].operator, Embed)):
        return None
    inner, index = below[0].operator, node.operator.index
    varying = torch.where(index >= 0, inner.index[index.clamp(min=0)], -1)
    fixed = torch.where(index >= 0, inner.values[index.clamp(min=0)], 0.0)
    if bool((varying < 0).all()):
        return Node(Constant(fixed.reshape(node.shape)), (), node.shape, node.name)
    return replace(node, operator=Embed(varying, fixed, inner.inputs, node.shape), arguments=below[0].arguments)


def merge_embeds(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """Entries of an input of which only some vary."""
    if not (isinstance(node.operator, Embed) and isinstance(below[0].operator, Embed)):
        return None
    outer, inner = node.operator, below[0].operator
    taken, first = outer.index >= 0, outer.index.clamp(min=0)
    index = torch.where(taken, inner.index[first], -1)
    values = torch.where(taken, inner.values[first], outer.values)
    return replace(node, operator=Embed(index, values, inner.inputs, node.shape), arguments=below[0].arguments)


def reshape_embed(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    if not (isinstance(node.operator, Reshape) and isinstance(below[0].operator, Embed)):
        return None
    return replace(node, operator=replace(below[0].operator, shape=node.shape), arguments=below[0].arguments)


def merge_scales(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """Scaling after scaling, a matrix product or a convolution is part of it."""
    if not isinstance(node.operator, Scale) or not sole[0]:
        return None
    inner, factor, shift = below[0].operator, node.operator.factor, node.operator.shift
    merged: Operator | None = None
    if isinstance(inner, Scale):
        factors, before = times(inner.factor, factor), times_known(inner.shift, factor)
        size = torch.ones((), dtype=torch.float64) if factors is None else factors.abs()
        if not loses(size, before, shift):
            merged = Scale(factors, plus(before, shift))
    elif isinstance(inner, Dense) and (factor is None or last_dimension_only(factor)):
        weight = inner.weight if factor is None else inner.weight * factor
        before = times_known(inner.bias, factor)
        if not loses(weight.abs().sum(-2), before, shift):
            merged = Dense(weight, plus(before, shift))
    elif isinstance(inner, Convolution):
        merged = scaled_convolution(inner, factor, shift, node.shape)
    return None if merged is None else replace(node, operator=merged, arguments=below[0].arguments)


def merge_matrices(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """Two matrices in a row are one where that has no more entries."""
    outer, inner = node.operator, below[0].operator if below else None
    if not (isinstance(outer, Dense) and isinstance(inner, Dense) and sole[0]):
        return None
    if outer.weight.dim() != 2 or inner.weight.dim() != 2:
        return None
    (inputs, middle), outputs = inner.weight.shape, outer.weight.shape[1]
    if inputs * outputs > middle * (inputs + outputs) or (
        inner.bias is not None and inner.bias.shape[-1:] != (middle,)
    ):
        return None
    weight = inner.weight @ outer.weight
    bias = plus(None if inner.bias is None else inner.bias @ outer.weight, outer.bias)
    terms = (inner.weight.abs().sum(0) + magnitude(inner.bias)) @ outer.weight.abs() + magnitude(outer.bias)
    if cancels(terms, weight.abs().sum(0) + magnitude(bias)):
        return None
    return replace(node, operator=Dense(weight, bias), arguments=below[0].arguments)


def loses(size: Tensor, before: Tensor | None, shift: Tensor | None) -> bool:
    """Whether a constant part of two terms cancels, next to coefficients of some size."""
    if before is None or shift is None:
        return False
    return cancels(magnitude(before, shift), size + magnitude(before + shift))


def sparse_dense(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """A large matrix that is nearly all zeros is multiplied by its nonzero entries only."""
    inner = node.operator
    if not isinstance(inner, Dense) or inner.weight.dim() != 2 or inner.weight.numel() < SPARSE_SIZE:
        return None
    if int(inner.weight.count_nonzero()) > SPARSE_DENSITY * inner.weight.numel():
        return None
    return replace(node, operator=SparseDense.of(inner.weight, inner.bias))


def times(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a * b


def times_known(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a * b where a missing a is zero and a missing b one."""
    return None if a is None else a if b is None else a * b


def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def last_dimension_only(factor: Tensor) -> bool:
    return factor.dim() == 0 or all(n == 1 for n in factor.shape[:-1])


def scaled_convolution(
    inner: Convolution, factor: Tensor | None, shift: Tensor | None, shape: tuple[int, ...]
) -> Convolution | None:
    """A convolution with a factor and a shift per output channel folded in."""
    per_channel = [None if t is None else channel_values(t, shape) for t in (factor, shift)]
    if (factor is not None and per_channel[0] is None) or (shift is not None and per_channel[1] is None):
        return None
    weight, f = inner.weight, per_channel[0]
    if f is not None:
        if inner.transposed:  # weight is (in, out / groups, *kernel)
            grouped = f.reshape(inner.groups, 1, -1)
            split = weight.reshape(inner.groups, weight.shape[0] // inner.groups, *weight.shape[1:])
            weight = (split * grouped.reshape(*grouped.shape, *[1] * (weight.dim() - 2))).reshape(weight.shape)
        else:
            weight = weight * f.reshape(-1, *[1] * (weight.dim() - 1))
    before = times_known(inner.bias, f)
    kernels = weight.unflatten(0, (inner.groups, -1)) if inner.transposed else weight.unsqueeze(2)
    sizes = kernels.abs().sum((1, *range(3, kernels.dim()))).flatten()  # as in `Convolution.one_signed`
    if loses(sizes, before, per_channel[1]):
        return None
    return replace(inner, weight=weight, bias=plus(before, per_channel[1]))


def channel_values(value: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The (channels,) values of a constant that only varies over dimension 1 of ``shape``."""
    full = value.expand(shape).transpose(0, 1).flatten(1)
    return full[:, 0] if bool((full == full[:, :1]).all()) else None


def merge_pointwise(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """A convolution with kernels of size 1 is part of the convolution before it, where that becomes no larger."""
    if not sole or not sole[0] or not (isinstance(node.operator, Convolution) and is_pointwise(node.operator)):
        return None
    outer, inner = node.operator, below[0].operator
    if not isinstance(inner, Convolution) or inner.transposed or inner.groups != 1:
        return None
    matrix = outer.weight.flatten(1)
    if matrix.shape[0] > matrix.shape[1]:
        return None
    weight = (matrix @ inner.weight.flatten(1)).unflatten(1, inner.weight.shape[1:])
    bias = outer.bias if inner.bias is None else plus(matrix @ inner.bias, outer.bias)
    terms = matrix.abs() @ (inner.weight.abs().flatten(1).sum(1) + magnitude(inner.bias)) + magnitude(outer.bias)
    if cancels(terms, weight.abs().flatten(1).sum(1) + magnitude(bias)):
        return None
    return replace(node, operator=replace(inner, weight=weight, bias=bias), arguments=below[0].arguments)


def is_pointwise(operator: Convolution) -> bool:
    one = all(n == 1 for n in (*operator.weight.shape[2:], *operator.stride, operator.groups))
    return one and not any(operator.padding) and not operator.transposed


def pad_convolution(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """Zeros around an image, equally many on both sides, are part of the convolution of it."""
    if not (isinstance(node.operator, Convolution) and isinstance(below[0].operator, Pad)):
        return None
    operator, amounts = node.operator, below[0].operator.amounts
    before, after = amounts[::2][::-1], amounts[1::2][::-1]
    if operator.transposed or before != after or min(before) < 0 or len(before) > len(operator.padding):
        return None
    missing = (0,) * (len(operator.padding) - len(before))
    padding = tuple(p + n for p, n in zip(operator.padding, (*missing, *before), strict=True))
    space = [n - 2 * added for n, added in zip(operator.argument_shape[2:], (*missing, *before), strict=True)]
    merged = replace(operator, padding=padding, argument_shape=(*operator.argument_shape[:2], *space))
    return replace(node, operator=merged, arguments=below[0].arguments)


def drop_permute(node: Node, below: tuple[Node, ...], sole: tuple[bool, ...]) -> Node | None:
    """A permutation that only moves dimensions of size 1 is a reshape; two in a row are one."""
    if not isinstance(node.operator, Permute):
        return None
    order, shape = node.operator.order, below[0].shape
    if [d for d in order if shape[d] > 1] == sorted(d for d in order if shape[d] > 1):
        return replace(node, operator=Reshape(shape, node.shape))
    if isinstance(below[0].operator, Permute):
        inner = below[0].operator.order
        return replace(node, operator=Permute(tuple(inner[d] for d in order)), arguments=below[0].arguments)
    return None


STRUCTURAL_RULES: tuple[Rule, ...] = (fold_constants, merge_reshapes, plain_gather, merge_gathers, drop_permute)

RULES: tuple[Rule, ...] = (
    fold_constants,
    merge_reshapes,
    plain_gather,
    gather_embed,
    reshape_embed,
    merge_embeds,
    merge_gathers,
    merge_scales,
    merge_matrices,
    merge_pointwise,
    pad_convolution,
    drop_permute,
)
