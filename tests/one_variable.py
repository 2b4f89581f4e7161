"""All operators of one variable, with the part of the real line that they are tested on."""

from __future__ import annotations

import math

from lirpa_verify.operators.absolute import Absolute
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.clip import Clip, SoftShrink
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
from lirpa_verify.operators.power import EvenPower, NegativePower, OddPower, RealPower
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.sign import Sign, Step, Threshold
from lirpa_verify.operators.softsign import Softsign
from lirpa_verify.operators.staircase import Staircase
from lirpa_verify.operators.tanh import Tanh
from lirpa_verify.operators.trigonometric import Sine, Tangent
from lirpa_verify.operators.univariate import Univariate

EVERYWHERE = (-math.inf, math.inf)
FUNCTIONS: list[tuple[Univariate | ReLU, tuple[float, float]]] = [
    (ReLU(), EVERYWHERE),
    (ReLU(0.1), EVERYWHERE),
    (Sigmoid(), EVERYWHERE),
    (Tanh(), EVERYWHERE),
    (Arctangent(), EVERYWHERE),
    (Erf(), EVERYWHERE),
    (Softsign(), EVERYWHERE),
    (InverseHyperbolicSine(), EVERYWHERE),
    (HyperbolicSine(), (-9, 9)),
    (HyperbolicCosine(), (-9, 9)),
    (Arcsine(), (-0.9999, 0.9999)),
    (InverseHyperbolicTangent(), (-0.999, 0.999)),
    (InverseHyperbolicCosine(), (1, math.inf)),
    (Exponential(), (-60, 9)),
    (Softplus(), EVERYWHERE),
    (Logarithm(), (1e-3, math.inf)),
    (EvenPower(2), EVERYWHERE),
    (EvenPower(4), EVERYWHERE),
    (OddPower(3), EVERYWHERE),
    (OddPower(5), EVERYWHERE),
    (NegativePower(1), (0.05, math.inf)),
    (NegativePower(1), (-math.inf, -0.05)),
    (NegativePower(2), (0.05, math.inf)),
    (NegativePower(3), (-math.inf, -0.1)),
    (RealPower(0.5), (0, math.inf)),
    (RealPower(-0.5), (0.01, math.inf)),
    (RealPower(1.7), (0, math.inf)),
    (RealPower(0.2), (0, math.inf)),
    (Absolute(), EVERYWHERE),
    (Clip(0.0, 6.0), EVERYWHERE),
    (Clip(-1.0, 1.0), EVERYWHERE),
    (SoftShrink(0.5), EVERYWHERE),
    (ELU(1.0, 1.0, 1.0), EVERYWHERE),
    (ELU(1.758, 1.0507, 1.0), EVERYWHERE),
    (ELU(0.5, 1.0, 2.0), EVERYWHERE),
    (ELU(0.3, 1.0, 1.0), EVERYWHERE),
    (GELU(), EVERYWHERE),
    (TanhGELU(), EVERYWHERE),
    (SiLU(), EVERYWHERE),
    (Mish(), EVERYWHERE),
    (HardSwish(), EVERYWHERE),
    (Sine(), EVERYWHERE),
    (Sine(math.pi / 2), EVERYWHERE),
    (Tangent(), (-1.5, 1.5)),
    (Tangent(), (1.7, 4.6)),
    (Sign(), EVERYWHERE),
    (Step(True), EVERYWHERE),
    (Step(False), EVERYWHERE),
    (Threshold(0.7, 0.0), EVERYWHERE),
    (Threshold(-0.2, 1.0), EVERYWHERE),
    (Staircase("floor"), EVERYWHERE),
    (Staircase("ceil"), EVERYWHERE),
    (Staircase("round"), EVERYWHERE),
]
NAMES = [f"{i}-{type(f).__name__}" for i, (f, _) in enumerate(FUNCTIONS)]


def cut(interval: Interval, domain: tuple[float, float]) -> Interval:
    return Interval(*(end.clamp(*domain) for end in interval))
