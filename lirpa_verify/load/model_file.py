"""Reading a model file: plain or gzip, found by its contents and not by its name."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from lirpa_verify.errors import ModelError

_GZIP_MAGIC = b"\x1f\x8b"


def read_model_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of the ONNX model in `path`, or in `path` + ".gz" where only that exists."""
    return unpack(read_file(path), path)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The file as it lies there, packed or not."""
    chosen = Path(path)
    if not chosen.exists() and (packed := Path(f"{chosen}.gz")).exists():
        chosen = packed
    try:
        return chosen.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read model '{chosen}': {error.strerror or error}") from error


def unpack(data: bytes, path: str | os.PathLike[str]) -> bytes:
    """The ONNX model in the bytes of a file; `path` is for the error message."""
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ModelError(f"model '{os.fspath(path)}' is not a complete gzip file: {error}") from error
    if not data:
        raise ModelError(f"model '{os.fspath(path)}' is empty")
    return data
