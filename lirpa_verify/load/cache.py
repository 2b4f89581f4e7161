"""Recordings of networks that were seen before, so that a later run needs neither onnx nor onnxruntime.

A cache is a help and never a reason to fail: a directory that cannot be written means no cache, and a file that is
damaged, incomplete or foreign is made anew. What makes a recording valid is part of its file name.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from lirpa_verify.load.recording import Recording
from lirpa_verify.load.serial import NotSerial, from_bytes, to_bytes

_SUFFIX = ".recording"
_LARGEST_FILE = 2**29
_LARGEST_TOTAL = 2**31


def cache_directory() -> Path:
    """``$LIRPA_VERIFY_CACHE``, else ``lirpa-verify`` below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get("LIRPA_VERIFY_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "lirpa-verify"


def cached_recording(file_sha256: str) -> Recording | None:
    """The stored recording of the file with this digest, if there is a sound one."""
    try:
        path = _path(file_sha256)
        with open(path, "rb") as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            if file.readinto(data) != len(data):
                return None
        os.utime(path)  # the oldest go first when the cache grows too large
    except OSError:
        return None
    try:
        recording = from_bytes(data)
    except NotSerial:
        return None
    return recording if recording.meta.get("file_sha256") == file_sha256 else None


def store_recording(recording: Recording, file_sha256: str) -> None:
    """Keep a recording, if it can be kept: written aside and moved into place, so that no reader sees half of it."""
    try:
        data = to_bytes(recording)
    except NotSerial:
        return
    if len(data) > _LARGEST_FILE:
        return
    try:
        path = _path(file_sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(aside, path)
        except OSError:
            os.unlink(aside)
            raise
        _remove_oldest(path.parent)
    except OSError:
        return  # no room, or no right to write: no cache


def _path(file_sha256: str) -> Path:
    return cache_directory() / f"{file_sha256}-{_version()}{_SUFFIX}"


@lru_cache(maxsize=1)
def _version() -> str:
    """What else decides on a recording: torch (which names the calls) and the sources of this package."""
    digest = hashlib.sha256(torch.__version__.encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _remove_oldest(directory: Path) -> None:
    files = sorted((entry.stat().st_mtime, entry.stat().st_size, entry) for entry in directory.glob(f"*{_SUFFIX}"))
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= _LARGEST_TOTAL:
            return
        path.unlink(missing_ok=True)
        total -= size
