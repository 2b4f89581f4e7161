"""The table of a report: a line per category, and one for all."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lirpa_verify.bench.outcome import Outcome, Run
from lirpa_verify.bench.points import WRONG, points, scores

COLUMNS = (
    "category",
    "instances",
    "solved",
    "verified",
    "falsified",
    "timeout",
    "other",
    "wrong",
    "median s",
    "total s",
    "points",
    "score",
)


@dataclass(frozen=True)
class Line:
    """Counts and times; `median` is over what was solved, `total` over everything, in seconds of run time."""

    category: str
    instances: int
    verified: int
    falsified: int
    timeouts: int
    other: int
    wrong: int
    median: float | None
    total: float
    points: int
    score: float | None  # 0 to 100 against the best of the runs that are compared; None without any

    @property
    def solved(self) -> int:
        return self.verified + self.falsified

    def cells(self) -> list[str]:
        """In the order of COLUMNS."""
        median = "" if self.median is None else f"{self.median:.2f}"
        score = "" if self.score is None else f"{self.score:.1f}"
        counts = (self.instances, self.solved, self.verified, self.falsified, self.timeouts, self.other, self.wrong)
        return [self.category, *map(str, counts), median, f"{self.total:.1f}", str(self.points), score]


def table(run: Run, others: Sequence[Run] = ()) -> list[Line]:
    """A line per category in the order of the suite, the last for all of them."""
    won = points(run, others)
    score = scores(run, others) if others else {}
    categories = list(dict.fromkeys(outcome.category for outcome in run.outcomes))
    lines = [
        _line(category, [o for o in run.outcomes if o.category == category], won, score.get(category))
        for category in categories
    ]
    total = sum(score.values()) if others else None
    return [*lines, _line("all", run.outcomes, won, total)]


def _line(
    category: str, outcomes: Sequence[Outcome], won: dict[tuple[str, str, str], int], score: float | None
) -> Line:
    solved = [outcome.seconds for outcome in outcomes if outcome.solved]
    timeouts = sum(outcome.verdict == "timeout" for outcome in outcomes)
    return Line(
        category=category,
        instances=len(outcomes),
        verified=sum(outcome.verdict == "unsat" for outcome in outcomes),
        falsified=sum(outcome.verdict == "sat" for outcome in outcomes),
        timeouts=timeouts,
        other=len(outcomes) - len(solved) - timeouts,
        wrong=sum(won[outcome.key] == WRONG for outcome in outcomes),
        median=statistics.median(solved) if solved else None,
        total=sum(outcome.seconds for outcome in outcomes),
        points=sum(won[outcome.key] for outcome in outcomes),
        score=score,
    )
