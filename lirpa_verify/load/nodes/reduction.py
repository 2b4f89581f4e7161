"""Reductions over axes, ArgMax and its one-hot, cumulative sums and products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction

_Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _reduce(function: _Reduction) -> NodeFunction:
    def run(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = node.get("axes") if axes is None else node.integers(axes, "axes")
        if not chosen and node.get("noop_with_empty_axes", 0):
            return x
        dims = tuple(axis % x.dim() for axis in chosen) if chosen else tuple(range(x.dim()))
        return function(x, dims, bool(node.get("keepdims", 1)))

    return run


def _sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sum(x, dims, keep) if dims else x


def _mean(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.mean(x, dims, keep) if dims else x


def _max(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.amax(x, dims, keep) if dims else x


def _min(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.amin(x, dims, keep) if dims else x


def _product(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = torch.prod(x, dim, keep)
    return x


def _l1(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(torch.abs(x), dims, keep)


def _l2(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sqrt(_sum(x * x, dims, keep))


def _sum_square(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x * x, dims, keep)


def _log_sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.log(_sum(x, dims, keep))


def _log_sum_exp(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x, dims, keep) if dims else x


def _extreme_index(function: Callable[..., Tensor]) -> NodeFunction:
    def run(node: Node, x: Tensor) -> Tensor:
        axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
        if node.get("select_last_index", 0):
            return torch.sub(x.shape[axis] - 1, function(torch.flip(x, [axis]), axis, keep))
        return function(x, axis, keep)

    return run


def _cumulative_sum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    chosen = (node.integers(axis, "axis") or [0])[0]
    backwards = bool(node.get("reverse", 0))
    values = torch.flip(x, [chosen]) if backwards else x
    result = torch.cumsum(values, chosen)
    if node.get("exclusive", 0):
        result = result - values
    return torch.flip(result, [chosen]) if backwards else result


def _cumulative_product(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    chosen = (node.integers(axis, "axis") or [0])[0]
    backwards = bool(node.get("reverse", 0))
    values = torch.flip(x, [chosen]) if backwards else x
    if node.get("exclusive", 0):
        first = torch.ones_like(torch.narrow(values, chosen, 0, 1))
        values = torch.cat([first, torch.narrow(values, chosen, 0, x.shape[chosen] - 1)], chosen)
    result = torch.cumprod(values, chosen)
    return torch.flip(result, [chosen]) if backwards else result


def _hardmax(node: Node, x: Tensor) -> Tensor:
    """One-hot of the largest entry; up to opset 12 along all dimensions from the axis on."""
    axis = node.get("axis", 1 if node.opset < 13 else -1) % x.dim()
    values = x if node.opset >= 13 else x.flatten(axis)
    place = torch.argmax(values, axis, keepdim=True)
    entries = torch.arange(values.shape[axis]).reshape(-1, *[1] * (values.dim() - 1 - axis))
    return torch.eq(place, entries).to(x.dtype).reshape(x.shape)


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        "ReduceSum": _reduce(_sum),
        "ReduceMean": _reduce(_mean),
        "ReduceMax": _reduce(_max),
        "ReduceMin": _reduce(_min),
        "ReduceProd": _reduce(_product),
        "ReduceL1": _reduce(_l1),
        "ReduceL2": _reduce(_l2),
        "ReduceSumSquare": _reduce(_sum_square),
        "ReduceLogSum": _reduce(_log_sum),
        "ReduceLogSumExp": _reduce(_log_sum_exp),
        "ArgMax": _extreme_index(torch.argmax),
        "ArgMin": _extreme_index(torch.argmin),
        "CumSum": _cumulative_sum,
        "CumProd": _cumulative_product,
        "Hardmax": _hardmax,
    }
)
