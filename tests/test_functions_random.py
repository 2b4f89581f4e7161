"""Functions of groups of entries, moves, pooling and convolutions with random shapes and attributes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from function_checks import Function, check_function, constant

SEEDS = range(8)
Case = tuple[Function, tuple[int, ...]]


def shape(r: random.Random, low: int = 1, high: int = 4, most: int = 4) -> tuple[int, ...]:
    return tuple(r.randint(1, most) for _ in range(r.randint(low, high)))


def some(r: random.Random, rank: int) -> list[int]:
    """Some dimensions, counted from either end."""
    return [d - r.choice((0, rank)) for d in sorted(r.sample(range(rank), r.randint(1, rank)))]


def one(r: random.Random, rank: int) -> int:
    return r.randrange(-rank, rank)


def softmaxes(r: random.Random) -> Case:
    size = shape(r)
    function, d = r.choice((torch.softmax, F.log_softmax, F.softmin)), one(r, len(size))
    return lambda x: function(x, d), size


def reductions(r: random.Random) -> Case:
    size = shape(r)
    dimensions, keep = some(r, len(size)), r.random() < 0.5
    function = r.choice((torch.sum, torch.mean, torch.amax, torch.amin, torch.logsumexp))
    return lambda x: function(x, dimensions, keepdim=keep), size


def norms(r: random.Random) -> Case:
    size = shape(r)
    order, dimensions, keep = r.choice((1, 2, 3, 2.5, torch.inf, -torch.inf)), some(r, len(size)), r.random() < 0.5
    return lambda x: torch.linalg.vector_norm(x, order, dimensions, keep), size


def running(r: random.Random) -> Case:
    size = shape(r)
    d = one(r, len(size))
    name = r.choice(("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"))
    if name in ("cummax", "cummin"):
        return lambda x: getattr(torch, name)(x, d).values, size
    return lambda x: getattr(torch, name)(x / 2, d), size


def orders(r: random.Random) -> Case:
    size = shape(r)
    d, falling = one(r, len(size)), r.random() < 0.5
    k = r.randint(1, size[d])
    item = r.randint(0, 1)
    return r.choice((
        lambda x: x.topk(k, d, largest=falling)[item].float(),
        lambda x: x.sort(d, descending=falling)[item].float(),
        lambda x: x.kthvalue(k, d)[item].float(),
        lambda x: (x.argmax(d) if falling else x.argmin(d)).float(),
    )), size  # fmt: skip


def products(r: random.Random) -> Case:
    batch, (i, j) = shape(r, 0, 2, 2), (r.randint(1, 4), r.randint(1, 4))
    other = constant(j, r.randint(1, 4))
    return r.choice((lambda x: x @ x.mT, lambda x: x.mT @ x, lambda x: x @ other, lambda x: other.mT @ x.mT)), (
        *batch,
        i,
        j,
    )


def attention(r: random.Random) -> Case:
    size, causal = (r.randint(1, 2), r.randint(1, 3), r.randint(1, 3), r.randint(1, 3)), r.random() < 0.5
    return lambda x: F.scaled_dot_product_attention(x, x / 2, x + 1, is_causal=causal), size


def normalisations(r: random.Random) -> Case:
    groups, each = r.randint(1, 3), r.randint(1, 2)
    size = (r.randint(1, 2), groups * each, 2, *shape(r, 1, 1))
    kept = r.randint(1, len(size) - 1)
    return r.choice((
        lambda x: F.layer_norm(x, size[-kept:], constant(*size[-kept:]), None, 1e-3),
        lambda x: F.group_norm(x, groups, constant(size[1]), constant(size[1], seed=1), 1e-3),
        lambda x: F.rms_norm(x, size[-kept:], None, 1e-3),
        lambda x: F.batch_norm(x, constant(size[1]), constant(size[1]).abs() + 0.1),
    )), size  # fmt: skip


def convolutions(r: random.Random) -> Case:
    rank, groups = r.randint(1, 3), r.randint(1, 2)
    c_in, c_out = groups * r.randint(1, 2), groups * r.randint(1, 2)
    kernel, stride = [r.randint(1, 3) for _ in range(rank)], [r.randint(1, 2) for _ in range(rank)]
    padding, dilation = [r.randint(0, 2) for _ in range(rank)], [r.randint(1, 2) for _ in range(rank)]
    size = (r.randint(1, 2), c_in, *(r.randint((k - 1) * d + 1, 5) for k, d in zip(kernel, dilation, strict=True)))
    run = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    weight, bias = constant(c_out, c_in // groups, *kernel), constant(c_out) if r.random() < 0.5 else None
    return lambda x: run(x, weight, bias, stride, padding, dilation, groups), size


def transposed_convolutions(r: random.Random) -> Case:
    rank, groups = r.randint(1, 3), r.randint(1, 2)
    c_in, c_out = groups * r.randint(1, 2), r.randint(1, 2)
    kernel, stride = [r.randint(1, 3) for _ in range(rank)], [r.randint(1, 3) for _ in range(rank)]
    padding, dilation = [r.randint(0, k - 1) for k in kernel], [r.randint(1, 2) for _ in range(rank)]
    extra = [r.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
    size = (1, c_in, *(r.randint(2, 3) for _ in range(rank)))
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    weight = constant(c_in, c_out, *kernel)
    return lambda x: run(x, weight, None, stride, padding, extra, groups, dilation), size


def pools(r: random.Random) -> Case:
    rank = r.randint(1, 3)
    kernel, stride = [r.randint(1, 3) for _ in range(rank)], [r.randint(1, 3) for _ in range(rank)]
    padding, ceil = [r.randint(0, k // 2) for k in kernel], r.random() < 0.5
    size = (1, r.randint(1, 2), *(r.randint(5, 6) if rank < 3 else 5 for _ in range(rank)))
    largest, mean = ((F.max_pool1d, F.avg_pool1d), (F.max_pool2d, F.avg_pool2d), (F.max_pool3d, F.avg_pool3d))[rank - 1]
    if r.random() < 0.5:
        dilation = [r.randint(1, 2) for _ in range(rank)]
        return lambda x: largest(x, kernel, stride, padding, dilation, ceil), size
    counted = r.random() < 0.5
    return lambda x: mean(x, kernel, stride, padding, ceil, counted), size


def adaptive_pools(r: random.Random) -> Case:
    rank = r.randint(1, 3)
    size, target = (1, 2, *(r.randint(1, 5) for _ in range(rank))), [r.randint(1, 4) for _ in range(rank)]
    run = r.choice(((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
                    (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)))[rank - 1]  # fmt: skip
    return lambda x: run(x, target), size


def resizes(r: random.Random) -> Case:
    rank = r.randint(1, 3)
    mode = r.choice(("nearest", "nearest-exact", ("linear", "bilinear", "trilinear")[rank - 1], "area"))
    size, target = (1, 2, *(r.randint(1, 4) for _ in range(rank))), [r.randint(1, 6) for _ in range(rank)]
    corners = r.random() < 0.5 if "linear" in mode else None
    return lambda x: F.interpolate(x, target, mode=mode, align_corners=corners), size


def paddings(r: random.Random) -> Case:
    rank, mode = r.randint(1, 3), r.choice(("constant", "reflect", "replicate", "circular"))
    size = (1, 2, *(r.randint(3, 4) for _ in range(rank)))
    amounts = [r.randint(-1 if mode == "constant" else 0, 2) for _ in range(2 * rank)]
    value = r.choice((0.0, -1.5, 2.0)) if mode == "constant" else None
    return lambda x: F.pad(x, amounts, mode, value), size


def moves(r: random.Random) -> Case:
    size = shape(r, 2, 4)
    rank = len(size)
    order, d, e = r.sample(range(rank), rank), one(r, rank), one(r, rank)
    first = r.randrange(size[d])
    count, times = r.randint(1, size[d] - first), [r.randint(1, 2) for _ in size]
    chosen = [r.randrange(size[d]) for _ in range(3)]
    return r.choice((
        lambda x: x.permute(order),
        lambda x: x.narrow(d, first, count),
        lambda x: x.tile(times),
        lambda x: x.flip([d]).roll(first, e),
        lambda x: x.transpose(d, e).reshape(-1, size[d]),
        lambda x: torch.cat([x, x.flip(d), 2 * x], d),
        lambda x: torch.stack([x, x.relu()], d),
        lambda x: x.index_select(d, torch.tensor(chosen)),
        lambda x: torch.cat([part * k for k, part in enumerate(x.split(count, d))], d),
    )), size  # fmt: skip


def places(r: random.Random) -> Case:
    """Reading and writing, at places that are known and at places that depend on the input."""
    size = shape(r, 1, 3)
    d, kind = one(r, len(size)), r.choice(("sum", "amax", "amin", "prod", "mean"))
    index = torch.tensor([r.randrange(size[d]) for _ in range(torch.Size(size).numel())]).reshape(size)
    table = constant(size[d], 2)
    return r.choice((
        lambda x: x.gather(d, index),
        lambda x: x.gather(d, x.argmax(d, keepdim=True)),
        lambda x: x.scatter(d, index[:1] if d % len(size) else index, x.flip(d)),
        lambda x: x.scatter_reduce(d, index, x.flip(d) / 2, kind),
        lambda x: x.scatter_add(d, x.argmin(d, keepdim=True), x),
        lambda x: F.one_hot(x.argmax(d), size[d]).float() @ table,
        lambda x: F.embedding(x.argmax(d), table),
    )), size  # fmt: skip


def element_by_element(r: random.Random) -> Case:
    """Two values of different shapes."""
    size = shape(r, 1, 3)
    other = tuple(n if r.random() < 0.6 else 1 for n in size[r.randrange(len(size)) :])
    factor = constant(*other, seed=3)
    return r.choice((
        lambda x: x * (x.sum(0) * factor),
        lambda x: x / (x.mean() ** 2 + factor.abs() + 0.5),
        lambda x: torch.maximum(x, factor - x),
        lambda x: torch.where(x > factor, x * 2, factor),
        lambda x: torch.atan2(x, factor) + torch.hypot(x, factor),
        lambda x: (x < factor).float() - (x >= x.mean()).float(),
        lambda x: (x.abs() + 1) ** factor if factor.dim() == 0 else (x.abs() + 1) ** 1.7 * factor,
    )), size  # fmt: skip


FAMILIES: tuple[Callable[[random.Random], Case], ...] = (
    softmaxes, reductions, norms, running, orders, products, attention, normalisations, convolutions,
    transposed_convolutions, pools, adaptive_pools, resizes, paddings, moves, places, element_by_element,
)  # fmt: skip


@pytest.mark.parametrize(
    "family, seed", list(itertools.product(FAMILIES, SEEDS)), ids=lambda v: getattr(v, "__name__", v)
)
def test_family(family: Callable[[random.Random], Case], seed: int) -> None:
    function, size = family(random.Random(seed))
    check_function(f"{family.__name__} {seed}", function, size)
