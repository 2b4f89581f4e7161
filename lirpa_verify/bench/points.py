"""Points as VNN-COMP gives them (rules of 2025 and 2026).

10 for a right answer, -150 for a wrong one, nothing for the rest. A `sat` is right if its witness holds, up to 1e-4 in
the inputs. An `unsat` is wrong if anybody's witness holds exactly; what a suite expects counts as such a witness,
unless a replay contradicts it. A category is worth 100 for the tool with most points, and for the others in
proportion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from lirpa_verify.bench.contradictions import FAILS
from lirpa_verify.bench.match import pairs
from lirpa_verify.bench.outcome import Outcome, Run

RIGHT, WRONG = 10, -150


def points(run: Run, others: Sequence[Run] = ()) -> dict[tuple[str, str, str], int]:
    """The points for each instance of a run; `others` may hold witnesses against it."""
    refuted = {outcome.key for outcome in run.outcomes if outcome.expected == "sat"}
    for other in others:
        exact = [its for its in other.outcomes if its.verdict == "sat" and its.checked == "exact"]
        refuted |= {one.key for one, _ in pairs(run.outcomes, exact)}
    return {outcome.key: _points(outcome, outcome.key in refuted) for outcome in run.outcomes}


def _points(outcome: Outcome, refuted: bool) -> int:
    if outcome.verdict == "unsat":
        return WRONG if refuted else RIGHT
    if outcome.verdict == "sat":
        unproved = outcome.checked == "" and outcome.expected == "unsat"
        return WRONG if outcome.checked in FAILS or unproved else RIGHT
    return 0


def category_points(run: Run, others: Sequence[Run] = ()) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for (category, _, _), value in points(run, others).items():
        sums[category] += value
    return dict(sums)


def scores(run: Run, others: Sequence[Run]) -> dict[str, float]:
    """Category scores from 0 to 100, against the best of all these runs on the instances of `run`."""
    mine = category_points(run, others)
    best = dict(mine)
    for other in others:
        rest = [run, *(each for each in others if each is not other)]
        theirs = points(other, rest)
        sums: dict[str, int] = defaultdict(int)
        for one, its in pairs(run.outcomes, other.outcomes):
            sums[one.category] += theirs[its.key]
        for category, value in sums.items():
            best[category] = max(best[category], value)
    return {
        category: max(0.0, 100 * value / best[category]) if best[category] > 0 else 0.0
        for category, value in mine.items()
    }
