"""Lowering rules of element-wise ATen calls that are not linear."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.aten_discrete import is_integer
from lirpa_verify.graph.building import (
    argument,
    broadcast,
    combined,
    fixed,
    nonlinear,
    operand,
    product,
    relu,
    scaled,
    shape_of,
)
from lirpa_verify.graph.lower import Builder, Rule, Symbol, as_float, operator_name
from lirpa_verify.graph.recognise import gated, higher_power, log_of, soft_maximum, softsign, standardised_by
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.absolute import Absolute
from lirpa_verify.operators.arithmetic import Scale
from lirpa_verify.operators.base import Operator
from lirpa_verify.operators.clip import Clip, SoftShrink
from lirpa_verify.operators.discrete import Truncate
from lirpa_verify.operators.divide import Divide
from lirpa_verify.operators.elu import ELU
from lirpa_verify.operators.erf import Erf
from lirpa_verify.operators.exponential import Exponential, Logarithm, Softplus
from lirpa_verify.operators.gate import GELU, Mish, SiLU, TanhGELU
from lirpa_verify.operators.hard_swish import HardSwish
from lirpa_verify.operators.hyperbolic import (
    HyperbolicCosine,
    HyperbolicSine,
    InverseHyperbolicCosine,
    InverseHyperbolicSine,
    InverseHyperbolicTangent,
)
from lirpa_verify.operators.inverse_trigonometric import Arcsine, Arctangent
from lirpa_verify.operators.power import EvenPower, NegativePower, RealPower, power
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.sign import Sign, Threshold
from lirpa_verify.operators.staircase import Staircase
from lirpa_verify.operators.tanh import Tanh
from lirpa_verify.operators.trigonometric import Sine, Tangent


def unary(
    operator: Operator, before: float | None = None, after: float | None = None, shift: float | None = None
) -> Rule:
    """``after * f(before * x) + shift``, the factors left out being 1."""

    def rule(b: Builder, call: Call, args: list[Any]) -> Symbol:
        x = args[0] if before is None else scaled(b, args[0], before)
        y = nonlinear(b, operator, [x])
        return y if after is None and shift is None else scaled(b, y, after, shift)

    return rule


def rectify(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``relu(-x)`` is ``relu(x) - x`` where the graph has relu(x) already: then both move together."""
    x: Symbol = args[0]
    node = b.nodes[x.node]
    if isinstance(node.operator, Scale) and node.operator.shift is None and node.operator.factor is not None:
        source = node.arguments[0]
        known = [i for i, n in enumerate(b.nodes) if n.operator == ReLU() and n.arguments == (source,)]
        factor = node.operator.factor
        if known and fixed(factor) and bool((factor == -1).all()) and x.shape == b.nodes[source].shape:
            return combined(b, Symbol(known[0], x.shape), Symbol(source, x.shape), -1.0)
    return relu(b, x)


def leaky_relu(b: Builder, call: Call, args: list[Any]) -> Symbol:
    leak = float(argument(call, args, 1, "negative_slope", 0.01))
    return nonlinear(b, ReLU(leak), [args[0]]) if 0 <= leak <= 1 else sloped_relu(b, args[0], as_float(leak))


def sloped_relu(b: Builder, x: Symbol, slope: Tensor) -> Symbol:
    """``slope * x`` below 0, as a multiple of x and one of relu(x)."""
    return combined(b, scaled(b, x, slope), scaled(b, relu(b, x), 1 - slope))


def prelu(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, slope = args[:2]
    if isinstance(slope, Symbol) or not isinstance(x, Symbol):
        return varying_prelu(b, b.symbol(x), b.symbol(slope))
    slope = as_float(slope)
    if slope.numel() > 1 and slope.dim() == 1 and len(x.shape) > 1:
        slope = slope.reshape(-1, *[1] * (len(x.shape) - 2))
    return sloped_relu(b, x, slope)


def varying_prelu(b: Builder, x: Symbol, slope: Symbol) -> Symbol:
    """``relu(x) - slope * relu(-x)``, a slope for everything or one per channel."""
    if len(slope.shape) == 1 and len(x.shape) > 1:
        slope = b.reshape(slope, (slope.shape[0], *[1] * (len(x.shape) - 2)))
    below = product(b, relu(b, scaled(b, x, -1.0)), broadcast(b, slope, x.shape))
    return combined(b, relu(b, x), below, -1.0)


def multiply(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, y, shape = args[0], args[1], shape_of(call)
    if not isinstance(x, Symbol):
        x, y = y, x
    if not isinstance(y, Symbol):
        return scaled(b, broadcast(b, x, shape), y)
    return (
        gated(b, x, y)
        or standardised_by(b, x, y)
        or higher_power(b, x, y)
        or product(b, broadcast(b, x, shape), broadcast(b, y, shape))
    )


def divide(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """By a constant a product; with `rounding_mode`, rounded."""
    x, y, shape = args[0], args[1], shape_of(call)
    mode = "floor" if operator_name(call) == "floor_divide" else call.kwargs.get("rounding_mode")
    if not isinstance(y, Symbol):
        quotient = scaled(b, broadcast(b, x, shape), 1 / as_float(y))
    elif isinstance(x, Symbol):
        quotient = softsign(b, x, y) or soft_maximum(b, x, y) or ratio(b, x, y, shape)
    else:
        quotient = scaled(b, broadcast(b, reciprocal(b, y), shape), x)
    if mode is None:
        return quotient
    return nonlinear(b, Staircase("floor") if mode == "floor" else Truncate(), [quotient])


def ratio(b: Builder, x: Symbol, y: Symbol, shape: tuple[int, ...]) -> Symbol:
    """By a root as a product with its reciprocal, which normalisations are known by; else jointly."""
    if b.nodes[y.node].operator != RealPower(0.5):
        if math.prod(y.shape) < math.prod(shape):  # one reciprocal serves many: it is bounded once, and optimised
            return product(b, broadcast(b, x, shape), broadcast(b, reciprocal(b, y), shape))
        return nonlinear(b, Divide(), [broadcast(b, x, shape), broadcast(b, y, shape)])
    inverse = reciprocal(b, y)
    return standardised_by(b, x, inverse) or product(b, broadcast(b, x, shape), broadcast(b, inverse, shape))


def reciprocal(b: Builder, y: Symbol) -> Symbol:
    """1 / y; of a square root in one step."""
    node = b.nodes[y.node]
    if node.operator == RealPower(0.5):
        return nonlinear(b, RealPower(-0.5), [Symbol(node.arguments[0], y.shape)])
    return nonlinear(b, NegativePower(1), [y])


def remainder(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``x - y * round(x / y)`` with floor (remainder) or truncation (fmod)."""
    shape = shape_of(call)
    x, divisor = operand(b, args[0], shape), args[1]
    rounding: Operator = Truncate() if operator_name(call) == "fmod" else Staircase("floor")
    if isinstance(divisor, Symbol):
        divisor = broadcast(b, divisor, shape)
        whole = nonlinear(b, rounding, [nonlinear(b, Divide(), [x, divisor])])
        return combined(b, x, product(b, whole, divisor), -1.0)
    divisor = as_float(divisor)
    whole = nonlinear(b, rounding, [scaled(b, x, 1 / divisor)])
    rest = combined(b, x, scaled(b, whole, divisor), -1.0)
    if operator_name(call) == "fmod" or divisor.numel() != 1 or not fixed(divisor) or not float(divisor) > 0:
        return rest
    whole_numbers = is_integer(b, x.node) and float(divisor).is_integer()
    most = float(divisor) - 1 if whole_numbers else float(divisor)
    return nonlinear(b, Clip(0.0, most), [rest]) if most > 0 else rest  # changes nothing, but bounds may not know


def raise_to(b: Builder, call: Call, args: list[Any]) -> Symbol:
    base, exponent, shape = args[0], args[1], shape_of(call)
    if isinstance(base, Symbol) and not isinstance(exponent, Symbol):
        values = as_float(exponent)
        if fixed(values) and len(values := values.unique()) == 1:
            return constant_power(b, broadcast(b, base, shape), float(values[0]))
    if isinstance(base, Symbol):
        logarithm = nonlinear(b, Logarithm(), [broadcast(b, base, shape)])
        other = operand(b, exponent, shape)
        return nonlinear(b, Exponential(), [product(b, logarithm, other)])
    if bool((as_float(base) <= 0).any()):
        raise UnsupportedOperator(call.op, call.label, "a power of a base that is not positive")
    return nonlinear(b, Exponential(), [scaled(b, broadcast(b, exponent, shape), torch.log(as_float(base)))])


def constant_power(b: Builder, x: Symbol, exponent: float) -> Symbol:
    if exponent == 0:
        return b.constant(torch.ones(x.shape, dtype=torch.float64))
    return x if exponent == 1 else nonlinear(b, power(exponent), [x])


def maximum(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``max(x, y) = y + relu(x - y)``, ``min(x, y) = y - relu(y - x)``: keeps what x and y share, and can be split."""
    sign = 1.0 if operator_name(call) in ("maximum", "max", "fmax") else -1.0
    x, y, shape = args[0], args[1], shape_of(call)
    if not isinstance(x, Symbol):
        x, y = y, x
    return pick_larger(b, broadcast(b, x, shape), y, sign)


def pick_larger(b: Builder, x: Symbol, y: Symbol | Tensor | float, sign: float) -> Symbol:
    if isinstance(y, Symbol):
        y = broadcast(b, y, x.shape)
        rest = relu(b, scaled(b, combined(b, x, y, -1.0), sign))
        return combined(b, y, rest, sign)
    y = as_float(y)
    return scaled(b, relu(b, scaled(b, x, sign, -sign * y)), sign, y)


def clamp(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """clamp, clamp_min, clamp_max, hardtanh with numbers or tensors as limits."""
    name, x, shape = operator_name(call), args[0], shape_of(call)
    limits = {"clamp_min": ("min", None), "clamp_max": (None, "max"), "hardtanh": ("min_val", "max_val")}.get(
        name, ("min", "max")
    )
    start = [-1.0, 1.0] if name == "hardtanh" else [None, None]
    found: list[Any] = []
    for key, default in zip(limits, start, strict=True):
        place = 1 + sum(other is not None for other in limits[: len(found)])
        found.append(None if key is None else argument(call, args, place, key, default))
    low, high = found
    if not isinstance(x, Symbol):  # a constant between varying limits
        x = operand(b, x, shape)
    x = broadcast(b, x, shape)
    if isinstance(low, int | float) and isinstance(high, int | float) and low < high:
        return nonlinear(b, Clip(float(low), float(high)), [x])
    x = x if low is None else pick_larger(b, x, low, 1.0)
    return x if high is None else pick_larger(b, x, high, -1.0)


def hard_sigmoid(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return nonlinear(b, Clip(0.0, 1.0), [scaled(b, args[0], 1 / 6, 0.5)])


def threshold(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return nonlinear(b, Threshold(float(args[1]), float(args[2])), [args[0]])


def soft_shrink(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return nonlinear(b, SoftShrink(float(argument(call, args, 1, "lambd", 0.5))), [args[0]])


def hard_shrink(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """x where |x| is above the limit, else 0: a jump on either side."""
    jump, x = Threshold(float(argument(call, args, 1, "lambd", 0.5)), 0.0), args[0]
    return combined(b, nonlinear(b, jump, [x]), nonlinear(b, jump, [scaled(b, x, -1.0)]), -1.0)


def elu(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``aten.elu(x, alpha, scale, input_scale)``; SELU and CELU are recorded as it."""
    default = (1.0, 1.6732632423543772, 1.0507009873554805)[0 if operator_name(call) != "selu" else 1]
    alpha = float(argument(call, args, 1, "alpha", default))
    scale = float(argument(call, args, 2, "scale", 1.0507009873554805 if operator_name(call) == "selu" else 1.0))
    rate = float(argument(call, args, 3, "input_scale", 1.0))
    if operator_name(call) == "celu":
        rate = 1 / alpha
    if min(alpha, scale, rate) <= 0:
        raise UnsupportedOperator(call.op, call.label, "an exponential unit with a factor that is not positive")
    return nonlinear(b, ELU(alpha * scale, scale, rate), [args[0]])


def softplus(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """``log(1 + exp(beta x)) / beta``; the threshold beyond which torch returns x only changes rounding."""
    beta = float(argument(call, args, 1, "beta", 1.0))
    x = args[0] if beta == 1 else scaled(b, args[0], beta)
    y = nonlinear(b, Softplus(), [x])
    return y if beta == 1 else scaled(b, y, 1 / beta)


def log_sigmoid(b: Builder, call: Call, args: list[Any]) -> tuple[Symbol | None, ...]:
    return scaled(b, nonlinear(b, Softplus(), [scaled(b, args[0], -1.0)]), -1.0), None


def gelu(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return nonlinear(b, TanhGELU() if call.kwargs.get("approximate", "none") == "tanh" else GELU(), [args[0]])


def logarithm(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return log_of(b, args[0]) or nonlinear(b, Logarithm(), [args[0]])


def log1p(b: Builder, call: Call, args: list[Any]) -> Symbol:
    return nonlinear(b, Logarithm(), [scaled(b, args[0], None, 1.0)])


def rounded(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """round, with `decimals`."""
    unit = 10.0 ** int(call.kwargs.get("decimals", 0))
    y = nonlinear(b, Staircase("round"), [args[0] if unit == 1 else scaled(b, args[0], unit)])
    return y if unit == 1 else scaled(b, y, 1 / unit)


ELEMENTWISE_RULES: dict[str, Rule] = {
    "relu": rectify,
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "_prelu_kernel": prelu,
    "mul": multiply,
    "div": divide,
    "true_divide": divide,
    "floor_divide": divide,
    "remainder": remainder,
    "fmod": remainder,
    "pow": raise_to,
    "square": unary(EvenPower(2)),
    "sqrt": unary(RealPower(0.5)),
    "rsqrt": unary(RealPower(-0.5)),
    "reciprocal": unary(NegativePower(1)),
    "abs": unary(Absolute()),
    "sign": unary(Sign()),
    "sgn": unary(Sign()),
    "maximum": maximum,
    "minimum": maximum,
    "fmax": maximum,
    "fmin": maximum,
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "clip": clamp,
    "hardtanh": clamp,
    "relu6": unary(Clip(0.0, 6.0)),
    "hardsigmoid": hard_sigmoid,
    "hardswish": unary(HardSwish()),
    "threshold": threshold,
    "softshrink": soft_shrink,
    "hardshrink": hard_shrink,
    "elu": elu,
    "celu": elu,
    "selu": elu,
    "softplus": softplus,
    "log_sigmoid_forward": log_sigmoid,
    "sigmoid": unary(Sigmoid()),
    "tanh": unary(Tanh()),
    "atan": unary(Arctangent()),
    "asin": unary(Arcsine()),
    "acos": unary(Arcsine(), after=-1.0, shift=math.pi / 2),
    "erf": unary(Erf()),
    "erfc": unary(Erf(), after=-1.0, shift=1.0),
    "gelu": gelu,
    "silu": unary(SiLU()),
    "mish": unary(Mish()),
    "exp": unary(Exponential()),
    "exp2": unary(Exponential(), before=math.log(2)),
    "expm1": unary(Exponential(), shift=-1.0),
    "log": logarithm,
    "log1p": log1p,
    "log2": unary(Logarithm(), after=1 / math.log(2)),
    "log10": unary(Logarithm(), after=1 / math.log(10)),
    "sin": unary(Sine()),
    "cos": unary(Sine(math.pi / 2)),
    "tan": unary(Tangent()),
    "sinh": unary(HyperbolicSine()),
    "cosh": unary(HyperbolicCosine()),
    "asinh": unary(InverseHyperbolicSine()),
    "acosh": unary(InverseHyperbolicCosine()),
    "atanh": unary(InverseHyperbolicTangent()),
    "floor": unary(Staircase("floor")),
    "ceil": unary(Staircase("ceil")),
    "round": rounded,
    "trunc": unary(Truncate()),
}
