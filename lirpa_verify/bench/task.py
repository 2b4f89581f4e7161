"""A task: one instance of a run that is to be tried once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What the database knows of an instance before it is run."""

    id: int
    category: str
    onnx: str  # as listed, without `./` and `.gz`
    vnnlib: str
    repeat: int  # 0 for the first time
    model: str  # where the file was when the run was started
    property: str
    timeout: float  # seconds
    expected: str  # "sat", "unsat" or ""
