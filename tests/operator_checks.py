"""Checks that every operator must pass: its interval, backward and forward rules enclose sampled values."""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval, LinearForms, Operator, Slopes, flat

EPS = {torch.float64: 1e-12, torch.float32: 2e-5}


def random_intervals(generator: torch.Generator, batch: int, shape: tuple[int, ...], scale: float = 2.0) -> Interval:
    """Of all kinds: narrow, wide, of one point, across 0."""
    size = (batch, *shape)
    centre = torch.randn(size, generator=generator, dtype=torch.float64) * scale
    exponent = torch.randint(0, 6, size, generator=generator)
    radius = torch.tensor([0.0, 1e-9, 1e-3, 0.3, 1.0, 4.0], dtype=torch.float64)[exponent]
    radius = radius * scale * torch.rand(size, generator=generator, dtype=torch.float64)
    return Interval(centre - radius, centre + radius)


def inside(generator: torch.Generator, interval: Interval, count: int) -> Tensor:
    """(batch, count, *node) points: the ends, corners and uniform ones."""
    lower, upper = (end.unsqueeze(1) for end in interval)
    size = (lower.shape[0], count, *lower.shape[2:])
    share = torch.rand(size, generator=generator, dtype=torch.float64)
    share[:, : count // 3] = share[:, : count // 3].round()
    share[:, 0], share[:, 1] = 0.0, 1.0
    share = share.to(lower)
    return torch.minimum(torch.maximum(lower + share * (upper - lower), lower), upper)


def evaluate(operator: Operator, points: list[Tensor]) -> Tensor:
    """(batch, count, *node)"""
    batch, count = points[0].shape[:2]
    return operator.forward(*(p.flatten(0, 1) for p in points)).unflatten(0, (batch, count))


def random_slopes(
    generator: torch.Generator, operator: Operator, intervals: tuple[Interval, ...], rows: int
) -> Slopes | None:
    limits = operator.slope_range(*intervals)
    if limits is None:
        return None
    parts = []
    for low, high in zip(*limits, strict=True):
        low, high = (end.repeat(1, rows, *[1] * (end.dim() - 2)) for end in (low, high))
        share = torch.rand(low.shape, generator=generator, dtype=torch.float64).to(low)
        parts.append(low + (share * 1.4 - 0.2).clamp(0, 1) * (high - low))
    return Slopes(*parts)


def check_operator(
    operator: Operator, intervals: tuple[Interval, ...], seed: int, dtype: torch.dtype = torch.float64, count: int = 40
) -> None:
    """Interval, backward (own and random slopes) and forward rules on a batch of intervals."""
    generator = torch.Generator().manual_seed(seed)
    operator = operator.map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t)
    intervals = tuple(Interval(*(end.to(dtype) for end in i)) for i in intervals)
    points = [inside(generator, i, count) for i in intervals]
    values = evaluate(operator, points)
    check_interval(operator, intervals, values)
    rows = torch.randn((values.shape[0], 5, *values.shape[2:]), generator=generator, dtype=torch.float64).to(dtype)
    rows[:, 1] = rows[:, 1].round()
    rows[:, 2] = 0
    check_backward(operator, intervals, points, values, rows, None)
    for _ in range(2):
        slopes = random_slopes(generator, operator, intervals, rows.shape[1])
        if slopes is not None:
            check_backward(operator, intervals, points, values, rows, slopes)
    check_compose(generator, operator, intervals)


def check_interval(operator: Operator, intervals: tuple[Interval, ...], values: Tensor) -> None:
    found = operator.interval(*intervals)
    lower, upper = (end.unsqueeze(1) for end in found)
    slack = EPS[values.dtype] * (1 + values.abs())
    assert not (values < lower - slack).any(), f"interval of {operator}"
    assert not (values > upper + slack).any(), f"interval of {operator}"


def check_backward(
    operator: Operator,
    intervals: tuple[Interval, ...],
    points: list[Tensor],
    values: Tensor,
    rows: Tensor,
    slopes: Slopes | None,
) -> None:
    result = operator.backward(rows, intervals, slopes)
    truth = torch.einsum("brn,bcn->brc", flat(rows), flat(values))
    bound = result.offset.unsqueeze(2)
    size = result.offset.abs().unsqueeze(2) + term_sizes(rows, values)
    for coefficients, point in zip(result.coefficients, points, strict=True):
        if coefficients is None:
            continue
        coefficients = coefficients.expand(rows.shape[0], *coefficients.shape[1:])
        assert not torch.isnan(coefficients).any(), f"coefficients of {operator}"
        bound = bound + torch.einsum("brn,bcn->brc", flat(coefficients), flat(point))
        size = size + term_sizes(coefficients, point)
    assert not torch.isnan(result.offset).any(), f"offset of {operator}"
    worst = (bound - truth - 4 * EPS[rows.dtype] * (1 + torch.where(torch.isfinite(size), size, 0))).amax()
    assert not worst > 0, f"backward of {operator}, slopes {slopes is not None}: {worst}"


def term_sizes(coefficients: Tensor, points: Tensor) -> Tensor:
    """(batch, rows, 1): what is added up at most; the offset may be the small sum of large terms."""
    largest = flat(points).abs().amax(1)
    return torch.einsum("brn,bn->br", flat(coefficients).abs(), largest).unsqueeze(2)


def check_compose(generator: torch.Generator, operator: Operator, intervals: tuple[Interval, ...]) -> None:
    """Arguments that are random linear functions of a small input."""
    batch, dtype = intervals[0].lower.shape[0], intervals[0].lower.dtype
    n = 3
    x = (torch.rand((batch, 40, n), generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)
    forms, points = [], []
    for interval in intervals:
        middle, radius = (interval.lower + interval.upper) / 2, (interval.upper - interval.lower) / 2
        weight = torch.rand((batch, n, *middle.shape[1:]), generator=generator, dtype=torch.float64).to(dtype) * 2 - 1
        weight = weight / n * radius.unsqueeze(1)
        form = LinearForms(weight, middle - 0.1 * radius, weight, middle + 0.1 * radius)
        value = torch.einsum("bcn,bn...->bc...", x, weight) + middle.unsqueeze(1)
        lower, upper = (end.unsqueeze(1) for end in interval)
        points.append(torch.minimum(torch.maximum(value, lower), upper))
        forms.append(form)
    values = evaluate(operator, points)
    result = operator.compose(tuple(forms), intervals)
    lines = operator.relaxation(intervals[0], None)
    terms = 0.0  # of steep lines, of which little is left in the forms
    if lines is not None:
        reach = torch.maximum(intervals[0].lower.abs(), intervals[0].upper.abs()).unsqueeze(1)
        terms = torch.maximum(lines.lower.abs(), lines.upper.abs()) * reach
    for weight, offset, sign in (
        (result.lower_weight, result.lower_offset, 1),
        (result.upper_weight, result.upper_offset, -1),
    ):
        bound = torch.einsum("bcn,bn...->bc...", x, weight) + offset.unsqueeze(1)
        size = weight.abs().sum(1).unsqueeze(1) + offset.abs().unsqueeze(1) + values.abs() + terms
        worst = (sign * (bound - values) - 20 * EPS[dtype] * (1 + torch.where(torch.isfinite(size), size, 0))).amax()
        assert not worst > 0, f"compose of {operator}: {worst}"
