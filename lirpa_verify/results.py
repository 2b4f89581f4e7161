"""How answers are written: competition syntax, JSON, and files that are never half there."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lirpa_verify.messages import Answer, BadInput, Failure, Outcome, Ranges


def results_text(outcome: Outcome, timed_out: str = "timeout") -> str:
    """The content of a results file: a word of the competition, and after `sat` the witness."""
    if isinstance(outcome, Answer):
        return answer_text(outcome, timed_out)
    if isinstance(outcome, Ranges):
        return ranges_text(outcome)
    return "error\n"


def answer_text(answer: Answer, timed_out: str = "timeout") -> str:
    """The verdict alone on its line, then `((X_0 ...)` to `(Y_n ...))`, or the tensors that a query declares."""
    if answer.verdict != "sat":
        return f"{timed_out if answer.verdict == 'timeout' else answer.verdict}\n"
    if answer.tensors:
        return "sat\n" + "\n".join(_assignment(answer)) + "\n"
    pairs = [*_pairs("X", answer.x), *_pairs("Y", answer.y)]
    return "sat\n(" + "\n".join(pairs) + ")\n"


def _assignment(answer: Answer) -> Iterable[str]:
    """As VNN-LIB 2.0 has it: of every tensor its name, type and shape, then its entries, a line each."""
    left = {False: iter(answer.x), True: iter(answer.y)}
    for tensor in answer.tensors:
        yield f"{tensor.name} {tensor.element_type} [{','.join(map(str, tensor.shape))}]"
        yield from islice(left[tensor.is_output], math.prod(tensor.shape))


def _pairs(letter: str, numbers: Sequence[str]) -> Iterable[str]:
    return (f"({letter}_{i} {number})" for i, number in enumerate(numbers))


def ranges_text(ranges: Ranges) -> str:
    """One line per output. `repr` prints the very float64 that was certified, not one near it."""
    return "".join(f"Y_{i} {low!r} {high!r}\n" for i, (low, high) in enumerate(zip(ranges.lower, ranges.upper)))


def json_text(outcome: Outcome, seconds: float) -> str:
    """One JSON object on one line; numbers that JSON does not know (infinities, NaN) become null."""
    record: dict[str, Any]
    if isinstance(outcome, Answer):
        witness = None
        if outcome.verdict == "sat":
            witness = {"x": _numbers(outcome.x), "y": _numbers(outcome.y)}
        statistics = {key: _jsonable(value) for key, value in outcome.statistics.items()}
        record = {"verdict": outcome.verdict, "reason": outcome.reason, "witness": witness, "statistics": statistics}
    elif isinstance(outcome, Ranges):
        record = {"lower": _numbers(outcome.lower), "upper": _numbers(outcome.upper)}
    else:
        reason = outcome.message if isinstance(outcome, BadInput | Failure) else ""
        record = {"verdict": "error", "reason": reason, "witness": None, "statistics": {}}
    return json.dumps({**record, "seconds": round(seconds, 3)}, allow_nan=False) + "\n"


def _numbers(values: Iterable[str | float]) -> list[Any]:
    return [_jsonable(float(value)) for value in values]


def _jsonable(value: Any) -> Any:
    finite = not isinstance(value, float) or abs(value) < float("inf")  # NaN compares false
    return value if finite else None


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old content or the new, never a part.

    What cannot be replaced (a device, a file in a folder that we may not write) is written in place.
    """
    path = path.resolve()  # of a link, replace what it points to
    if path.exists() and not path.is_file():
        path.write_text(text)
        return
    try:
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".lirpa-verify-")
    except PermissionError:
        path.write_text(text)
        return
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.chmod(scratch, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def exit_status(outcome: Outcome) -> int:
    """0 for any answer, 2 when the user must change something, 1 when we must."""
    if isinstance(outcome, BadInput):
        return 2
    return 1 if isinstance(outcome, Failure) else 0
