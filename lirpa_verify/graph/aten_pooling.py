"""Lowering rules of pooling and resizing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.graph.aten_groups import unmasked
from lirpa_verify.graph.building import along_matrix, argument, listed, scaled, shape_of
from lirpa_verify.graph.lower import Builder, Rule, Symbol, operator_name
from lirpa_verify.load.recording import Call
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.maximum import Maximum
from lirpa_verify.operators.rearrange import Gather


def per_dimension(values: Any, rank: int, default: list[int]) -> list[int]:
    found = listed(values) or default
    return found * rank if len(found) == 1 else found


def average_pool(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """avg_pool as a depthwise convolution with a constant kernel, rescaled where padding does not count."""
    x, rank = args[0], int(operator_name(call)[-2])
    kernel = per_dimension(args[1], rank, [])
    stride = per_dimension(argument(call, args, 2, "stride", None), rank, kernel)
    padding = per_dimension(argument(call, args, 3, "padding", None), rank, [0])
    ceil_mode, include = argument(call, args, 4, "ceil_mode", False), argument(call, args, 5, "count_include_pad", True)
    divisor = argument(call, args, 6, "divisor_override", None)
    shape = shape_of(call)
    if ceil_mode:
        return windows_by_matrix(b, x, [
            average_matrix(x.shape[d - rank], shape[d - rank], kernel[d], stride[d], padding[d], bool(include))
            for d in range(rank)
        ], math.prod(kernel) / divisor if divisor else 1.0)  # fmt: skip
    batched = b.reshape(x, (1,) * (rank + 2 - len(x.shape)) + x.shape)  # a missing model batch dimension
    channels = batched.shape[1]
    weight = torch.full((channels, 1, *kernel), 1.0 / (divisor or math.prod(kernel)), dtype=torch.float64)
    operator = Convolution(
        weight, None, tuple(stride), tuple(padding), (1,) * rank, False, (0,) * rank, channels, batched.shape
    )
    pooled = b.add(operator, [batched], (batched.shape[0], channels, *shape[-rank:]))
    if not include and not divisor and any(padding):
        ones = operator.convolve(torch.ones(1, *batched.shape, dtype=torch.float64), weight)[0]
        pooled = scaled(b, pooled, 1 / ones)
    return b.reshape(pooled, shape)


def average_matrix(size: int, count: int, kernel: int, stride: int, padding: int, include: bool) -> Tensor:
    """(size, count) averages over windows; windows that reach beyond the padding are cut there."""
    matrix = torch.zeros(size, count, dtype=torch.float64)
    for o in range(count):
        start = o * stride - padding
        end = min(start + kernel, size + padding)
        first, last = max(start, 0), min(end, size)
        matrix[first:last, o] = 1.0 / ((end - start) if include else (last - first))
    return matrix


def windows_by_matrix(b: Builder, x: Symbol, matrices: list[Tensor], factor: float = 1.0) -> Symbol:
    """Multiplies the last dimensions with one matrix each."""
    for d, matrix in enumerate(matrices):
        x = along_matrix(b, x, d - len(matrices), matrix)
    return x if factor == 1 else scaled(b, x, factor)


def adaptive_average_pool(b: Builder, call: Call, args: list[Any]) -> Symbol:
    x, shape = args[0], shape_of(call)
    rank = int(operator_name(call)[-2])
    matrices = []
    for size, count in zip(x.shape[-rank:], shape[-rank:], strict=True):
        matrix = torch.zeros(size, count, dtype=torch.float64)
        for o, window in enumerate(adaptive_windows(size, count)):
            matrix[window, o] = 1 / len(window)
        matrices.append(matrix)
    return windows_by_matrix(b, x, matrices)


def adaptive_windows(size: int, count: int) -> list[list[int]]:
    return [list(range(o * size // count, -(-(o + 1) * size // count))) for o in range(count)]


def max_pool(b: Builder, call: Call, args: list[Any]) -> Symbol | tuple[Symbol | None, ...]:
    """Gathers every window, then takes its maximum; places outside repeat an entry of the same window."""
    name = operator_name(call)
    x, shape = args[0], shape_of(call)
    rank = int(name.removesuffix("_with_indices")[-2])
    if name.startswith("adaptive"):
        windows = [adaptive_windows(*sizes) for sizes in zip(x.shape[-rank:], shape[-rank:], strict=True)]
    else:
        kernel = per_dimension(args[1], rank, [])
        stride = per_dimension(argument(call, args, 2, "stride", None), rank, kernel)
        padding = per_dimension(argument(call, args, 3, "padding", None), rank, [0])
        dilation = per_dimension(argument(call, args, 4, "dilation", None), rank, [1])
        windows = [
            [[i for i in (o * s - p + k * step for k in range(size)) if 0 <= i < n] for o in range(count)]
            for n, count, size, s, p, step in zip(
                x.shape[-rank:], shape[-rank:], kernel, stride, padding, dilation, strict=True
            )
        ]
    x, index = without_fill(b, x, window_index(x.shape, [padded(w) for w in windows]))
    gathered = b.add(Gather(index.reshape(-1), x.shape, tuple(index.shape)), [x], tuple(index.shape))
    pooled = b.add(Maximum(), [gathered], shape)
    if len(call.outputs) == 1:
        return pooled
    return pooled, None


def without_fill(b: Builder, x: Symbol, index: Tensor) -> tuple[Symbol, Tensor]:
    """Windows of a value that was padded with minus infinity, without the padding: no entry of it is the largest."""
    inner, kept = unmasked(b, x)
    if kept is None:
        return x, index
    counts = kept.reshape(-1)[index]
    if not bool(counts.any(-1).all()):
        return x, index
    first = index.gather(-1, counts.to(torch.uint8).argmax(-1, keepdim=True))
    return inner, torch.where(counts, index, first)


def padded(windows: list[list[int]]) -> Tensor:
    """(windows, entries): shorter windows repeat their first entry."""
    longest = max(len(w) for w in windows)
    return torch.tensor([w + w[:1] * (longest - len(w)) for w in windows])


def window_index(shape: tuple[int, ...], windows: list[Tensor]) -> Tensor:
    """Numbers of the entries of each window, (*result, entries of a window)."""
    rank = len(windows)
    numbers = torch.arange(math.prod(shape)).reshape(shape)
    for d, window in enumerate(windows):
        place = len(shape) - rank + d
        numbers = (
            numbers.index_select(place, window.reshape(-1)).unflatten(place, tuple(window.shape)).movedim(place + 1, -1)
        )
    return numbers.flatten(len(shape))


def interpolate(b: Builder, call: Call, args: list[Any]) -> Symbol:
    """Linear and cubic resizing: one matrix per dimension, taken from ATen itself on unit vectors."""
    x, shape, name = args[0], shape_of(call), operator_name(call)
    rank = int(name[-2])
    run = getattr(torch.ops.aten, name).default
    align = bool(args[2])
    if call.op.endswith(".vec"):
        scales = list(args[3]) if len(args) > 3 and args[3] is not None else [None] * rank
    else:
        scales = list(args[3 : 3 + rank]) + [None] * (rank - len(args[3:]))
    matrices = []
    for d in range(rank):
        n, count = x.shape[d - rank], shape[d - rank]
        unit = torch.eye(n, dtype=torch.float64).reshape(1, n, *[n if e == d else 1 for e in range(rank)])
        size = [count if e == d else 1 for e in range(rank)]
        resized = run(unit, size, align, *[scales[d] if e == d else None for e in range(rank)])
        matrices.append(resized.reshape(n, count))
    return windows_by_matrix(b, x, matrices)


POOLING_RULES: dict[str, Rule] = {
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), average_pool),
    **dict.fromkeys(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"), adaptive_average_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), adaptive_average_pool),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), max_pool),
    **dict.fromkeys(("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"), max_pool),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), max_pool),
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"), interpolate
    ),
}
