"""Resize and Upsample: along each axis either a choice of entries (nearest) or a matrix (interpolation)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node


def upsample(node: Node, x: Tensor, scales: Tensor | None = None) -> Tensor:
    """Upsample: Resize with asymmetric coordinates, rounding down."""
    factors = node.get("scales") if scales is None else _numbers(node, scales)
    if factors is None:  # opset 1
        factors = [1.0, 1.0, node.get("height_scale"), node.get("width_scale")]
    sizes = [math.floor(size * factor) for size, factor in zip(x.shape, factors, strict=True)]
    mode = {"bilinear": "linear"}.get(node.get("mode", "nearest"), node.get("mode", "nearest"))
    return _resize_axes(node, x, list(range(x.dim())), sizes, factors, mode, "asymmetric", "floor")


def resize(
    node: Node, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Resize in any opset: opset 10 has only scales, as the second input."""
    if node.opset < 11:
        return upsample(node, x, roi)
    for attribute, default in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch")):
        if node.get(attribute, default) != default:
            raise node.unsupported(f"{attribute}={node.get(attribute)}")
    axes = [axis % x.dim() for axis in node.get("axes", range(x.dim()))]
    if sizes is not None and sizes.numel():
        wanted = node.integers(sizes, "sizes") or []
        factors = [size / x.shape[axis] for size, axis in zip(wanted, axes, strict=True)]
    else:
        factors = _numbers(node, scales)
        wanted = [math.floor(x.shape[axis] * factor) for axis, factor in zip(axes, factors, strict=True)]
    return _resize_axes(
        node,
        x,
        axes,
        wanted,
        factors,
        node.get("mode", "nearest"),
        node.get("coordinate_transformation_mode", "half_pixel"),
        node.get("nearest_mode", "round_prefer_floor"),
    )


def _resize_axes(
    node: Node,
    x: Tensor,
    axes: list[int],
    sizes: list[int],
    factors: list[float],
    mode: str,
    coordinates: str,
    rounding: str,
) -> Tensor:
    for axis, size, factor in zip(axes, sizes, factors, strict=True):
        if size == x.shape[axis] and factor == 1:
            continue
        position = _positions(node, coordinates, x.shape[axis], size, factor)
        if mode == "nearest":
            x = torch.index_select(x, axis, _nearest(node, position, rounding).clamp(0, x.shape[axis] - 1))
        elif mode in ("linear", "cubic"):
            matrix = _linear(position, x.shape[axis]) if mode == "linear" else _cubic(node, position, x.shape[axis])
            x = torch.matmul(x.transpose(axis, -1), matrix.to(x.dtype)).transpose(axis, -1)
        else:
            raise node.unsupported(f"mode {mode}")
    return x


def _positions(node: Node, coordinates: str, old: int, new: int, factor: float) -> Tensor:
    """Where each entry of the result lies on the axis of the input."""
    # float32 as in onnxruntime, so that ties round alike.
    index = torch.arange(new, dtype=torch.float32)
    if coordinates == "asymmetric":
        return index / factor
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and new > 1):
        return (index + 0.5) / factor - 0.5
    if coordinates == "pytorch_half_pixel":
        return torch.zeros(1)
    if coordinates == "align_corners":
        return index * ((old - 1) / (new - 1)) if new > 1 else torch.zeros(1)
    if coordinates == "half_pixel_symmetric":
        centre, adjustment = old / 2, new / (factor * old)
        return centre * (1 - adjustment) + (index + 0.5) / factor - 0.5
    raise node.unsupported(f"coordinate transformation {coordinates}")


def _nearest(node: Node, position: Tensor, rounding: str) -> Tensor:
    if rounding == "floor":
        return torch.floor(position).long()
    if rounding == "ceil":
        return torch.ceil(position).long()
    if rounding == "round_prefer_floor":
        return torch.ceil(position - 0.5).long()
    if rounding == "round_prefer_ceil":
        return torch.floor(position + 0.5).long()
    raise node.unsupported(f"nearest mode {rounding}")


def _linear(position: Tensor, old: int) -> Tensor:
    """The matrix (old, new) of linear interpolation; positions outside take the value at the border."""
    position = position.clamp(0, old - 1)
    return torch.relu(1 - torch.abs(position.unsqueeze(0) - torch.arange(old).unsqueeze(1)))


def _cubic(node: Node, position: Tensor, old: int) -> Tensor:
    """The matrix (old, new) of cubic convolution (Keys 1981); places outside count as the border, or not at all."""
    a, matrix = node.get("cubic_coeff_a", -0.75), torch.zeros(old, len(position))
    first = torch.floor(position)
    for step in range(-1, 3):
        place = first + step
        distance = torch.abs(position - place)
        near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        weight = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
        if node.get("exclude_outside", 0):
            weight = torch.where((place >= 0) & (place < old), weight, 0.0)
        matrix[place.long().clamp(0, old - 1), torch.arange(len(position))] += weight
    return matrix / matrix.sum(0) if node.get("exclude_outside", 0) else matrix


def _numbers(node: Node, scales: Tensor | None) -> list[float]:
    if scales is None or not scales.numel() or node.depends(scales):
        raise node.unsupported("neither constant scales nor constant sizes")
    return [float(entry) for entry in scales.reshape(-1).tolist()]
