"""Random attributes, shapes and intervals: points, tiny and huge ones, and ones that end at or about break points."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from one_variable import EVERYWHERE, FUNCTIONS, cut
from operator_checks import check_operator
from torch import Tensor

from lirpa_verify.operators.base import Interval, Operator
from lirpa_verify.operators.clip import Clip, SoftShrink
from lirpa_verify.operators.elu import ELU
from lirpa_verify.operators.gate import TanhGELU
from lirpa_verify.operators.power import EvenPower, NegativePower, OddPower, RealPower
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.operators.sign import Threshold

Draw = Callable[[float, float], float]
Domain = tuple[float, float]
WITH_ATTRIBUTES: dict[str, Callable[[Draw], tuple[Operator, Domain]]] = {
    "leaky relu": lambda u: (ReLU(u(0, 1)), EVERYWHERE),
    "clip": lambda u: (Clip(low := u(-4, 3), low + u(1e-3, 5)), EVERYWHERE),
    "soft shrink": lambda u: (SoftShrink(u(0, 3)), EVERYWHERE),
    "elu": lambda u: (ELU(u(1e-2, 3), u(1e-2, 3), u(1e-2, 3)), EVERYWHERE),
    "even power": lambda u: (EvenPower(2 * int(u(1, 5))), (-30, 30)),
    "odd power": lambda u: (OddPower(2 * int(u(1, 5)) + 1), (-30, 30)),
    "negative power": lambda u: (NegativePower(int(u(1, 6))), (u(1e-2, 1), 1e3)),
    "negative power left of 0": lambda u: (NegativePower(int(u(1, 6))), (-1e3, -u(1e-2, 1))),
    "real power": lambda u: (RealPower(u(0.05, 4.9)), (0, 30)),
    "real power below 0": lambda u: (RealPower(-u(0.05, 4.9)), (u(1e-2, 1), 1e3)),
    "threshold": lambda u: (Threshold(u(-3, 3), u(-3, 3)), EVERYWHERE),
    "tanh gelu": lambda u: (TanhGELU(0.044715 * (1 + u(-1e-7, 1e-7))), EVERYWHERE),
}
OTHERS = {f"{i} {type(f).__name__}": (f, domain) for i, (f, domain) in enumerate(FUNCTIONS)}
USUAL = (-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, math.pi / 2, math.pi, -math.pi)


def draw(generator: torch.Generator) -> Draw:
    return lambda low, high: low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def random_shape(generator: torch.Generator) -> tuple[int, ...]:
    rank = int(torch.randint(1, 4, (), generator=generator))
    return tuple(torch.randint(1, 5, (rank,), generator=generator).tolist())


def break_points(function: Operator) -> Tensor:
    own = [*getattr(function, "inflections", ()), *getattr(function, "turning", ())]
    own += [v for f in dataclasses.fields(function) if isinstance(v := getattr(function, f.name), float)]
    return torch.tensor([*USUAL, *own, *(-point for point in own)], dtype=torch.float64)


def random_ends(generator: torch.Generator, function: Operator, size: tuple[int, ...]) -> Interval:
    """Half of them begin and end at or just beside break points, the others have radii from 1e-12 to 1e3, or none."""
    points = break_points(function)
    ends = []
    for _ in range(2):
        chosen = points[torch.randint(len(points), size, generator=generator)]
        beside = torch.randint(-1, 2, size, generator=generator) * 10.0 ** torch.randint(
            -12, 0, size, generator=generator
        )
        ends.append(chosen + beside)
    exponent = torch.randint(-12, 4, size, generator=generator)
    radius = torch.where(exponent == -12, 0, 10.0**exponent) * torch.rand(
        size, generator=generator, dtype=torch.float64
    )
    centre = torch.randn(size, generator=generator, dtype=torch.float64) * 3
    broken = torch.rand(size, generator=generator) < 0.5
    return Interval(
        torch.where(broken, torch.minimum(*ends), centre - radius),
        torch.where(broken, torch.maximum(*ends), centre + radius),
    )


def check(function: Operator, domain: Domain, generator: torch.Generator) -> None:
    for dtype in (torch.float64, torch.float32):
        interval = cut(random_ends(generator, function, (12, *random_shape(generator))), domain)
        check_operator(function, (interval,), 1, dtype, count=25)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", WITH_ATTRIBUTES)
def test_functions_with_attributes(name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    check(*WITH_ATTRIBUTES[name](draw(generator)), generator)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", OTHERS)
def test_other_functions(name: str, seed: int) -> None:
    check(*OTHERS[name], torch.Generator().manual_seed(seed))
