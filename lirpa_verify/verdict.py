"""What a verification run answers, and what it says on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Verdict = Literal["sat", "unsat", "unknown", "timeout"]


@dataclass(frozen=True)
class Witness:
    """A point that violates: `x` (n_inputs,) in the model's dtype, `y` (n_outputs,) as onnxruntime computed it."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Progress:
    """One line of news from a running proof; sent at most a few times a second."""

    phase: str  # "attack", "bounds", "alpha-crown", "input-split", ...
    open: int = 0  # open sub-problems
    closed: int = 0  # sub-problems proved so far
    worst: float = float("nan")  # worst margin: > 0 would be proved


@dataclass(frozen=True)
class Result:
    verdict: Verdict
    witness: Witness | None = None
    reason: str = ""  # why unknown or timeout; which technique decided otherwise
    statistics: dict[str, float | int | str] = field(default_factory=dict)
