"""What changed from one run to another."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from lirpa_verify.bench.match import pairs
from lirpa_verify.bench.outcome import Outcome, Run

FACTOR, SECONDS = 1.5, 1.0  # a time has changed if it did by more than both

KINDS = ("contradictory", "lost", "gained", "slower", "faster", "other verdict")


@dataclass(frozen=True)
class Change:
    """An instance on which two runs differ."""

    kind: str  # one of KINDS
    before: Outcome
    after: Outcome


@dataclass(frozen=True)
class Comparison:
    """All changes, gravest first; `only_before` and `only_after` count instances without a partner."""

    changes: list[Change]
    pairs: int
    only_before: int
    only_after: int
    seconds_before: float  # total over what both solved
    seconds_after: float
    speedup: float | None  # geometric mean of before / after over what both solved

    def count(self, kind: str) -> int:
        return sum(change.kind == kind for change in self.changes)

    @property
    def is_worse(self) -> bool:
        """Is something contradictory or lost?"""
        return bool(self.count("contradictory") or self.count("lost"))


def compare(before: Run, after: Run) -> Comparison:
    """Pair the instances of two runs and say which of them changed."""
    matched = pairs(before.outcomes, after.outcomes)
    changes = [Change(kind, a, b) for a, b in matched if (kind := _kind(a, b))]
    both = [(a.seconds, b.seconds) for a, b in matched if a.solved and b.solved]
    ratios = [max(a, 1e-3) / max(b, 1e-3) for a, b in both]
    return Comparison(
        changes=sorted(changes, key=lambda change: KINDS.index(change.kind)),
        pairs=len(matched),
        only_before=len(before.outcomes) - len(matched),
        only_after=len(after.outcomes) - len({b.key for _, b in matched}),
        seconds_before=sum(a for a, _ in both),
        seconds_after=sum(b for _, b in both),
        speedup=statistics.geometric_mean(ratios) if ratios else None,
    )


def _kind(a: Outcome, b: Outcome) -> str:
    if a.solved and b.solved:
        if a.verdict != b.verdict:
            return "contradictory"
        slow, fast = max(a.seconds, b.seconds), min(a.seconds, b.seconds)
        if slow > FACTOR * fast and slow > fast + SECONDS:
            return "slower" if b.seconds > a.seconds else "faster"
        return ""
    if a.solved:
        return "lost"
    if b.solved:
        return "gained"
    return "other verdict" if a.verdict != b.verdict else ""
