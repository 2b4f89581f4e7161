"""What comes of a task."""

from __future__ import annotations

import gzip
import platform
import time
from dataclasses import dataclass, field

# sat and unsat: decided. timeout: the time was up, whoever noticed. unknown: the verifier gave up. memout: it
# needed more memory than it may have. crash: its process ended without an answer. error: files that cannot
# be used, or a fault of the verifier that it noticed itself.
VERDICTS = ("sat", "unsat", "timeout", "unknown", "memout", "crash", "error")


@dataclass(frozen=True)
class Row:
    """One result. `seconds` is wall time from the request to the answer, `prepare_seconds` what came before it."""

    verdict: str  # one of VERDICTS
    seconds: float
    prepare_seconds: float | None = None
    detail: str = ""  # why, in words
    witness: str = ""  # the lines after `sat`
    statistics: dict[str, float | int | str] = field(default_factory=dict)
    finished: float = field(default_factory=time.time)  # seconds since 1970
    host: str = field(default_factory=platform.node)

    def packed_witness(self) -> bytes | None:
        return gzip.compress(self.witness.encode(), mtime=0) if self.witness else None


def mark(verdict: str, expected: str) -> str:
    """`right` or `WRONG` against what is expected, `new` where nothing is, "" if undecided."""
    if verdict not in ("sat", "unsat"):
        return ""
    if not expected:
        return "new"
    return "right" if verdict == expected else "WRONG"
