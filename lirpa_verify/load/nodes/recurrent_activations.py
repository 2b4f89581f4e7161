"""The activations that RNN, GRU and LSTM may name, with their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from lirpa_verify.load.nodes.node import Node

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Form:
    """A function of a tensor and of as many numbers as there are defaults (alpha and beta)."""

    function: Callable[..., Tensor]
    alpha: float | None = None
    beta: float | None = None


def _affine(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


def _scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def _thresholded(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


_FORMS: Mapping[str, _Form] = MappingProxyType(
    {
        "sigmoid": _Form(torch.sigmoid),
        "tanh": _Form(torch.tanh),
        "relu": _Form(torch.relu),
        "softsign": _Form(F.softsign),
        "softplus": _Form(F.softplus),
        "affine": _Form(_affine, 1.0, 0.0),
        "scaledtanh": _Form(_scaled_tanh, 1.0, 1.0),
        "hardsigmoid": _Form(_hard_sigmoid, 0.2, 0.5),
        "leakyrelu": _Form(F.leaky_relu, 0.01),
        "thresholdedrelu": _Form(_thresholded, 1.0),
        "elu": _Form(F.elu, 1.0),
    }
)


def activations(node: Node, default: list[str]) -> list[Activation]:
    """The node's activations, of all directions; those that take numbers take the next ones of the node's lists."""
    alphas, betas = (iter(node.get(f"activation_{name}", ())) for name in ("alpha", "beta"))
    found: list[Activation] = []
    for name in node.get("activations", default):
        form = _FORMS.get(name.lower())
        if form is None:
            raise node.unsupported(f"activation {name}")
        pairs = ((alphas, form.alpha), (betas, form.beta))
        numbers = [next(given, usual) for given, usual in pairs if usual is not None]
        found.append(partial(_applied, form.function, numbers) if numbers else form.function)
    return found


def _applied(function: Callable[..., Tensor], numbers: list[float], x: Tensor) -> Tensor:
    return function(x, *numbers)


def clipped(function: Activation, limit: float) -> Activation:
    """The activation of its argument moved to between -limit and limit."""
    return lambda x: function(torch.clamp(x, -limit, limit))
