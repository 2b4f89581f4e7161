"""Functions written out in parts: where a joint relaxation is tighter they are recognised, and stay what they are."""

from __future__ import annotations

import math

import pytest
import torch
from function_checks import Function, check_function, constant
from torch import Tensor

from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.load.record import record
from lirpa_verify.operators.divide import Divide
from lirpa_verify.operators.gate import GELU, SiLU, TanhGELU
from lirpa_verify.operators.log_sum_exp import LogSumExp
from lirpa_verify.operators.power import OddPower
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.standardise import Standardise


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rounded_tanh_gelu(x: Tensor) -> Tensor:
    """As exported with constants in single precision."""
    c, k = torch.tensor(math.sqrt(2 / math.pi)), torch.tensor(0.044715)
    return x * 0.5 * (torch.tanh(c * (x + k * (x * x * x))) + 1)


def shifted_softmax(x: Tensor) -> Tensor:
    e = torch.exp(x - x.amax(1, keepdim=True))
    return e / e.sum(1, keepdim=True)


def normalised(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(1, keepdim=True) + 1e-5)


RECOGNISED: dict[str, tuple[Function, type]] = {
    "softmax": (lambda x: torch.exp(x) / torch.exp(x).sum(1, keepdim=True), Softmax),
    "softmax along the first dimension": (lambda x: torch.exp(x) / torch.exp(x).sum(0), Softmax),
    "shifted softmax": (shifted_softmax, Softmax),
    "softmax less the largest of all": (lambda x: (e := torch.exp(x - x.max())) / e.sum(1, True), Softmax),
    "softmax of two": (lambda x: torch.exp(x[:, :2]) / torch.exp(x[:, :2]).sum(1, keepdim=True), Sigmoid),
    "log of a softmax": (lambda x: torch.log(torch.softmax(x, 1)), LogSumExp),
    "log of a sum": (lambda x: torch.log(torch.exp(x).sum(1)), LogSumExp),
    "gelu": (lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), GELU),
    "tanh gelu": (tanh_gelu, TanhGELU),
    "rounded tanh gelu": (rounded_tanh_gelu, TanhGELU),
    "silu": (lambda x: x * torch.sigmoid(x), SiLU),
    "layer norm": (normalised, Standardise),
    "norm without kept dimensions": (lambda x: x * torch.rsqrt((x * x).mean(0) + 1e-5), Standardise),
    "cube": (lambda x: x * x * x, OddPower),
    "quotient": (lambda x: x / (x.flip(1).abs() + 1), Divide),
}
# The same calls along other dimensions: of square matrices, where a sum without its dimension goes elsewhere.
DIFFERENT: dict[str, Function] = {
    "rows by the norms of other rows": lambda x: x * torch.rsqrt((x * x).mean(1) + 1e-5),
    "rows by sums of other rows": lambda x: torch.exp(x) / torch.exp(x).sum(1),
    "less the means of other rows": lambda x: (
        (x - x.mean(1)) / torch.sqrt(((x - x.mean(1)) ** 2).mean(1, keepdim=True) + 1e-5)
    ),
    "less a term that differs": lambda x: torch.exp(x - x[0]) / torch.exp(x - x[0]).sum(1, keepdim=True),
    "another cube in a gate": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.05 * x**3))),
    "a gate of something else": lambda x: x * torch.sigmoid(x.flip(0)),
    "a step that is not the gate's": lambda x: x * (torch.erf(x) + 0.5),
    "sums of other exponentials": lambda x: torch.exp(x) / torch.exp(2 * x).sum(1, keepdim=True),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_recognised(name: str) -> None:
    function, kind = RECOGNISED[name]
    nodes = lower(record(function, [constant(4, 4)]), RULES).nodes
    assert any(isinstance(node.operator, kind) for node in nodes)
    check_function(name, function, (4, 4))


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_only_looks_alike_is_left_alone(name: str) -> None:
    check_function(name, DIFFERENT[name], (4, 4))
