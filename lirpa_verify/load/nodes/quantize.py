"""Linear quantisation: rounding to a grid, kept as the arithmetic that it is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction


def _quantize(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    kind = torch.uint8 if zero is None else zero.dtype
    if kind not in (torch.uint8, torch.int8, torch.int16, torch.int32):
        raise node.unsupported(f"quantisation to {kind}")
    limits = torch.iinfo(kind)
    places = torch.round(x / _along(node, scale, x))
    if zero is not None:
        places = places + _along(node, zero.to(x.dtype), x)
    return torch.clamp(places, limits.min, limits.max).to(kind)


def _dequantize(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    values = x.to(scale.dtype)
    if zero is not None:
        values = values - _along(node, zero.to(scale.dtype), x)
    return values * _along(node, scale, x)


def _along(node: Node, value: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point per entry of `axis`, shaped to broadcast."""
    if node.get("block_size", 0):
        raise node.unsupported("quantisation by blocks")
    if value.numel() == 1:
        return value.reshape(())
    axis = node.get("axis", 1) % x.dim()
    return value.reshape(-1, *[1] * (x.dim() - axis - 1))


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType({"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize})
