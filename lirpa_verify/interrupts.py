"""Signals and the time limit as one exception, whatever the main thread is at: a write that does not end included."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

ASKED = (signal.SIGINT, signal.SIGTERM)
LEAST = 0.05  # seconds: also when the time is up there is something to write
GRACE = 0.5  # seconds that a signal leaves to what is being written
FAR = 1e8  # seconds: timers do not count further


class Interrupted(Exception):
    """Somebody asked this process to end; SIGALRM where that is its own timer."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__("the time is up" if self.late else f"interrupted by {signal.Signals(number).name}")

    @property
    def late(self) -> bool:
        """Whether the time was up."""
        return self.number == signal.SIGALRM

    @property
    def status(self) -> int:
        """The exit status of a process that could not do what it was to do."""
        return 1 if self.late else 128 + self.number


def interrupt_at(moment: float) -> None:
    """From now on signals raise `Interrupted` at once, and so does the moment (`time.monotonic`)."""
    _handle(ASKED, _interrupt)
    _wake(moment, _interrupt)


def finish_by(moment: float) -> None:
    """From now on the moment raises `Interrupted`; a signal brings it near: most readers are only slow."""
    _handle(ASKED, _hurry)
    _wake(moment, _interrupt)


def hold() -> None:
    """From now on nothing raises."""
    _handle((*ASKED, signal.SIGALRM), signal.SIG_IGN)


def _handle(numbers: tuple[signal.Signals, ...], handler: Any) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _wake(moment: float, handler: Any) -> None:
    seconds = max(LEAST, moment - time.monotonic())
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds if seconds < FAR else 0)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    hold()  # once is enough; a second signal must not disturb the clean-up
    raise Interrupted(number)


def _hurry(number: int, _frame: FrameType | None) -> None:
    _handle(ASKED, signal.SIG_IGN)
    _wake(time.monotonic() + GRACE, lambda _alarm, frame: _interrupt(number, frame))
