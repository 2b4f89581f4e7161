"""Picking and placing entries: slices, gathering, scattering, one-hot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction

_slice = torch.ops.aten.slice.Tensor
_REDUCTIONS = MappingProxyType({"max": "amax", "min": "amin", "mul": "prod"})  # in torch's words
_OUTSIDE = -(2**31)  # a place that no tensor has, from either end


def _slice_node(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    count = len(node.get("starts", ())) if starts is None else starts.numel()
    dims = node.get("axes", range(count)) if axes is None else node.integers(axes, "axes") or []
    strides = node.integers(steps, "steps") or [1] * count
    if starts is not None and ends is not None and (node.depends(starts) or node.depends(ends)):
        for i, dim in enumerate(dims):
            x = _moving_window(node, x, starts.reshape(-1)[i : i + 1], ends.reshape(-1)[i : i + 1], dim, strides[i])
        return x
    first = node.get("starts") if starts is None else node.integers(starts, "starts") or []
    last = node.get("ends") if ends is None else node.integers(ends, "ends") or []
    for start, end, dim, step in zip(first, last, dims, strides, strict=True):
        x = _slice_axis(x, start, end, dim % x.dim(), step)
    return x


def _slice_axis(x: Tensor, start: int, end: int, dim: int, step: int) -> Tensor:
    if step < 0:
        start = max(start, -x.shape[dim])  # ONNX begins at the first entry then, Python before it
    entries = range(x.shape[dim])[start:end:step]
    if len(entries) == x.shape[dim] and step == 1:
        return x
    if step > 0:
        sliced: Tensor = _slice(x, dim, entries.start, max(entries.stop, entries.start), step)
        return sliced
    return torch.index_select(x, dim, torch.tensor(list(entries), dtype=torch.int64))


def _moving_window(node: Node, x: Tensor, start: Tensor, end: Tensor, dim: int, step: int) -> Tensor:
    """A slice whose place depends on the network's input, of a length that does not.

    The recorded indices are neither clamped nor wrapped: where the window would leave the tensor, onnxruntime
    returns less of it, and evaluating the recording fails rather than returning something else. Where the slice
    only says where to write, the entries that are missing behind its end are places outside of everything.
    """
    length = node.difference(end, start)
    if length is None or step != 1:
        raise node.unsupported("a slice whose length depends on the network's input")
    place, size = start + torch.arange(int(length.reshape(-1)[0])), x.shape[dim]
    if not node.only_places or node.depends(x):
        return torch.index_select(x, dim, place)
    outside = torch.full_like(torch.narrow(x, dim, 0, 1), _OUTSIDE)
    return torch.index_select(torch.cat([x, outside], dim), dim, torch.clamp(place, max=size))


def _gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    size = x.shape[axis]
    if node.depends(indices):
        flat = torch.where(indices < 0, indices + size, indices).reshape(-1)
    else:
        entries = [int(entry) % size for entry in indices.reshape(-1).tolist()]
        if indices.dim() == 0:
            return torch.select(x, axis, entries[0])
        if indices.dim() == 1 and len(entries) and entries == list(range(entries[0], entries[0] + len(entries))):
            return _slice_axis(x, entries[0], entries[-1] + 1, axis, 1)
        flat = torch.tensor(entries, dtype=torch.int64)
    picked = torch.index_select(x, axis, flat)
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]) if indices.dim() != 1 else picked


def _gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    return torch.gather(x, axis, _wrapped(indices.long(), x.shape[axis]))


def _gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    batch = node.get("batch_dims", 0)
    depth = indices.shape[-1]
    flat_index = _flat_index(indices, x.shape[batch : batch + depth])
    lead = math.prod(x.shape[:batch])
    inner = x.shape[batch + depth :]
    rows = math.prod(x.shape[batch : batch + depth])
    flat_index = (flat_index.reshape(lead, -1) + torch.arange(lead).unsqueeze(1) * rows).reshape(-1)
    picked = torch.index_select(x.reshape(lead * rows, *inner), 0, flat_index)
    return picked.reshape(*indices.shape[:-1], *inner)


def _scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    return _scatter(node, x, axis, _wrapped(indices.long(), x.shape[axis]), updates)


def _scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """As a scatter along the first axis of the data, flattened to (places, entries of a slice).

    Places that depend on the network's input may lie outside: what is written there goes into a row that is cut off.
    """
    depth = indices.shape[-1]
    rows, inner = math.prod(x.shape[:depth]), math.prod(x.shape[depth:])
    place = _flat_index(indices, x.shape[:depth])
    data, new = x.reshape(rows, inner), updates.reshape(-1, inner)
    varies = node.depends(indices)
    if varies:
        place = torch.where(_inside(indices, x.shape[:depth]), place, rows)
        data = torch.cat([data, torch.zeros(1, inner, dtype=data.dtype)])
    index = place.reshape(-1, 1).expand(-1, inner)
    written = _scatter(node, data, 0, index, new)
    return (written[:rows] if varies else written).reshape(x.shape)


def _inside(indices: Tensor, sizes: torch.Size) -> Tensor:
    """Which of the places that the last dimension of `indices` names there are."""
    parts = [torch.select(indices, -1, i) for i in range(len(sizes))]
    found = [(part >= -size) & (part < size) for part, size in zip(parts, sizes, strict=True)]
    return reduce(torch.logical_and, found)


def _scatter(node: Node, x: Tensor, axis: int, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = node.get("reduction", "none")
    if reduction == "none":
        return torch.scatter(x, axis, indices, updates)
    if reduction == "add":
        return torch.scatter_add(x, axis, indices, updates)
    if reduction not in _REDUCTIONS:
        raise node.unsupported(f"reduction {reduction}")
    return torch.scatter_reduce(x, axis, indices, updates, _REDUCTIONS[reduction])


def _flat_index(indices: Tensor, sizes: torch.Size) -> Tensor:
    """Row-major numbers of the places that the last dimension of `indices` names."""
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for i, size in enumerate(sizes):
        place = _wrapped(torch.select(indices, -1, i), size)
        flat = place if i == 0 else flat * size + place
    return flat


def _wrapped(indices: Tensor, size: int) -> Tensor:
    return torch.where(indices < 0, indices + size, indices)


def _reverse_sequence(node: Node, x: Tensor, lengths: Tensor) -> Tensor:
    """The first entries of each sequence of a batch in reverse order, as many as its length says."""
    batch, time = node.get("batch_axis", 1), node.get("time_axis", 0)
    ends = torch.tensor(node.integers(lengths, "lengths")).unsqueeze(1)  # (batch, 1)
    step = torch.arange(x.shape[time])
    order = torch.where(step < ends, ends - 1 - step, step)  # (batch, time)
    shape = [1] * x.dim()
    shape[batch], shape[time] = order.shape
    return torch.gather(x, time, (order if batch < time else order.t()).reshape(shape).expand(x.shape))


def _one_hot(node: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    size = (node.integers(depth, "depth") or [0])[0]
    axis = node.get("axis", -1) % (indices.dim() + 1)
    places = torch.arange(size, dtype=torch.int64).reshape(-1, *[1] * (indices.dim() - axis))
    hit = torch.eq(_wrapped(indices.long(), size).unsqueeze(axis), places)
    return torch.where(hit, values.reshape(-1)[1], values.reshape(-1)[0])


def _top_k(node: Node, x: Tensor, k: Tensor | None = None) -> Any:
    count = node.get("k") if k is None else (node.integers(k, "k") or [0])[0]
    return torch.topk(x, count, node.get("axis", -1), bool(node.get("largest", 1)), True)


def _nonzero(node: Node, x: Tensor) -> Tensor:
    return torch.nonzero(x).permute(1, 0)


def _compress(node: Node, x: Tensor, condition: Tensor) -> Tensor:
    axis = node.get("axis")
    if node.depends(condition):
        raise node.unsupported("a selection that depends on the network's input")
    chosen = torch.nonzero(condition.reshape(-1)).reshape(-1)
    return torch.index_select(x.reshape(-1) if axis is None else x, 0 if axis is None else axis, chosen)


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        "Slice": _slice_node,
        "Gather": _gather,
        "GatherElements": _gather_elements,
        "GatherND": _gather_nd,
        "Scatter": _scatter_elements,
        "ScatterElements": _scatter_elements,
        "ScatterND": _scatter_nd,
        "ReverseSequence": _reverse_sequence,
        "OneHot": _one_hot,
        "TopK": _top_k,
        "NonZero": _nonzero,
        "Compress": _compress,
    }
)
