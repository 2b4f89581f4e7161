"""When this process started, on the `time.monotonic` clock.

Time limits count from there, not from the moment when the imports are done. Under a shell that
`exec`s Python the process is the shell's, so the shell's own start counts as well.
"""

from __future__ import annotations

import os
import time

_IMPORTED = time.monotonic()
_PLAUSIBLE_AGE = 600.0  # seconds; an older start is a clock that does not mean what it should


def process_started(told: float | None = None) -> float:
    """The moment on the `time.monotonic` clock at which this process started.

    `told` is a moment on the wall clock (seconds since 1970) that a caller measured before it
    started this process. The earliest plausible source counts.
    """
    now = time.monotonic()
    ages = [now - _IMPORTED, _kernel_age(), None if told is None else time.time() - told]
    return now - max(age for age in ages if age is not None and 0 <= age <= max(_PLAUSIBLE_AGE, now - _IMPORTED))


def _kernel_age() -> float | None:
    """Seconds since the kernel started this process; None where it does not say."""
    try:
        with open("/proc/self/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5): ticks since boot
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return None
