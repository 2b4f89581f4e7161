"""Bounding the parts of a batch side by side, each with one thread.

The operations of one pass are small: torch's own threads would meet at the end of each, and where
other processes want the same cores they wait there far longer than the operation takes (measured: 8 boxes
of a network of 300 neurons take 10 times as long with two threads as with one). Parts of a batch meet once a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch

from lirpa_verify.bounds.crown import LinearBound
from lirpa_verify.search.bound_boxes import RowBounds
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.threads import single_threads

T = TypeVar("T")
SMALLEST_PART = (
    64  # boxes that are worth a part of their own: threads wait for the interpreter between small operations
)
PARTS_PER_THREAD = 2  # boxes differ in what they cost: who is done first takes another part


@dataclass(frozen=True)
class Workers:
    """A function of a batch of boxes, computed in parts."""

    count: int
    pool: ThreadPoolExecutor | None

    def map(self, boxes: Boxes, function: Callable[[Boxes], T]) -> list[T]:
        """What the function makes of the parts, in their order."""
        parts = min(self.count * PARTS_PER_THREAD, len(boxes) // SMALLEST_PART)
        if self.pool is None or parts < 2:
            return [function(boxes)]
        ends = [len(boxes) * k // parts for k in range(parts + 1)]
        slices = [boxes[slice(a, b)] for a, b in pairwise(ends)]
        return list(self.pool.map(torch.no_grad()(function), slices))

    def bound(self, boxes: Boxes, function: Callable[[Boxes], RowBounds]) -> RowBounds:
        """`function` must use the same disjuncts for every part."""
        parts = self.map(boxes, function)
        return parts[0] if len(parts) == 1 else joined(parts)


def joined(parts: list[RowBounds]) -> RowBounds:
    linear = LinearBound(torch.cat([p.linear.weight for p in parts]), torch.cat([p.linear.offset for p in parts]))
    return RowBounds(parts[0].disjuncts, torch.cat([p.margin for p in parts]), linear)


@contextmanager
def workers(wanted: bool) -> Iterator[Workers]:
    """As many as torch has threads, which meanwhile has one; none of them where they are not wanted."""
    count = torch.get_num_threads()
    if not wanted or count == 1:
        yield Workers(1, None)
        return
    with single_threads(count) as pool:
        yield Workers(count, pool)
