"""Where a run takes place: machine, versions, commit; recorded with every session of a run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from lirpa_verify import __version__
from lirpa_verify.memory import available_bytes

_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "onnx2torch", "highspy")


def environment() -> dict[str, Any]:
    """Facts about this machine and installation; what cannot be found out is left out."""
    free = available_bytes()
    facts: dict[str, Any] = {
        "lirpa-verify": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "system": platform.platform(),
        "host": platform.node(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "free memory, GiB": round(free / 2**30, 1) if free is not None else None,
        "GPU": _first_line("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
    return {name: value for name, value in facts.items() if value}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the sources that run, with a `+` if they were changed since; None outside a repository."""
    folder = str(Path(__file__).parent)
    commit = _first_line("git", "-C", folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _first_line("git", "-C", folder, "status", "--porcelain", "--", str(Path(folder).parent))
    return commit + ("+" if changed else "")


def _processor() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or None
    return platform.processor() or None


def _first_line(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None
