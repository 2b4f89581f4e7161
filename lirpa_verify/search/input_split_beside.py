"""An input split beside the activation split: each gets more of the time the sooner it promises to end.

Which of the two is better cannot be told from the network: with a few influential inputs boxes win in spite
of many others, with few undecided neurons these win in spite of few inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lirpa_verify.deadline import Deadline
from lirpa_verify.search.activation_split import Outlook
from lirpa_verify.search.input_split import InputSplit, most_varying
from lirpa_verify.verdict import Result

FIRST_BUDGET = 0.25  # seconds after which the trial of an input split is judged first
FEWEST_BOXES, TRIAL_SHARE = 64, 0.1  # boxes from which on its outlook tells something; of the time left, until then
FEW_INPUTS = 12  # up to which halvings are expected to win: the trial goes on while it may end in time
MANY_BOXES = 16  # of which an activation split, that takes one after the other, would take too long
SOON = 2.0  # times what it has taken: where more inputs vary, it goes on while it may end within that
LEAST_SHARE = 0.1  # of the time goes to either search, whatever it promises
LEAST_SLICE = 0.1  # seconds


def input_split_trial(search: InputSplit, deadline: Deadline) -> Result | None:
    """The result of an input split, or None once it does not promise to end.

    Args:
        search: has not begun.
        deadline: when to stop.
    """
    if search.trees > MANY_BOXES:
        return search.run(deadline)
    few = most_varying(search.effort.problem) <= FEW_INPUTS
    budget = FIRST_BUDGET
    while True:
        result = search.run(deadline.within(budget))
        if result.verdict != "timeout" or deadline.passed():
            return result
        left = deadline.remaining()
        if search.tally.bounded >= max(FEWEST_BOXES, search.trees):
            if search.outlook() > (left if few else SOON * search.spent):
                return None
        elif dear(search, TRIAL_SHARE * left, few):
            return None
        budget = search.spent


def dear(search: InputSplit, seconds: float, few: bool) -> bool:
    """Whether the trial takes too long to tell anything: has taken where few inputs vary, else may take."""
    return search.spent * (1 if few else FEWEST_BOXES / max(1, search.tally.bounded)) > seconds


@dataclass
class InputSplitBeside:
    """Called once a round of an activation split; continues the input split and the attack."""

    search: InputSplit
    attack: Callable[[], Result | None]
    deadline: Deadline
    other: float | None = None  # seconds that the activation split needs, once that is known
    started: float = field(default_factory=time.monotonic)
    before: float = field(init=False)  # seconds that the input split had before
    ended: Result | None = None

    def __post_init__(self) -> None:
        self.before = self.search.spent

    def __call__(self) -> Result | None:
        if self.ended is None:
            due = self.due()
            if due < LEAST_SLICE:
                return self.attack()
            result = self.search.run(self.deadline.within(due))
            if result.verdict != "timeout":
                self.ended = result
        if self.ended is None or self.ended.verdict == "unknown":
            return self.attack()
        return self.ended

    def watch(self, outlook: Outlook) -> None:
        """Takes in what the activation split promises."""
        self.other = outlook.seconds

    def due(self) -> float:
        """Seconds that the input split may have now."""
        return self.share() * (time.monotonic() - self.started) - (self.search.spent - self.before)

    def share(self) -> float:
        """Of the time, for the input split."""
        mine = self.search.outlook()
        share = 0.5 if self.other is None else self.other / max(mine + self.other, 1e-9)
        return min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)
