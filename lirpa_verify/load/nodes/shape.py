"""Shapes: reshaping, moving, joining, splitting, padding, resizing; and constants made of shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction
from lirpa_verify.load.nodes.resize import resize, upsample
from lirpa_verify.load.nodes.types import torch_type


def _reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = list(node.get("shape", [])) if shape is None else node.integers(shape, "shape") or []
    if not node.get("allowzero", 0):
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return x if wanted == list(x.shape) else x.reshape(wanted)


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return x if shape == tuple(x.shape) else x.reshape(shape)


def _transpose(node: Node, x: Tensor) -> Tensor:
    order = list(node.get("perm", range(x.dim() - 1, -1, -1)))
    return x if order == list(range(x.dim())) else x.permute(order)


def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = node.get("axes") if axes is None else node.integers(axes, "axes")
    if chosen is None:
        return x.reshape([size for size in x.shape if size != 1])
    dims = {axis % x.dim() for axis in chosen}
    if any(x.shape[dim] != 1 for dim in dims):
        raise node.unsupported(f"axes {sorted(dims)} of shape {tuple(x.shape)} are not all of size 1")
    return x.reshape([size for dim, size in enumerate(x.shape) if dim not in dims])


def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = (node.get("axes") if axes is None else node.integers(axes, "axes")) or []
    rank = x.dim() + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _concat(node: Node, *values: Tensor) -> Tensor:
    return torch.cat(values, node.get("axis", 1)) if len(values) > 1 else values[0]


def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> Any:
    axis = node.get("axis", 0)
    parts = node.get("split") if sizes is None else node.integers(sizes, "sizes")
    if parts is None:
        count = len(node.outputs)
        size = -(-x.shape[axis] // count)
        parts = [size] * (count - 1) + [x.shape[axis] - size * (count - 1)]
    return torch.split_with_sizes(x, parts, axis)


def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    wanted = torch.broadcast_shapes(x.shape, tuple(node.integers(shape, "shape") or ()))
    return x if wanted == x.shape else x.expand(wanted)


def _tile(node: Node, x: Tensor, repeats: Tensor, axis: Tensor | None = None) -> Tensor:
    counts = node.integers(repeats, "repeats") or []
    if axis is not None:  # opset 1: how often, and along which axis
        times, counts = counts[0], [1] * x.dim()
        counts[(node.integers(axis, "axis") or [0])[0]] = times
    return x.repeat(counts) if any(count != 1 for count in counts) else x


def _pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    amounts = node.get("pads", node.get("paddings")) if pads is None else node.integers(pads, "pads")
    dims = [axis % x.dim() for axis in node.integers(axes, "axes") or range(x.dim())]
    if not amounts or not any(amounts):
        return x
    begin, end = [0] * x.dim(), [0] * x.dim()
    for i, dim in enumerate(dims):
        begin[dim], end[dim] = amounts[i], amounts[len(dims) + i]
    mode = node.get("mode", "constant")
    if mode != "constant":
        return _pad_by_index(node, x, begin, end, mode)
    fill = node.get("value", 0.0) if value is None else node.number(value)
    if fill is None:
        raise node.unsupported("a fill value that is not a constant number")
    flat = [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return F.pad(x, flat, value=float(fill) if x.is_floating_point() else fill)


def _pad_by_index(node: Node, x: Tensor, begin: list[int], end: list[int], mode: str) -> Tensor:
    """Reflect, edge and wrap padding pick entries of the input: indices along each dimension."""
    for dim, size in enumerate(x.shape):
        if not begin[dim] and not end[dim]:
            continue
        index = torch.arange(-begin[dim], size + end[dim])
        if mode == "edge":
            index = index.clamp(0, size - 1)
        elif mode == "wrap":
            index = index % size
        elif mode == "reflect" and size > 1:
            index = (index % (2 * size - 2)).sub(size - 1).abs().neg().add(size - 1)
        else:
            raise node.unsupported(f"mode {mode} on a dimension of size {size}")
        x = torch.index_select(x, dim, index)
    return x


def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[slice(node.get("start"), node.get("end"))], dtype=torch.int64)


def _size(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


def _constant(node: Node) -> Tensor:
    for attribute, value in node.attributes.items():
        if isinstance(value, Tensor):
            return value
        if attribute in ("value_float", "value_floats"):
            return torch.tensor(value, dtype=torch.float32)
        if attribute in ("value_int", "value_ints"):
            return torch.tensor(value, dtype=torch.int64)
    raise node.unsupported(f"attributes {sorted(node.attributes)}")


def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value", torch.zeros(1))
    return value.reshape(()).expand(node.integers(shape, "shape") or ()).clone()


def _range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    numbers = [node.number(value) for value in (start, limit, delta)]
    if None in numbers:
        raise node.unsupported("limits that depend on the network's input")
    first, last, step = (number or 0 for number in numbers)
    count = max(math.ceil((last - first) / step), 0)
    return (torch.arange(count, dtype=start.dtype) * step + first).to(start.dtype)


def _eye_like(node: Node, x: Tensor) -> Tensor:
    dtype = torch_type(node.get("dtype"), node) if "dtype" in node.attributes else x.dtype
    rows, columns, k = x.shape[0], x.shape[1], node.get("k", 0)
    return (torch.arange(columns) - torch.arange(rows).unsqueeze(1) == k).to(dtype)


def _trilu(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = (node.integers(k, "diagonal") or [0])[0]
    return torch.triu(x, diagonal) if node.get("upper", 1) else torch.tril(x, diagonal)


def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    if node.get("mode", "DCR") == "CRD":
        return blocks.permute(0, 1, 3, 5, 2, 4).reshape(n, c * b**2, h // b, w // b)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        "Reshape": _reshape,
        "Flatten": _flatten,
        "Transpose": _transpose,
        "Squeeze": _squeeze,
        "Unsqueeze": _unsqueeze,
        "Concat": _concat,
        "Split": _split,
        "Expand": _expand,
        "Tile": _tile,
        "Pad": _pad,
        "Shape": _shape,
        "Size": _size,
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "Range": _range,
        "EyeLike": _eye_like,
        "Trilu": _trilu,
        "DepthToSpace": _depth_to_space,
        "SpaceToDepth": _space_to_depth,
        "Resize": resize,
        "Upsample": upsample,
    }
)
