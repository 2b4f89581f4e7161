"""What the supervisor gives to its worker, and what the worker says back.

Only built-in types, so that the supervisor needs neither numpy nor torch to read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Word = Literal["sat", "unsat", "unknown", "timeout"]
Cause = Literal["", "memory", "crash"]  # what ended a worker that has no answer


@dataclass(frozen=True)
class Job:
    """One run: what to do, on which files, until when (`prepare` needs no property)."""

    task: Literal["verify", "bounds", "prepare"]
    models: Mapping[str, str]  # paths by the names of networks; "" is the name of the only one
    property: str
    deadline: float  # time.monotonic(); the worker should be done by then
    method: str = "auto"
    device: str = "auto"
    seed: int = 0
    log_level: int = 30  # the `logging` level from which log lines are worth sending
    debug: bool = False


@dataclass(frozen=True)
class News:
    """Where a proof stands."""

    phase: str
    open: int = 0
    closed: int = 0
    worst: float = float("nan")


@dataclass(frozen=True)
class Log:
    """One log line, with its `logging` level."""

    level: int
    text: str


class Tensor(NamedTuple):
    """An input or output that a query declares."""

    name: str
    element_type: str
    shape: tuple[int, ...]
    is_output: bool


@dataclass(frozen=True)
class Answer:
    """A verdict; a `sat` carries its witness as decimal numbers."""

    verdict: Word
    reason: str = ""
    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    statistics: dict[str, float | int | str] = field(default_factory=dict)
    cause: Cause = ""
    tensors: tuple[Tensor, ...] = ()  # of a query in VNN-LIB 2.0, whose entries `x` and `y` are one behind the other


@dataclass(frozen=True)
class Ranges:
    """Certified bounds of every output over the input set."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]


@dataclass(frozen=True)
class Prepared:
    """The model was read and its recording cached."""


@dataclass(frozen=True)
class BadInput:
    """The files or options cannot be used; `message` says which and why."""

    message: str
    trace: str = ""


@dataclass(frozen=True)
class Failure:
    """The tool itself is wrong."""

    message: str
    trace: str = ""


Outcome = Answer | Ranges | Prepared | BadInput | Failure
