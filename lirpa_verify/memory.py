"""How much memory this machine has left for us, and how much a process holds."""

from __future__ import annotations

import os
from pathlib import Path

_SHARE = 0.9  # of what is free: the rest is for the page cache, the supervisor and everybody else


def allocation_failed(error: BaseException) -> bool:
    """Whether memory ran out, which torch and onnxruntime report as errors of other kinds."""
    text = str(error)
    return isinstance(error, MemoryError) or "bad_alloc" in text or "allocate memory" in text


def budget_bytes() -> int | None:
    """What a worker may hold, from what is free now; None where the system does not say."""
    free = available_bytes()
    return None if free is None else int(_SHARE * free)


def available_bytes() -> int | None:
    """Memory that can be had without swapping: the machine's, or the control group's if that is less."""
    limits = [free for free in (_machine_free(), _group_free()) if free is not None]
    return min(limits, default=None)


def held_bytes(pid: int) -> int | None:
    """Memory of its own that process `pid` holds (shared libraries do not count); None once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _machine_free() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


def _group_free() -> int | None:
    """The tightest headroom among this process's control groups (versions 1 and 2)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    headrooms: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):  # inside a container only the root may be visible
            headroom = _headroom(root / folder, *names)
            if headroom is not None:
                headrooms.append(headroom)
    return min(headrooms, default=None)


def _headroom(folder: Path, limit_file: str, usage_file: str, reclaimable: str) -> int | None:
    try:
        limit = int((folder / limit_file).read_text())  # "max" (no limit) is a ValueError
        usage = int((folder / usage_file).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return max(0, limit - usage + int(stat.get(reclaimable, 0)))
