"""How hard to try: the options of a run that its results depend on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Options of every instance of a run."""

    method: str = "auto"
    device: str = "auto"
    seed: int = 0
    memory: int | None = None  # bytes that an instance may hold; None: 90 % of what is free
    threads: int = 1
    cold: bool = False  # start the competition's scripts instead of warm workers
    scripts: str = ""  # the folder of those scripts
