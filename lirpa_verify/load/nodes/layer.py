"""Matrix products, convolutions and pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.permute(1, 0) if node.get("transA", 0) else a
    b = b.permute(1, 0) if node.get("transB", 0) else b
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if c is not None and beta != 0:
        if node.opset < 7 and c.dim() == 1 and not node.get("broadcast", 0) and a.shape[0] != 1:
            raise node.unsupported("a bias that is not of the shape of the result")
        return torch.addmm(c, a, b, beta=_whole(beta), alpha=_whole(alpha))
    product = torch.mm(a, b)
    return product if alpha == 1 else product * alpha


def _einsum(node: Node, *values: Tensor) -> Tensor:
    return torch.einsum(node.get("equation"), *values)


def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    window = _Window(node, x, weight.shape[2:])
    x, padding = window.pad(x, 0.0)
    return torch.convolution(
        x, weight, bias, window.strides, padding, window.dilations, False, [0] * window.rank, node.get("group", 1)
    )


def _conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = x.dim() - 2
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    extra = list(node.get("output_padding", [0] * rank))
    full = [
        strides[i] * (x.shape[2 + i] - 1) + extra[i] + (weight.shape[2 + i] - 1) * dilations[i] + 1 for i in range(rank)
    ]
    begin, end = _transposed_pads(node, full, [strides[i] * x.shape[2 + i] for i in range(rank)])
    group = node.get("group", 1)
    if begin == end and all(entry >= 0 for entry in begin):
        return torch.convolution(x, weight, bias, strides, begin, dilations, True, extra, group)
    # Torch has only symmetric padding: compute everything, then cut. What is to be cut may be less than nothing.
    result = torch.convolution(x, weight, None, strides, [0] * rank, dilations, True, extra, group)
    result = F.pad(result, _torch_pads([-entry for entry in begin], [-entry for entry in end]))
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


def _transposed_pads(node: Node, full: list[int], same: list[int]) -> tuple[list[int], list[int]]:
    """What a transposed convolution cuts at the beginning and end of each dimension; less than 0: what it adds.

    As onnxruntime has it where the convolution does not reach the shape: one that is asked for is filled up at the
    end, that of `auto_pad` stays smaller.
    """
    rank = len(full)
    auto_pad = node.get("auto_pad", "NOTSET")
    shape = node.get("output_shape")
    if shape is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        shape = [min(pair) for pair in zip(full, same, strict=True)]
    if shape is None:
        pads = node.get("pads", [0] * 2 * rank) if auto_pad in ("NOTSET", "") else [0] * 2 * rank
        return list(pads[:rank]), list(pads[rank:])
    total = [full[i] - entry for i, entry in enumerate(shape[-rank:])]
    small = [max(entry, 0) // 2 for entry in total]
    large = [max(entry, 0) - less for entry, less in zip(total, small, strict=True)]
    begin, end = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return begin, [entry + min(whole, 0) for entry, whole in zip(end, total, strict=True)]


class _Window:
    """The sliding window of a convolution or a pooling node, with its padding worked out."""

    def __init__(self, node: Node, x: Tensor, kernel: Sequence[int]) -> None:
        self.kernel = [int(entry) for entry in kernel]
        self.rank = len(self.kernel)
        if not 1 <= self.rank <= 3:
            raise node.unsupported(f"{self.rank} spatial dimensions (1 to 3 are supported)")
        self.strides = list(node.get("strides", [1] * self.rank))
        self.dilations = list(node.get("dilations", [1] * self.rank))
        self.ceil = bool(node.get("ceil_mode", 0))
        pads = self._pads(node, [int(entry) for entry in x.shape[2:]])
        self.begin, self.end = pads[: self.rank], pads[self.rank :]

    def _pads(self, node: Node, size: list[int]) -> list[int]:
        auto_pad = node.get("auto_pad", "NOTSET")
        if auto_pad in ("NOTSET", ""):
            return list(node.get("pads", [0] * 2 * self.rank))
        if auto_pad == "VALID":
            return [0] * 2 * self.rank
        begin, end = [], []
        for i in range(self.rank):
            steps = -(-size[i] // self.strides[i])
            total = max((steps - 1) * self.strides[i] + self.reach(i) - size[i], 0)
            half = total // 2
            begin.append(half if auto_pad == "SAME_UPPER" else total - half)
            end.append(total - half if auto_pad == "SAME_UPPER" else half)
        return begin + end

    def reach(self, i: int) -> int:
        return (self.kernel[i] - 1) * self.dilations[i] + 1

    def last(self, i: int, size: int) -> int:
        """The number of the last window of a padded dimension, with `ceil`; none begins in the padding at the end."""
        last = -(-(size - self.reach(i)) // self.strides[i])
        return last - 1 if last * self.strides[i] >= size - self.end[i] else last

    def missing(self, i: int, size: int) -> int:
        """What a padded dimension lacks for the last window, with `ceil`."""
        return max(self.last(i, size) * self.strides[i] + self.reach(i) - size, 0)

    def existing(self, pooled: Tensor, padded: Tensor) -> Tensor:
        """What torch pooled from input padded by hand, without the windows that begin in the padding at the end."""
        for i in range(self.rank if self.ceil else 0):
            pooled = torch.narrow(pooled, 2 + i, 0, self.last(i, padded.shape[2 + i]) + 1)
        return pooled

    def symmetric(self, limit: bool) -> bool:
        """Whether torch's own padding argument can express it; pooling limits it to half of the window."""
        small = all(2 * pad <= size for pad, size in zip(self.begin, self.kernel, strict=True))
        return self.begin == self.end and min(self.begin) >= 0 and (small or not limit)

    def pad(self, x: Tensor, value: float, limit: bool = False) -> tuple[Tensor, list[int]]:
        """The input, padded where torch's own padding argument cannot express it, and that argument."""
        if self.symmetric(limit):
            return x, self.begin
        return F.pad(x, _torch_pads(self.begin, self.end), value=value), [0] * self.rank


def _torch_pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Torch lists pads from the last dimension to the first, begin and end of each together."""
    return [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]


def _max_pool(node: Node, x: Tensor) -> Tensor:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("the indices output")
    if node.get("storage_order", 0):
        raise node.unsupported("column-major storage order")
    window = _Window(node, x, node.get("kernel_shape"))
    padded, padding = window.pad(x, -torch.inf, limit=True)
    pooled = _MAX_POOL[window.rank](padded, window.kernel, window.strides, padding, window.dilations, window.ceil)
    return pooled if padded is x else window.existing(pooled, padded)


def _average_pool(node: Node, x: Tensor) -> Tensor:
    window = _Window(node, x, node.get("kernel_shape"))
    if any(entry != 1 for entry in window.dilations):
        return _dilated_mean(window, x, bool(node.get("count_include_pad", 0)))
    pool = _AVERAGE_POOL[window.rank]
    include = bool(node.get("count_include_pad", 0))
    if window.symmetric(limit=True):
        result: Tensor = pool(x, window.kernel, window.strides, window.begin, window.ceil, include)
        return result
    padded = F.pad(x, _torch_pads(window.begin, window.end))
    mean = window.existing(pool(padded, window.kernel, window.strides, 0, window.ceil), padded)
    if include:
        return mean
    # The share of each window that lies on the input, by the same pooling of ones.
    ones = F.pad(torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype), _torch_pads(window.begin, window.end))
    share = window.existing(pool(ones, window.kernel, window.strides, 0, window.ceil), ones)
    return mean * (1 / share)


def _dilated_mean(window: _Window, x: Tensor, include: bool) -> Tensor:
    """Sums over windows, by the numbers of entries that count; padding does if asked for."""
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    counted = F.pad(ones, _torch_pads(window.begin, window.end), value=float(include))
    return _window_sums(window, x) * (1 / _window_sums(window, counted, padded=True))


def _window_sums(window: _Window, x: Tensor, padded: bool = False) -> Tensor:
    """Sums over the entries of each window, zeros where it leaves the input; a depthwise convolution."""
    if not padded:
        x = F.pad(x, _torch_pads(window.begin, window.end))
    missing = [window.missing(i, size) for i, size in enumerate(x.shape[2:])] if window.ceil else [0] * window.rank
    x = F.pad(x, _torch_pads([0] * window.rank, missing)) if any(missing) else x
    weight = torch.ones((x.shape[1], 1, *window.kernel), dtype=x.dtype)
    return torch.convolution(
        x, weight, None, window.strides, [0] * window.rank, window.dilations, False, [0] * window.rank, x.shape[1]
    )


def _lp_pool(node: Node, x: Tensor) -> Tensor:
    window, order = _Window(node, x, node.get("kernel_shape")), node.get("p", 2)
    if order == 1:
        return _window_sums(window, torch.abs(x))
    if order == 2:
        return torch.sqrt(_window_sums(window, x * x))
    return torch.pow(_window_sums(window, torch.pow(torch.abs(x), order)), 1 / order)


def _global_average_pool(node: Node, x: Tensor) -> Tensor:
    return torch.mean(x, tuple(range(2, x.dim())), keepdim=True)


def _grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.get("mode", "linear"), node.get("mode", "linear"))
    return F.grid_sample(x, grid, mode, node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0)))


def _col2im(node: Node, x: Tensor, image: Tensor, block: Tensor) -> Tensor:
    """Blocks added up where they overlap: torch's `fold`, which is for images."""
    size, kernel = node.integers(image, "image shape") or [], node.integers(block, "block shape") or []
    pads = node.get("pads", [0, 0, 0, 0])
    if len(size) != 2 or pads[:2] != pads[2:]:
        raise node.unsupported("images that do not have two dimensions, or uneven padding")
    attributes = (tuple(values) for values in (node.get("dilations", [1, 1]), pads[:2], node.get("strides", [1, 1])))
    return F.fold(x, tuple(size), tuple(kernel), *attributes)


def _global_max_pool(node: Node, x: Tensor) -> Tensor:
    return torch.amax(x, tuple(range(2, x.dim())), keepdim=True)


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        "MatMul": _matmul,
        "Gemm": _gemm,
        "Einsum": _einsum,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "MaxPool": _max_pool,
        "AveragePool": _average_pool,
        "LpPool": _lp_pool,
        "GridSample": _grid_sample,
        "Col2Im": _col2im,
        "GlobalAveragePool": _global_average_pool,
        "GlobalMaxPool": _global_max_pool,
    }
)
