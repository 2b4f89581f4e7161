"""Turns of what runs beside a proof while long bounds are made.

The first bounds of a large network may take most of the time limit. An attack that has its turn only before
and after them would not find what a few runs more find. Everything that takes long asks its deadline again and again;
a `SharedDeadline` gives others a turn when asked, and has passed once one of them has decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from lirpa_verify.deadline import Deadline
from lirpa_verify.verdict import Result

PAUSE = 0.1  # seconds between turns at least: some loops ask a thousand times a second


@dataclass
class Turns:
    """What runs beside a proof, and what it has decided."""

    beside: Callable[[], Result | None]
    decided: Result | None = None
    last: float = -torch.inf  # when the last turn ended

    def __call__(self) -> Result | None:
        """One turn, unless it is decided already."""
        if self.decided is None:
            with torch.enable_grad():  # of which the proof may have no need where it asks
                self.decided = self.beside()
            self.last = time.monotonic()
        return self.decided

    def over(self) -> bool:
        """Whether it is decided, after a turn if the last one is long enough ago."""
        if time.monotonic() - self.last >= PAUSE:
            self()
        return self.decided is not None


@dataclass(frozen=True)
class SharedDeadline(Deadline):
    """Asking it gives others their turns; once they have decided there is nothing left to do."""

    turns: Turns

    def passed(self) -> bool:
        return super().passed() or self.turns.over()

    def within(self, seconds: float) -> SharedDeadline:
        return replace(self, at=min(self.at, time.monotonic() + seconds))
