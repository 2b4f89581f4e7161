"""What the lowering rules share: operands of one shape, dimensions moved to the end, scalars lifted."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.graph.lower import Builder, Symbol, as_float
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.power import EvenPower
from lirpa_verify.operators.rearrange import Expand, Permute, Sum
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.standardise import Standardise
from lirpa_verify.operators.transforms import differentiated


def fixed(value: Tensor) -> bool:
    """Whether a rule may look at the values of a constant: not if it stands for a parameter that is being learned."""
    return not differentiated(value)


def shape_of(call: Call, item: int = 0) -> tuple[int, ...]:
    spec = call.outputs[item]
    assert spec is not None
    return tuple(spec.shape)


def broadcast(b: Builder, x: Symbol, shape: tuple[int, ...]) -> Symbol:
    return x if x.shape == shape else b.add(Expand(x.shape, shape), [x], shape)


def operand(b: Builder, value: Symbol | Tensor | float, shape: tuple[int, ...]) -> Symbol:
    """A node of this shape for a value that may be constant."""
    if isinstance(value, Symbol):
        return broadcast(b, value, shape)
    return b.constant(as_float(value).expand(shape).contiguous())


def nonlinear(b: Builder, operator: Operator, arguments: list[Symbol]) -> Symbol:
    """An operator on arguments of one shape, its own; scalars become vectors of one entry on the way."""
    shape = arguments[0].shape
    lifted = [b.reshape(a, a.shape or (1,)) for a in arguments]
    return b.reshape(b.add(operator, lifted, lifted[0].shape), shape)


def last_dimension(b: Builder, x: Symbol, dimensions: list[int]) -> Symbol:
    """x with the given dimensions moved to the end, as one; without any given, all."""
    rank = len(x.shape)
    wanted = sorted({d % rank for d in dimensions}) if rank and dimensions else list(range(rank))
    order = (*(d for d in range(rank) if d not in wanted), *wanted)
    moved = b.add(Permute(order), [x], tuple(x.shape[d] for d in order)) if order != tuple(range(rank)) else x
    kept = rank - len(wanted)
    return b.reshape(moved, (*moved.shape[:kept], math.prod(moved.shape[kept:])))


def over_groups(b: Builder, operator: Operator, x: Symbol, dimensions: list[int], shape: tuple[int, ...]) -> Symbol:
    """An operator that makes one entry of each group along some dimensions; `shape` is the result's."""
    grouped = last_dimension(b, x, dimensions)
    lifted = b.reshape(grouped, grouped.shape if len(grouped.shape) > 1 else (1, *grouped.shape))
    return b.reshape(b.add(operator, [lifted], lifted.shape[:-1]), shape)


def along(b: Builder, operator: Operator, x: Symbol, dimension: int, size: int | None = None) -> Symbol:
    """An operator on the last dimension applied to another one; `size` is that dimension's size afterwards."""
    rank = len(x.shape)
    dimension %= rank
    size = x.shape[dimension] if size is None else size
    order = (*(d for d in range(rank) if d != dimension), dimension)
    identical = order == tuple(range(rank))
    moved = x if identical else b.add(Permute(order), [x], tuple(x.shape[d] for d in order))
    done = b.add(operator, [moved], (*moved.shape[:-1], size))
    shape = tuple(size if d == dimension else n for d, n in enumerate(x.shape))
    back = tuple(sorted(range(rank), key=order.__getitem__))
    return done if identical else b.add(Permute(back), [done], shape)


def softmax_over(b: Builder, x: Symbol, dimension: int) -> Symbol:
    """Of two entries it is the logistic function of their difference."""
    if x.shape and x.shape[dimension % len(x.shape)] == 2:
        matrix = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
        return nonlinear(b, Sigmoid(), [along_matrix(b, x, dimension, matrix)])
    return along(b, Softmax(), x, dimension)


def along_matrix(b: Builder, x: Symbol, dimension: int, matrix: Tensor) -> Symbol:
    """Multiplies one dimension with a matrix (in, out)."""
    return along(b, Dense(matrix), x, dimension, matrix.shape[1])


def scaled(b: Builder, x: Symbol, factor: Tensor | float | None, shift: Tensor | float | None = None) -> Symbol:
    """``x * factor + shift`` with constants that broadcast to x."""
    parts = [None if value is None else as_float(value) for value in (factor, shift)]
    return b.add(Scale(*parts), [x], x.shape)


def affine(b: Builder, x: Symbol, factor: Symbol | Tensor | None, shift: Symbol | Tensor | None) -> Symbol:
    """``x * factor + shift``; both broadcast to x, and may vary."""
    if not isinstance(factor, Symbol):
        constant = None if isinstance(shift, Symbol) else shift
        x = x if factor is None and constant is None else scaled(b, x, factor, constant)
        return combined(b, x, broadcast(b, shift, x.shape)) if isinstance(shift, Symbol) else x
    return affine(b, product(b, x, broadcast(b, factor, x.shape)), None, shift)


def reshaped(b: Builder, value: Symbol | Tensor | None, shape: tuple[int, ...]) -> Symbol | Tensor | None:
    """A value that may be constant, or missing, in another shape."""
    return b.reshape(value, shape) if isinstance(value, Symbol) else None if value is None else value.reshape(shape)


def combined(b: Builder, x: Symbol, y: Symbol, weight: float = 1.0) -> Symbol:
    """``x + weight * y`` of equal shapes."""
    return b.add(Combine((1.0, weight)), [x, y], x.shape)


def product(b: Builder, x: Symbol, y: Symbol) -> Symbol:
    """``x * y`` of equal shapes; a value times itself is a square."""
    return nonlinear(b, EvenPower(2), [x]) if x == y else nonlinear(b, Multiply(), [x, y])


def standardised(
    b: Builder, x: Symbol, rate: Symbol, dimensions: tuple[int, ...], epsilon: float, centred: bool
) -> Symbol:
    """x times its reciprocal deviation, with the groups as the last dimension on the way."""
    rank = len(x.shape)
    order = (*(d for d in range(rank) if d not in dimensions), *dimensions)
    moved = tuple(x.shape[d] for d in order)
    grouped = (*moved[: rank - len(dimensions)], math.prod(x.shape[d] for d in dimensions))
    parts = []
    for value in (x, broadcast(b, rate, x.shape)):
        turned = value if order == tuple(range(rank)) else b.add(Permute(order), [value], moved)
        parts.append(b.reshape(turned, grouped))
    done = b.reshape(b.add(Standardise(epsilon, centred), parts, grouped), moved)
    back = tuple(sorted(range(rank), key=order.__getitem__))
    return done if order == back == tuple(range(rank)) else b.add(Permute(back), [done], x.shape)


def relu(b: Builder, x: Symbol) -> Symbol:
    return nonlinear(b, ReLU(), [x])


def mean_over(b: Builder, x: Symbol, dimensions: tuple[int, ...]) -> Symbol:
    """The mean, with the dimensions kept at size 1."""
    shape = tuple(1 if d in dimensions else n for d, n in enumerate(x.shape))
    total = b.add(Sum(x.shape, dimensions, True), [x], shape)
    return scaled(b, total, 1.0 / math.prod(x.shape[d] for d in dimensions))


def argument(call: Call, args: list[Any], position: int, name: str, default: Any) -> Any:
    """An argument given by place or by name."""
    if len(args) > position:
        return args[position]
    return call.kwargs.get(name, default)


def listed(value: Any) -> list[int]:
    """A list of numbers from a number, a list or None."""
    if value is None:
        return []
    return [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)]


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)
