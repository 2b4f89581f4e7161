"""Who runs: a process, told apart from a later one with the same number."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process on some machine."""

    host: str
    pid: int
    birth: str  # boot and moment of start, "" where the system does not say


def this_process() -> Owner:
    return Owner(platform.node(), os.getpid(), _birth(os.getpid()))


def is_gone(owner: Owner) -> bool | None:
    """Whether that process has ended; None if it is on another machine, where this one cannot look."""
    if owner.host != platform.node():
        return None
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _birth(owner.pid) != owner.birth


def _birth(pid: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # field 22 of proc(5)
    except (OSError, IndexError):
        return ""
    return f"{boot} {ticks}"
