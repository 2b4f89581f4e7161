"""Finds the same instances in two runs, whose paths may differ from machine to machine and year to year."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Protocol, TypeVar

from lirpa_verify.bench.instance import stem


class Named(Protocol):
    """Whatever has the names of an instance."""

    @property
    def category(self) -> str: ...

    @property
    def onnx(self) -> str: ...

    @property
    def vnnlib(self) -> str: ...


A = TypeVar("A", bound=Named)
B = TypeVar("B", bound=Named)


def pairs(ours: Sequence[A], theirs: Iterable[B]) -> list[tuple[A, B]]:
    """Instances whose files have the same names and, of several such, whose folders and category agree most.

    Where two agree equally well, there is no telling and no pair.
    """
    candidates: dict[tuple[str, str], list[B]] = defaultdict(list)
    for other in theirs:
        candidates[stem(other.onnx), stem(other.vnnlib)].append(other)
    found = []
    for one in ours:
        ranked = sorted(((_likeness(one, other), i) for i, other in enumerate(candidates[_stems(one)])), reverse=True)
        if ranked and (len(ranked) == 1 or ranked[0][0] > ranked[1][0]):
            found.append((one, candidates[_stems(one)][ranked[0][1]]))
    return found


def _stems(named: Named) -> tuple[str, str]:
    return stem(named.onnx), stem(named.vnnlib)


def _likeness(one: Named, other: Named) -> tuple[bool, bool, int]:
    """How well two instances with the same file names agree otherwise: category, then the ends of the paths."""
    a, b = one.category.lower(), other.category.lower()
    shared = _shared_end(one.onnx, other.onnx) + _shared_end(one.vnnlib, other.vnnlib)
    return a == b, a.startswith(b) or b.startswith(a), shared


def _shared_end(one: str, other: str) -> int:
    parts = zip(reversed(PurePosixPath(one).parts), reversed(PurePosixPath(other).parts))
    count = 0
    for a, b in parts:
        if a != b:
            break
        count += 1
    return count
