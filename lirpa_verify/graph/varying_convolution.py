"""Convolutions whose kernel or bias varies: a product of the kernel with the patches of the argument."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lirpa_verify.graph.building import broadcast, combined
from lirpa_verify.graph.lower import Builder, Symbol
from lirpa_verify.operators.matmul import MatMul
from lirpa_verify.operators.rearrange import Gather


def patches(shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
            dilation: Sequence[int]) -> Tensor:  # fmt: skip
    """Where each place of the kernel finds its entry of the argument: (n, channels, *kernel, *out), -1 for padding."""
    index = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).reshape(tuple(shape))
    index = torch.nn.functional.pad(index, [p for pad in reversed(padding) for p in (pad, pad)])
    rank = len(kernel)
    for d in range(rank):
        place = 2 + 2 * d  # dimensions before it have become two each
        reach = index.shape[place] - dilation[d] * (kernel[d] - 1)
        starts = torch.arange(0, reach, stride[d])
        taken = starts.unsqueeze(1) + dilation[d] * torch.arange(kernel[d])
        index = index.index_select(place, taken.flatten()).unflatten(place, tuple(taken.shape))
    order = (0, 1, *(3 + 2 * d for d in range(rank)), *(2 + 2 * d for d in range(rank)))
    return index.permute(order).long() - 1


def varying_convolution(
    b: Builder, x: Symbol, weight: Symbol, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    groups: int, shape: tuple[int, ...],
) -> Symbol:  # fmt: skip
    """Of ``(n, channels, *space)`` with ``(out, channels / groups, *kernel)``, without bias."""
    index = patches(x.shape, weight.shape[2:], stride, padding, dilation)
    n, out = x.shape[0], weight.shape[0]
    taps, places = math.prod(weight.shape[1:]), math.prod(shape[2:])
    unfolded = (n, groups, taps, places)
    columns = b.add(Gather(index.reshape(-1), x.shape, unfolded), [x], unfolded)
    kernel = broadcast(b, b.reshape(weight, (1, groups, out // groups, taps)), (n, groups, out // groups, taps))
    product = b.add(MatMul(), [kernel, columns], (n, groups, out // groups, places))
    return b.reshape(product, shape)


def untransposed(
    b: Builder, x: Symbol, weight: Symbol, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    output_padding: Sequence[int], groups: int,
) -> tuple[Symbol, Symbol]:  # fmt: skip
    """A transposed convolution is a plain one, of stride 1, of the argument with zeros between and around its entries.

    Its kernel has the same numbers, mirrored, with what goes in and what comes out exchanged.
    """
    rank = len(stride)
    index = torch.arange(1, math.prod(x.shape) + 1, dtype=torch.float64).reshape(x.shape)
    apart = (*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)))
    spread = index.new_zeros(apart)
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in stride))] = index
    around = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
    pads = [
        pad for low, more in zip(reversed(around), reversed(output_padding), strict=True) for pad in (low, low + more)
    ]
    spread = torch.nn.functional.pad(spread, pads)  # less than nothing around it cuts
    entries = torch.arange(math.prod(weight.shape)).reshape(groups, -1, *weight.shape[1:])
    entries = entries.transpose(1, 2).flatten(0, 1).flip(tuple(range(2, 2 + rank)))
    wide, turned = tuple(spread.shape), tuple(entries.shape)
    return (
        b.add(Gather(spread.flatten().long() - 1, x.shape, wide), [x], wide),
        b.add(Gather(entries.flatten(), weight.shape, turned), [weight], turned),
    )


def with_bias(b: Builder, y: Symbol, bias: Symbol) -> Symbol:
    """Adds a bias that varies, one per channel."""
    column = b.reshape(bias, (1, bias.shape[0], *[1] * (len(y.shape) - 2)))
    return combined(b, y, broadcast(b, column, y.shape))
