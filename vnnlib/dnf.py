"""Disjunctive normal form over numbered constraints, as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_DISJUNCTS = 2_000_000
MOST_ITEMS = 1 << 27


class TooLarge(ValueError):
    """Multiplying out would exceed what is sensible to hold."""


@dataclass(frozen=True)
class Dnf:
    """Disjunct ``d`` is the conjunction of the constraints ``item[start[d]:start[d + 1]]``."""

    start: np.ndarray  # (disjuncts + 1,) int64
    item: np.ndarray  # int64

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def size(self) -> np.ndarray:
        return np.diff(self.start)

    def select(self, keep: np.ndarray) -> Dnf:
        size = self.size[keep]
        return Dnf(offsets(size), self.item[ranges(self.start[:-1][keep], size)])


def offsets(size: np.ndarray) -> np.ndarray:
    """Where pieces of the given sizes begin when they lie one behind the other, and where the last one ends."""
    result = np.zeros(len(size) + 1, dtype=np.int64)
    np.cumsum(size, out=result[1:])
    return result


def ranges(start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """``start[0] .. start[0] + size[0] - 1``, then the next range, and so on."""
    begin = offsets(size)
    return np.arange(begin[-1]) + np.repeat(start - begin[:-1], size)


def conjunction(first: int, count: int) -> Dnf:
    """All of the constraints ``first .. first + count - 1``."""
    return Dnf(np.array([0, count]), np.arange(first, first + count))


def disjunction(start: np.ndarray, stop: int) -> Dnf:
    """Any of the groups of constraints ``start[0] .. start[1] - 1``, ``start[1] .. start[2] - 1``, up to ``stop``."""
    return Dnf(np.append(start, stop) - start[0], np.arange(start[0], stop))


TRUE = conjunction(0, 0)
FALSE = Dnf(np.zeros(1, dtype=np.int64), TRUE.item)


def any_of(parts: list[Dnf]) -> Dnf:
    if sum(len(part) for part in parts) > MOST_DISJUNCTS:
        raise TooLarge(f"more than {MOST_DISJUNCTS} disjuncts")
    if len(parts) == 1:
        return parts[0]
    return Dnf(offsets(np.concatenate([part.size for part in parts])), np.concatenate([part.item for part in parts]))


def all_of(parts: list[Dnf]) -> Dnf:
    """The product, disjuncts in lexicographic order of the parts. Single conjunctions are simply joined."""
    single = [part.item for part in parts if len(part) == 1]
    joined = single[0] if len(single) == 1 else np.concatenate([TRUE.item, *single])
    result = Dnf(np.array([0, len(joined)]), joined)
    for part in parts:
        if len(part) != 1:
            neutral = len(result) == 1 and not len(result.item)
            result = part if neutral else _product(result, part)
    return result


def _product(a: Dnf, b: Dnf) -> Dnf:
    if len(a) * len(b) > MOST_DISJUNCTS:
        raise TooLarge(f"the product of the disjunctions has more than {MOST_DISJUNCTS} disjuncts")
    if len(a.item) * len(b) + len(b.item) * len(a) > MOST_ITEMS:
        raise TooLarge(f"the product of the disjunctions has more than {MOST_ITEMS} comparisons")
    start = np.empty((len(a), len(b), 2), dtype=np.int64)
    size = np.empty_like(start)
    start[:, :, 0], start[:, :, 1] = a.start[:-1, None], b.start[:-1] + len(a.item)
    size[:, :, 0], size[:, :, 1] = a.size[:, None], b.size
    item = np.concatenate([a.item, b.item])[ranges(start.ravel(), size.ravel())]
    return Dnf(offsets(size.sum(axis=2).ravel()), item)
