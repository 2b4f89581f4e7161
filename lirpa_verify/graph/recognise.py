"""Products and quotients that together are a function of one variable, which has a much tighter relaxation."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lirpa_verify.graph.building import combined, fixed, nonlinear, over_groups, scaled, softmax_over, standardised
from lirpa_verify.graph.lower import Builder, Symbol
from lirpa_verify.operators.absolute import Absolute
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.clip import Clip
from lirpa_verify.operators.erf import Erf
from lirpa_verify.operators.exponential import Exponential, Softplus
from lirpa_verify.operators.gate import GELU, Mish, SiLU, TanhGELU
from lirpa_verify.operators.hard_swish import HardSwish
from lirpa_verify.operators.log_sum_exp import LogSumExp
from lirpa_verify.operators.power import EvenPower, OddPower, RealPower, power
from lirpa_verify.operators.rearrange import Expand, Gather, Permute, Reshape, Sum
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.softsign import Softsign
from lirpa_verify.operators.tanh import Tanh


class Affine(NamedTuple):
    """``factor * node + shift`` with numbers."""

    node: int
    factor: float = 1.0
    shift: float = 0.0


def affine(b: Builder, node: int) -> Affine:
    """A node as a function of the node below all scalings by numbers."""
    factor, shift = 1.0, 0.0
    while isinstance(operator := b.nodes[node].operator, Scale):
        numbers = [default if t is None else float(t) if t.numel() == 1 and fixed(t) else None
                   for t, default in ((operator.factor, 1.0), (operator.shift, 0.0))]  # fmt: skip
        if numbers[0] is None or numbers[1] is None:
            break
        factor, shift = factor * numbers[0], factor * numbers[1] + shift
        node = b.nodes[node].arguments[0]
    return Affine(node, factor, shift)


def gated(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """x * y where one of them is a step function of the other: SiLU, GELU, Mish, hard swish."""
    if x.shape != y.shape:
        return None
    for value, gate in ((x, y), (y, x)):
        outer = affine(b, gate.node)
        operator = b.nodes[outer.node].operator
        if not isinstance(operator, Sigmoid | Erf | Clip | Tanh):
            continue
        inner = affine(b, b.nodes[outer.node].arguments[0])
        factor = affine(b, value.node)
        if factor.shift:
            continue
        match = step_of(b, operator, outer, inner, factor.node)
        if match is not None:
            unit, rate, height = match
            base = Symbol(factor.node, value.shape)
            return scaled(b, nonlinear(b, unit, [scaled(b, base, rate)]), factor.factor * height / rate)
    return None


def step_of(
    b: Builder, operator: Operator, outer: Affine, inner: Affine, base: int
) -> tuple[Operator, float, float] | None:
    """(unit, rate, height) with ``base * gate = height / rate * unit(rate * base)``."""
    p, s = outer.factor, outer.shift
    if isinstance(operator, Tanh) and s == p:
        return tanh_gate(b, inner, base, p)
    if isinstance(operator, Tanh):
        softplus = (
            isinstance(b.nodes[inner.node].operator, Softplus) and inner.factor == 1 and not inner.shift and not s
        )
        return (Mish(), 1.0, p) if softplus and b.nodes[inner.node].arguments[0] == base else None
    if inner.node != base or not inner.factor:
        return None
    if isinstance(operator, Sigmoid) and not s and not inner.shift:
        return SiLU(), inner.factor, p
    if isinstance(operator, Erf) and s == p and not inner.shift:
        return GELU(), inner.factor * math.sqrt(2), 2 * p
    if operator == Clip(0.0, 1.0) and not s and inner.shift == 0.5:
        return HardSwish(), 6 * inner.factor, p
    return None


def tanh_gate(b: Builder, inner: Affine, base: int, height: float) -> tuple[Operator, float, float] | None:
    """``height * (1 + tanh(c (r x + k r^3 x^3)))`` with the constant c of GELU and a k within rounding of its k."""
    terms = b.nodes[inner.node]
    if not isinstance(terms.operator, Combine) or inner.shift:
        return None
    found = {1: 0.0, 3: 0.0}
    for weight, argument in zip(terms.operator.weights, terms.arguments, strict=True):
        term = affine(b, argument)
        cubed = b.nodes[term.node]
        degree = 3 if cubed.operator == OddPower(3) and cubed.arguments[0] == base else 1 if term.node == base else 0
        if not degree or term.shift:
            return None
        found[degree] += inner.factor * weight * term.factor
    rate = found[1] / math.sqrt(2 / math.pi)
    if rate <= 0:
        return None
    cube = found[3] / math.sqrt(2 / math.pi) / rate**3
    return (TanhGELU(cube), rate, 2 * height) if abs(cube / TanhGELU().cube - 1) < 1e-6 else None


def standardised_by(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """``x * (mean(x^2) + epsilon)^(-1/2)``: what normalisations do, whatever calls they are written with."""
    for value, rate in ((x, y), (y, x)):
        root, spread = origin(b, rate, value.shape)
        if spread is None or b.nodes[root].operator != RealPower(-0.5):
            continue
        below = Symbol(b.nodes[root].arguments[0], b.nodes[root].shape)
        moved, order = origin(b, below, below.shape)
        inner = affine(b, moved)
        mean = b.nodes[inner.node]
        if order is None or not isinstance(mean.operator, Sum) or inner.shift <= 0:
            continue
        square = b.nodes[mean.arguments[0]]
        dimensions = mean.operator.dimensions
        if square.operator != EvenPower(2) or square.arguments[0] != value.node or square.shape != value.shape:
            continue
        count = math.prod(value.shape[d] for d in dimensions)
        if abs(inner.factor * count - 1) < 1e-12 and one_for_all(order.reshape(-1)[spread], dimensions, value.shape):
            kept = tuple(1 if d in dimensions else n for d, n in enumerate(value.shape))
            turned = b.reshape(Symbol(root, b.nodes[root].shape), kept)
            return standardised(b, value, turned, dimensions, inner.shift, is_centred(b, value.node, dimensions))
    return None


def origin(b: Builder, x: Symbol, shape: tuple[int, ...]) -> tuple[int, Tensor | None]:
    """The node below reshaping and repeating, and which of its entries each entry of x is, broadcast to a shape.

    No numbers where x does not broadcast to the shape.
    """
    steps, node = [], x.node
    while isinstance(b.nodes[node].operator, Reshape | Expand):
        steps.append(node)
        node = b.nodes[node].arguments[0]
    numbers = torch.arange(math.prod(b.nodes[node].shape)).reshape(b.nodes[node].shape)
    for step in reversed(steps):
        target = b.nodes[step].shape
        numbers = numbers.reshape(target) if isinstance(b.nodes[step].operator, Reshape) else numbers.expand(target)
    numbers = numbers.reshape(x.shape)
    fits = len(x.shape) <= len(shape) and all(m in (1, n) for m, n in zip(x.shape[::-1], shape[::-1], strict=False))
    return node, numbers.expand(shape) if fits else None


def one_for_all(numbers: Tensor, dimensions: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether the numbers are those of a reduction over the dimensions, repeated along them."""
    kept = tuple(1 if d in dimensions else n for d, n in enumerate(shape))
    return torch.equal(numbers, torch.arange(math.prod(kept)).reshape(kept).expand(shape))


def soft_maximum(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """``exp(x) / sum(exp(x))``, also with a maximum taken off x first."""
    node, spread = origin(b, y, x.shape)
    total = b.nodes[node].operator
    if spread is None or not isinstance(total, Sum) or not isinstance(b.nodes[x.node].operator, Exponential):
        return None
    if b.nodes[node].arguments[0] != x.node or len(total.dimensions) != 1:
        return None
    if not one_for_all(spread, total.dimensions, x.shape):
        return None
    inner = Symbol(b.nodes[x.node].arguments[0], x.shape)
    return softmax_over(b, less_shared(b, inner, total.dimensions), total.dimensions[0])


def less_shared(b: Builder, x: Symbol, dimensions: tuple[int, ...]) -> Symbol:
    """x without a term that is the same along the dimensions, which softmax does not depend on."""
    node = b.nodes[x.node]
    if node.operator != Combine((1.0, -1.0)):
        return x
    value, shared = node.arguments
    _, numbers = origin(b, Symbol(shared, x.shape), x.shape)
    same = numbers is not None and all(
        torch.equal(numbers, numbers.narrow(d, 0, 1).expand(x.shape)) for d in dimensions
    )
    return Symbol(value, x.shape) if same else x


def log_of(b: Builder, x: Symbol) -> Symbol | None:
    """``log(sum(exp(z)))`` jointly, and ``log(softmax(z))`` as z less that."""
    node = b.nodes[x.node]
    if isinstance(node.operator, Softmax) and node.operator.kept is None:
        inner = Symbol(node.arguments[0], x.shape)
        total = over_groups(b, LogSumExp(), inner, [-1], (*x.shape[:-1], 1))
        return combined(b, inner, b.add(Expand(total.shape, x.shape), [total], x.shape), -1.0)
    if not isinstance(node.operator, Sum) or not isinstance(b.nodes[node.arguments[0]].operator, Exponential):
        return None
    exponential = b.nodes[node.arguments[0]]
    inner = Symbol(exponential.arguments[0], exponential.shape)
    return over_groups(b, LogSumExp(), inner, list(node.operator.dimensions), x.shape)


def higher_power(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """``x^n * x``."""
    for low, high in ((x, y), (y, x)):
        node = b.nodes[high.node]
        if (
            isinstance(node.operator, EvenPower | OddPower)
            and node.arguments[0] == low.node
            and low.shape == high.shape
        ):
            return nonlinear(b, power(node.operator.n + 1), [low])
    return None


def before_rising(b: Builder, x: Symbol) -> Symbol:
    """A value with the same order of entries: what a growing function of one variable was applied to."""
    node = b.nodes[x.node]
    if isinstance(node.operator, Sigmoid | Tanh | Softplus | Exponential):
        return before_rising(b, Symbol(node.arguments[0], x.shape))
    moves = isinstance(node.operator, Reshape | Permute) or (
        isinstance(node.operator, Gather) and not node.operator.padded
    )
    if not moves:
        return x
    below = Symbol(node.arguments[0], b.nodes[node.arguments[0]].shape)
    inner = before_rising(b, below)
    return x if inner == below else b.add(node.operator, [inner], x.shape)


def is_centred(b: Builder, node: int, dimensions: tuple[int, ...]) -> bool:
    """Whether a node is something less its mean over the dimensions."""
    difference = b.nodes[node]
    if difference.operator != Combine((1.0, -1.0)):
        return False
    value, mean = difference.arguments
    moved, spread = origin(b, Symbol(mean, difference.shape), difference.shape)
    inner = affine(b, moved)
    below, order = origin(b, Symbol(inner.node, b.nodes[inner.node].shape), b.nodes[inner.node].shape)
    total = b.nodes[below]
    if spread is None or order is None or not isinstance(total.operator, Sum):
        return False
    count = math.prod(difference.shape[d] for d in dimensions)
    return (
        total.operator.dimensions == dimensions
        and total.arguments[0] == value
        and b.nodes[value].shape == difference.shape
        and not inner.shift
        and inner.factor == 1 / count
        and one_for_all(order.reshape(-1)[spread], dimensions, difference.shape)
    )


def softsign(b: Builder, x: Symbol, y: Symbol) -> Symbol | None:
    """``x / (shift + factor * |x|)``."""
    outer = affine(b, y.node)
    node = b.nodes[outer.node]
    if not isinstance(node.operator, Absolute) or node.arguments[0] != x.node or min(outer.factor, outer.shift) <= 0:
        return None
    unit = nonlinear(b, Softsign(), [scaled(b, x, outer.factor / outer.shift)])
    return scaled(b, unit, 1 / outer.factor)
