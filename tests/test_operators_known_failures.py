"""Cases in which bounds of existing tools were found wrong: here they must hold."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.rounding import margin
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load.record import record
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.gate import GELU
from lirpa_verify.operators.trigonometric import Sine
from lirpa_verify.operators.univariate import Univariate


def line_errors(function: Univariate, lower: Tensor, upper: Tensor, fractions: Tensor) -> Tensor:
    """Largest amount by which a line of some slopes crosses the function, per interval."""
    interval = Interval(lower.unsqueeze(0), upper.unsqueeze(0))
    points = lower + torch.linspace(0, 1, 300, dtype=lower.dtype).unsqueeze(1) * (upper - lower)
    limits = function.slope_range(interval)
    assert limits is not None
    slopes = [
        None,
        *(type(limits[0])(*(lo + f * (hi - lo) for lo, hi in zip(*limits, strict=True))) for f in fractions),
    ]
    worst = torch.zeros_like(lower)
    values = function.forward(points)
    for slope in slopes:
        below, below_offset, above, above_offset = (
            t[0, 0] if isinstance(t, Tensor) else t for t in function.lines(interval, slope)[:4]
        )
        worst = torch.maximum(worst, (below * points + below_offset - values).amax(0))
        worst = torch.maximum(worst, (values - above * points - above_offset).amax(0))
    return worst


@pytest.mark.parametrize("phase", [0.0, math.pi / 2])
def test_sine_and_cosine_everywhere(phase: float) -> None:
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(2500, generator=generator, dtype=torch.float64) * 20 - 10
    radius = torch.rand(2500, generator=generator, dtype=torch.float64) * 3
    lower, upper = centre - radius, centre + radius
    lower[0], upper[0] = 1.3753, 3.9910
    assert line_errors(Sine(phase), lower, upper, torch.tensor([0.0, 0.3, 0.9])).max() < 1e-12


def test_sine_of_a_known_interval() -> None:
    found = Sine().interval(
        Interval(torch.tensor([[1.3753]], dtype=torch.float64), torch.tensor([[3.9910]], dtype=torch.float64))
    )
    assert float(found.upper) == 1.0 and math.isclose(float(found.lower), math.sin(3.9910), abs_tol=1e-12)


def test_gelu_from_just_above_zero() -> None:
    generator = torch.Generator().manual_seed(1)
    lower = torch.randn(2500, generator=generator, dtype=torch.float64) * 2
    upper = lower + torch.rand(2500, generator=generator, dtype=torch.float64) * 6
    lower[0], upper[0] = 0.0026, 6.0
    assert line_errors(GELU(), lower, upper, torch.tensor([0.0, 0.2, 0.5, 1.0])).max() < 1e-11


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_derivatives_of_step_functions(name: str) -> None:
    """Products of a step function with what is left of it, as in Jacobians and Lyapunov conditions."""

    def tanh(x: Tensor) -> Tensor:
        return 1 - torch.tanh(x) ** 2

    def sigmoid(x: Tensor) -> Tensor:
        return torch.sigmoid(x) * (1 - torch.sigmoid(x))

    encloses(tanh if name == "tanh" else sigmoid, 6.0)


def test_maximum_with_a_moving_place() -> None:
    """``x_1 - max(x)`` over a box is not 0: which entry is largest changes."""
    lowest = encloses(lambda x: x[:, :1] - x.amax(1, keepdim=True), 1.0, torch.tensor([[0.0, 0.9, -0.5]]))
    assert lowest <= -1.9


def test_difference_of_equal_terms() -> None:
    encloses(lambda x: x**3 - 2 * x, 3.0)
    encloses(lambda x: torch.sin(x) - 0.5 * x, 3.0)


def encloses(function, radius: float, centre: Tensor | None = None) -> float:  # type: ignore[no-untyped-def]
    """Checks bounds of both methods against samples in both precisions; the least lower bound."""
    centre = torch.linspace(-1, 1, 4).reshape(1, -1) if centre is None else centre
    graph = simplify(lower(record(function, [centre]), RULES))
    least = math.inf
    for dtype in (torch.float64, torch.float32):
        typed = graph.to(dtype)
        box = Interval((centre - radius).to(dtype), (centre + radius).to(dtype))
        share = torch.rand(2000, centre.shape[1], generator=torch.Generator().manual_seed(2))
        share[:1000] = share[:1000].round()
        values = graph.forward(box.lower.double() + share * (box.upper.double() - box.lower.double()))
        rows = torch.eye(graph.n_outputs, dtype=dtype).unsqueeze(0)
        for method in ("ibp", "crown"):
            bounds = bound_nodes(typed, box, method)  # type: ignore[arg-type]
            start, known = {typed.output: torch.cat([rows, -rows], 1)}, sizes(typed, bounds)
            linear = backward(typed, start, dict(enumerate(bounds)), sizes=known)
            result = linear.lower(box) - margin(linear.magnitude(box))  # nothing else makes up for rounding
            low, high = result[0, : graph.n_outputs], -result[0, graph.n_outputs :]
            assert bool((low <= values.amin(0)).all()) and bool((high >= values.amax(0)).all())
            least = min(least, float(low.min()))
    return least
