"""Convolution and transposed convolution in one to three dimensions, with groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lirpa_verify.operators.base import Linear
from lirpa_verify.operators.transforms import holds
from lirpa_verify.operators.unravelled import unravelled

SMALL_SPACE, MANY_CHANNELS = 16, 32  # where torch's way takes twice as long as matrix products do


@dataclass(frozen=True)
class Convolution(Linear):
    """ATen's ``convolution`` with constant weight; nodes are ``(model batch, channels, *space)``."""

    weight: Tensor
    bias: Tensor | None  # (channels,)
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    argument_shape: tuple[int, ...]  # of the node below

    @property
    def unfolded(self) -> int:
        """Entries of the argument's patches laid out side by side, one for each place of the kernel."""
        space = self.argument_shape[2:] if self.transposed else self.result_space
        return self.argument_shape[0] * math.prod(space) * math.prod(self.weight.shape[1:]) * self.groups

    @property
    def rounded_terms(self) -> int:
        fewer = self.weight.shape[1] if self.transposed else self.weight.shape[0]
        return self.weight.numel() // fewer + 1

    @cached_property
    def one_signed(self) -> tuple[Tensor, Tensor] | None:
        kernels = self.weight.unflatten(0, (self.groups, -1)) if self.transposed else self.weight.unsqueeze(2)
        within = (1, *range(3, kernels.dim()))  # of (groups, in, out, *kernel), or (out, in, 1, *kernel)
        positive, negative = (
            mask.all(within).reshape(-1, *[1] * len(self.stride)) for mask in (kernels >= 0, kernels <= 0)
        )
        return (positive, negative) if holds((positive | negative).any()) else None

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        batch = x.shape[0]
        y = torch.ops.aten.convolution(
            x.flatten(0, 1), weight, None, self.stride, self.padding, self.dilation,
            self.transposed, self.output_padding, self.groups,
        )  # fmt: skip
        return y.unflatten(0, (batch, -1))

    def forward(self, *arguments: Tensor) -> Tensor:
        y = self.linear(*arguments)
        constant = self.constant()
        return y if constant is None else y + constant

    def linear(self, *arguments: Tensor) -> Tensor:
        return self.convolve(arguments[0], self.weight)

    def absolute(self, *arguments: Tensor) -> Tensor:
        return self.convolve(arguments[0], self.weight.abs())

    def constant(self) -> Tensor | None:
        if self.bias is None:
            return None
        return self.bias.reshape(-1, *[1] * len(self.stride))

    def rows_of(self, entries: Tensor) -> Tensor:
        """The coefficients of single entries (k,) of the result, without groups: (1, k, *argument)."""
        image, channel, *place = unravelled(entries, (self.argument_shape[0], len(self.weight), *self.result_space))
        widths = [n + 2 * p for n, p in zip(self.argument_shape[2:], self.padding, strict=True)]
        shape = (*self.argument_shape[:2], *widths)
        strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
        # Where a row begins, and where the entries of a kernel lie from there.
        first, offset = image * strides[0], torch.zeros((), dtype=torch.int64, device=entries.device)
        steps = [1, *self.dilation]
        for n, step, stride in zip(self.weight.shape[1:], steps, strides[1:], strict=True):
            offset = offset.unsqueeze(-1) + torch.arange(n, device=entries.device) * (step * stride)
        for k, step, stride in zip(place, self.stride, strides[2:], strict=True):
            first = first + k * (step * stride)
        rows = self.weight.new_zeros(len(entries), math.prod(shape))
        rows.scatter_(1, first.unsqueeze(1) + offset.reshape(1, -1), self.weight.flatten(1)[channel])
        rows = rows.unflatten(1, shape)
        for d, (n, p) in enumerate(zip(self.argument_shape[2:], self.padding, strict=True)):
            rows = rows.narrow(3 + d, p, n)
        return rows.unsqueeze(0)

    @property
    def result_space(self) -> tuple[int, ...]:
        """Places of the result of a convolution that is not transposed."""
        sizes = zip(
            self.argument_shape[2:], self.padding, self.dilation, self.weight.shape[2:], self.stride, strict=True
        )
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in sizes)

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        leading = rows.shape[:2]
        flat = rows.flatten(0, 2)
        if self.patches_apart and flat.dtype == torch.float64 and not flat.requires_grad and flat.device.type == "cpu":
            if self.transposed and self.groups == 1:
                return (self.gathered(flat).unflatten(0, (*leading, -1)),)
            if not self.transposed and self.groups == len(self.weight) == self.argument_shape[1]:
                return (self.spread_out(flat).unflatten(0, (*leading, -1)),)
        if self.tap_by_tap(flat):
            return (self.transpose_by_taps(flat).unflatten(0, (*leading, -1)),)
        below = flat.new_empty(1).expand(flat.shape[0], *self.argument_shape[1:])  # only its shape is used
        result = torch.ops.aten.convolution_backward(
            flat, below, self.weight, None, self.stride, self.padding, self.dilation,
            self.transposed, self.output_padding, self.groups, [True, False, False],
        )[0]  # fmt: skip
        return (result.unflatten(0, (*leading, -1)),)

    @property
    def patches_apart(self) -> bool:
        """Whether kernels of a plane lie side by side: no entry is in two patches (torch is slow there in float64)."""
        plain = not any(self.padding) and not any(self.output_padding) and all(d == 1 for d in self.dilation)
        return plain and len(self.stride) == 2 and self.stride == tuple(self.weight.shape[2:])

    def spread_out(self, flat: Tensor) -> Tensor:
        """The transpose of pooling, channel by channel: (images, channels, *space) to (images, channels, *space)."""
        below = flat.new_zeros(len(flat), *self.argument_shape[1:])
        (height, width), (rows, columns) = flat.shape[2:], self.stride
        for i in range(rows):
            for j in range(columns):
                factor = self.weight[:, 0, i, j].reshape(-1, 1, 1)
                below[:, :, i : rows * height : rows, j : columns * width : columns] = flat * factor
        return below

    def gathered(self, flat: Tensor) -> Tensor:
        """The transpose of a transposed convolution as one product: (images, out, *space) to (images, in, *space)."""
        (height, width), (rows, columns) = self.argument_shape[2:], self.stride
        patches = flat.reshape(len(flat), -1, height, rows, width, columns).permute(0, 2, 4, 1, 3, 5)
        return (patches.reshape(len(flat), height, width, -1) @ self.weight.flatten(1).T).permute(0, 3, 1, 2)

    def tap_by_tap(self, flat: Tensor) -> bool:
        """Whether `transpose_by_taps` is the faster way: small images of many channels in float64 on a CPU."""
        plain = not self.transposed and self.groups == 1 and len(self.stride) == 2 and not flat.requires_grad
        small = math.prod(flat.shape[2:]) <= SMALL_SPACE and min(self.weight.shape[:2]) >= MANY_CHANNELS
        return plain and small and flat.dtype == torch.float64 and flat.device.type == "cpu"

    def transpose_by_taps(self, flat: Tensor) -> Tensor:
        """One matrix product for each place of the kernel: (images, out, *space) to (images, in, *space)."""
        images, _, height, width = flat.shape
        places = flat.permute(0, 2, 3, 1).reshape(-1, flat.shape[1])
        padded = [n + 2 * p for n, p in zip(self.argument_shape[2:], self.padding, strict=True)]
        below = flat.new_zeros(images, *padded, self.weight.shape[1])
        for i in range(self.weight.shape[2]):
            for j in range(self.weight.shape[3]):
                rows = below[:, i * self.dilation[0] :: self.stride[0], j * self.dilation[1] :: self.stride[1]]
                product = places @ self.weight[:, :, i, j]
                rows[:, :height, :width] += product.reshape(images, height, width, -1)
        top, left = self.padding
        bottom, right = (p + n for p, n in zip(self.padding, self.argument_shape[2:], strict=True))
        return below[:, top:bottom, left:right].permute(0, 3, 1, 2)
