"""Activations and normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction


def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    number = node.number(slope)
    if number is not None:
        return F.leaky_relu(x, float(number))
    if 0 < slope.dim() < x.dim() and node.opset < 7:  # one slope per channel
        slope = slope.reshape(-1, *[1] * (x.dim() - 2))
    return torch.relu(x) - slope * torch.relu(-x)


def _elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


def _celu(node: Node, x: Tensor) -> Tensor:
    return F.celu(x, node.get("alpha", 1.0))


def _selu(node: Node, x: Tensor) -> Tensor:
    alpha = node.get("alpha", 1.67326319217681884765625)
    return F.elu(x, alpha) * node.get("gamma", 1.05070102214813232421875)


def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(x * node.get("alpha", 0.2) + node.get("beta", 0.5), 0.0, 1.0)


def _hard_swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.clamp(x / 6 + 0.5, 0.0, 1.0)


def _softplus(node: Node, x: Tensor) -> Tensor:
    return F.softplus(x)


def _softsign(node: Node, x: Tensor) -> Tensor:
    return x / (1 + torch.abs(x))


def _thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


def _swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(x * node.get("alpha", 1.0))


def _mish(node: Node, x: Tensor) -> Tensor:
    return x * torch.tanh(F.softplus(x))


def _softmax(node: Node, x: Tensor) -> Tensor:
    return _along_axis(node, x, torch.softmax)


def _log_softmax(node: Node, x: Tensor) -> Tensor:
    return _along_axis(node, x, torch.log_softmax)


def _along_axis(node: Node, x: Tensor, function: Any) -> Tensor:
    """Before opset 13 these worked on all dimensions from `axis` on together."""
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    axis = axis % max(x.dim(), 1)
    result: Tensor
    if node.opset >= 13 or axis == x.dim() - 1:
        result = function(x, axis)
    else:
        result = function(x.flatten(axis), axis).reshape(x.shape)
    return result


def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if node.get("training_mode", 0) or (node.opset < 7 and not node.get("is_test", 0)):
        raise node.unsupported("batch normalisation in training mode")
    if node.opset < 9 and not node.get("spatial", 1):
        raise node.unsupported("batch normalisation with spatial=0")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


def _layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
    """Also, where they are used, the mean and the reciprocal deviation."""
    axis, epsilon = node.get("axis", -1) % x.dim(), node.get("epsilon", 1e-5)
    shape = list(x.shape[axis:])
    bias = bias if bias is None else bias.expand(shape)
    result = F.layer_norm(x, shape, scale.expand(shape), bias, epsilon)
    if not any(node.outputs[1:]):
        return result
    axes = tuple(range(axis, x.dim()))
    mean = torch.mean(x, axes, keepdim=True)
    centred = x - mean
    return result, mean, torch.rsqrt(torch.mean(centred * centred, axes, keepdim=True) + epsilon)


def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return _normalised(x, tuple(range(2, x.dim())), node.get("epsilon", 1e-5)) * _per_channel(
        scale, x.dim()
    ) + _per_channel(bias, x.dim())


def _group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.get("num_groups")
    grouped = x.reshape(x.shape[0], groups, -1)
    normal = _normalised(grouped, (2,), node.get("epsilon", 1e-5)).reshape(x.shape)
    if node.opset < 21:  # one scale per group
        scale, bias = (value.repeat_interleave(x.shape[1] // groups) for value in (scale, bias))
    return normal * _per_channel(scale, x.dim()) + _per_channel(bias, x.dim())


def _rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = tuple(range(node.get("axis", -1) % x.dim(), x.dim()))
    return x * torch.rsqrt(torch.mean(x * x, axes, keepdim=True) + node.get("epsilon", 1e-5)) * scale


def _mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    axes = tuple(node.get("axes", (0, 2, 3)))
    centred = x - torch.mean(x, axes, keepdim=True)
    return centred / (torch.sqrt(torch.mean(centred * centred, axes, keepdim=True)) + 1e-9)


def _normalised(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - torch.mean(x, axes, keepdim=True)
    return centred * torch.rsqrt(torch.mean(centred * centred, axes, keepdim=True) + epsilon)


def _per_channel(value: Tensor, rank: int) -> Tensor:
    return value.reshape(1, -1, *[1] * (rank - 2))


def _lp_normalization(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", -1)
    size = (
        torch.sum(torch.abs(x), axis, keepdim=True)
        if node.get("p", 2) == 1
        else torch.sqrt(torch.sum(x * x, axis, keepdim=True))
    )
    return x / torch.clamp(size, min=torch.finfo(x.dtype).tiny)  # a vector of zeros stays one


def _shrink(node: Node, x: Tensor) -> Tensor:
    limit, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    zero = torch.zeros_like(x)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, zero))


def _relu(node: Node, x: Tensor) -> Tensor:
    return torch.relu(x)


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        "Relu": _relu,
        "LeakyRelu": _leaky_relu,
        "PRelu": _prelu,
        "Elu": _elu,
        "Celu": _celu,
        "Selu": _selu,
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _hard_swish,
        "Softplus": _softplus,
        "Softsign": _softsign,
        "ThresholdedRelu": _thresholded_relu,
        "Shrink": _shrink,
        "Gelu": _gelu,
        "Swish": _swish,
        "Mish": _mish,
        "Softmax": _softmax,
        "LogSoftmax": _log_softmax,
        "BatchNormalization": _batch_norm,
        "LayerNormalization": _layer_norm,
        "InstanceNormalization": _instance_norm,
        "GroupNormalization": _group_norm,
        "RMSNormalization": _rms_norm,
        "MeanVarianceNormalization": _mean_variance_normalization,
        "LpNormalization": _lp_normalization,
    }
)
