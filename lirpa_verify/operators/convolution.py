"""Convolution and transposed convolution in one to three dimensions, with groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.operators.base import Linear


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
        space = self.argument_shape[2:]
        if not self.transposed:
            kernel = self.weight.shape[2:]
            space = tuple(
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, p, d, k, s in zip(space, self.padding, self.dilation, kernel, self.stride, strict=True)
            )
        return self.argument_shape[0] * math.prod(space) * math.prod(self.weight.shape[1:]) * self.groups

    @property
    def rounded_terms(self) -> int:
        fewer = self.weight.shape[1] if self.transposed else self.weight.shape[0]
        return self.weight.numel() // fewer + 1

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

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        leading = rows.shape[:2]
        flat = rows.flatten(0, 2)
        below = flat.new_empty(1).expand(flat.shape[0], *self.argument_shape[1:])  # only its shape is used
        result = torch.ops.aten.convolution_backward(
            flat, below, self.weight, None, self.stride, self.padding, self.dilation,
            self.transposed, self.output_padding, self.groups, [True, False, False],
        )[0]  # fmt: skip
        return (result.unflatten(0, (*leading, -1)),)
