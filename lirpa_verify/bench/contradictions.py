"""Where answers exclude each other: with what is expected, with other runs, with the replay of a witness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lirpa_verify.bench.match import pairs
from lirpa_verify.bench.outcome import Outcome, Run

HOLDS = ("exact", "tolerance")  # outcomes of a check that make a witness valid
FAILS = ("fails", "missing", "malformed")


@dataclass(frozen=True)
class Contradiction:
    """One instance, and what is said of it."""

    outcome: Outcome
    says: str  # what the run itself says
    against: str  # what stands against it


def contradictions(run: Run, others: Sequence[Run] = ()) -> list[Contradiction]:
    """All of them, in the order of the suite."""
    found: list[Contradiction] = []
    for outcome in run.outcomes:
        if outcome.verdict == "sat" and outcome.checked in FAILS:
            found.append(Contradiction(outcome, describe(outcome), f"the witness: {outcome.checked}"))
        if outcome.solved and outcome.expected not in ("", outcome.verdict):
            found.append(Contradiction(outcome, describe(outcome), f"expected {outcome.expected}"))
    for other in others:
        for one, its in pairs(run.outcomes, other.outcomes):
            if one.solved and its.solved and one.verdict != its.verdict:
                found.append(Contradiction(one, describe(one), f"{other.name}: {describe(its)}"))
    order = {outcome.key: i for i, outcome in enumerate(run.outcomes)}
    return sorted(found, key=lambda c: order[c.outcome.key])


def describe(outcome: Outcome) -> str:
    """`unsat`, or `sat` with what is known of its witness."""
    if outcome.verdict != "sat":
        return outcome.verdict
    words = {"": "witness not checked", "exact": "witness holds", "tolerance": "witness holds up to the tolerance"}
    return f"sat ({words.get(outcome.checked, 'witness: ' + outcome.checked)})"
