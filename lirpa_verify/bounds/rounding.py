"""Margins that make up for rounding.

Bounds are computed in floating point. A sum of n terms has a relative error of at most about n times
the unit roundoff of the sum of magnitudes; the margins below cover widths and depths far beyond
those of the networks at hand in float64 (unit roundoff 1.1e-16), and usual ones in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.operators.base import MANY_TERMS, Interval

RELATIVE = {torch.float64: 1e-11, torch.float32: 2e-5}
UNITS, OVERHEAD = 2, 16  # a sum of n terms counts as rounded by 2 (n + 16) ulp: twice what middle and radius can lose


def outward(interval: Interval) -> Interval:
    """The interval grown by what rounding may have taken from it."""
    lower, upper = interval
    pad = RELATIVE[lower.dtype] * (1e-3 + torch.maximum(lower.abs(), upper.abs()))
    return Interval(lower - pad, upper + pad)


def relative(dtype: torch.dtype, terms: int) -> float:
    """What a sum of so many terms can have lost, relative to these.

    In float64 products are summed as they are; single precision has faster ways that round more.
    """
    if dtype != torch.float64:
        return RELATIVE[dtype]
    return min(RELATIVE[dtype], UNITS * (terms + OVERHEAD) * torch.finfo(dtype).eps)


def widened(interval: Interval, terms: int = MANY_TERMS) -> Interval:
    """The interval grown relative to its ends, so that 0 stays 0 and signs are kept."""
    lower, upper = interval
    share = relative(lower.dtype, terms)
    return Interval(lower - share * lower.abs(), upper + share * upper.abs())


def margin(magnitude: Tensor) -> Tensor:
    """How far beyond its threshold a bound of sums of this magnitude must lie to count as proved."""
    return RELATIVE[magnitude.dtype] * (1e-3 + magnitude.abs())


def intersect(a: Interval, b: Interval) -> Interval:
    """Both hold; an unusable (NaN) end of one leaves the other's.

    An empty result would be an error of rounding: what lies between is kept then.
    """
    lower, upper = torch.fmax(a.lower, b.lower), torch.fmin(a.upper, b.upper)
    return Interval(torch.minimum(lower, upper), torch.maximum(lower, upper))


def with_entries(value: Interval, index: Tensor, found: Interval) -> Interval:
    """Bounds ``(1, *node)`` with new ones (1, entries) of some entries (entries,), which may turn out empty."""
    shape = value.lower.shape
    lower, upper = (end.flatten(1).clone() for end in value)
    lower[:, index] = torch.fmax(lower[:, index], found.lower)
    upper[:, index] = torch.fmin(upper[:, index], found.upper)
    return Interval(lower.reshape(shape), upper.reshape(shape))


def single(interval: Interval) -> Interval:
    """The smallest single-precision interval around one in double precision."""
    lower, upper = interval.lower.float(), interval.upper.float()
    down, up = lower.new_tensor(-torch.inf), lower.new_tensor(torch.inf)
    return Interval(
        torch.where(lower.double() > interval.lower, torch.nextafter(lower, down), lower),
        torch.where(upper.double() < interval.upper, torch.nextafter(upper, up), upper),
    )
