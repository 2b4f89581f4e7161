"""Finds the same instances in two runs, whose paths may differ from machine to machine and year to year."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Protocol, TypeVar

from lirpa_verify.bench.instance import below, plain, stem


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
    """Instances whose files have the same names and lie in the same subfolders of `onnx` and `vnnlib`.

    Of several such those whose category and path agree most, each with each; where two agree equally well, there is no
    telling and no pair.
    """
    alike: dict[tuple[object, ...], tuple[list[A], list[B]]] = defaultdict(lambda: ([], []))
    for one in ours:
        alike[_names(one)][0].append(one)
    for other in theirs:
        alike[_names(other)][1].append(other)
    partner: dict[int, B] = {}
    for left, right in alike.values():
        for one in left:
            best = _best(one, right)
            if best is not None and _best(best, left) is one:
                partner[id(one)] = best
    return [(one, partner[id(one)]) for one in ours if id(one) in partner]


def _names(named: Named) -> tuple[object, ...]:
    folders = below(named.onnx, "onnx"), below(named.vnnlib, "vnnlib")
    return stem(named.onnx), stem(named.vnnlib), folders


def _best(one: Named, others: Sequence[A]) -> A | None:
    """The one that is most like `one`, if there is one."""
    ranked = sorted(others, key=lambda other: _likeness(one, other), reverse=True)
    if not ranked or (len(ranked) > 1 and _likeness(one, ranked[0]) == _likeness(one, ranked[1])):
        return None
    return ranked[0]


def _likeness(one: Named, other: Named) -> tuple[bool, bool, int]:
    """How well two instances with the same names agree otherwise: category, then the ends of the paths."""
    a, b = one.category.lower(), other.category.lower()
    shared = _shared_end(one.onnx, other.onnx) + _shared_end(one.vnnlib, other.vnnlib)
    return a == b, a.startswith(b) or b.startswith(a), shared


def _shared_end(one: str, other: str) -> int:
    """How many folders above the two files have the same names."""
    folders = zip(reversed(PurePosixPath(plain(one)).parts[:-1]), reversed(PurePosixPath(plain(other)).parts[:-1]))
    count = 0
    for a, b in folders:
        if a != b:
            break
        count += 1
    return count
