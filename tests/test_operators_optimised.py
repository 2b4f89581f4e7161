"""Gradient ascent on the free parameters of every kind of relaxation: bounds stay valid and do not get worse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_functions import ELEMENTWISE, VECTOR

from lirpa_verify.bounds.alpha_crown import Parameters, Target, initial_positions, optimise
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load.record import record
from lirpa_verify.operators.base import Interval

W = torch.sin(torch.arange(32) * 1.3).reshape(4, 8)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "step functions": lambda x: torch.tanh(torch.sigmoid(x @ W) @ W.mT),
    "waves": lambda x: torch.sin(x @ W) * torch.cos(x[..., :1]),
    "gates": lambda x: F.gelu(F.silu(F.mish(x @ W)) @ W.mT),
    "curves": lambda x: torch.exp(x) / (1 + x**2) + torch.log(x**2 + 1) + x**3,
    "attention": lambda x: torch.softmax(x @ x.mT, -1) @ x,
    "normalisation": lambda x: F.layer_norm(x @ W, (8,)),
    "extremes": lambda x: F.max_pool1d((x @ W).unsqueeze(0), 2)[0] - x.amax(),
    "log-softmax": lambda x: F.log_softmax(x, -1),
    "steps": lambda x: torch.sign(x @ W) @ W.mT + torch.floor(x) + F.hardtanh(x) - x.abs(),
    "scalar": lambda x: (x.sum() * x.max()).sigmoid(),
}


SINGLE = {**ELEMENTWISE, **VECTOR}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bounds_stay_valid(name: str) -> None:
    gain = check_optimised(FUNCTIONS[name], 0.5, 15)
    assert bool((gain > 1e-6).any())


@pytest.mark.parametrize("name", SINGLE)
def test_bounds_of_single_operators_stay_valid(name: str) -> None:
    """Each on linear functions of the input, which its planes can lean on."""
    mixed = torch.eye(4) + 0.4 * W[:, :4]
    check_optimised(lambda x: SINGLE[name](x @ mixed), 0.3, 4)


def check_optimised(function: Callable[[Tensor], Tensor], scale: float, steps: int) -> Tensor:
    """What optimisation gains, (2, 3). It keeps the best bound of every row, so that one step too far would show."""
    shape = (3, 4)
    graph = simplify(lower(record(function, [torch.full(shape, 0.1)]), RULES))
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(2, 12, generator=generator, dtype=torch.float64) * scale
    radius = torch.tensor([[0.1], [0.5]], dtype=torch.float64)
    box = Interval(centre - radius, centre + radius)
    values = bound_nodes(graph, box, "crown")
    intervals = {i: Interval(*(end.expand(2, *end.shape[1:]) for end in v)) for i, v in enumerate(values)}
    rows = torch.randn(2, 3, graph.n_outputs, generator=generator, dtype=torch.float64)
    target = Target({graph.output: rows}, torch.full((2, 3), 1e3, dtype=torch.float64), box, intervals)
    positions = initial_positions(graph, intervals, graph.ancestors[graph.output], 3)
    first = optimise(graph, target, Parameters(positions, {}), 0)
    best = optimise(graph, target, Parameters(positions, {}), steps)
    points = box.lower.unsqueeze(1) + torch.rand(2, 400, 12, generator=generator) * (2 * radius).unsqueeze(1)
    outputs = graph.forward(points.flatten(0, 1).double()).unflatten(0, (2, 400))
    least = torch.einsum("brn,bcn->brc", rows, outputs).amin(2) - 1e3
    assert bool((best.margin <= least).all())
    assert bool((best.margin >= first.margin).all())
    return best.margin - first.margin
