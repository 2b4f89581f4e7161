"""From an ONNX file to a recording: read, convert, compare with onnxruntime, keep for the next time."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

from lirpa_verify.load.cache import cached_recording, store_recording
from lirpa_verify.load.model_file import read_model_bytes
from lirpa_verify.load.recording import Recording

__all__ = ["load_recording"]


def load_recording(path: str | os.PathLike[str], use_cache: bool = True) -> Recording:
    """The network in `path` (or `path` + ".gz"; gzip or plain) as a recording that agrees with onnxruntime.

    Raises `ModelError` for a file that is not a sound model, `UnsupportedOperator` for what cannot be converted.
    """
    data = read_model_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if use_cache and (recording := cached_recording(sha256)) is not None:
        return recording
    recording = convert_model(data, os.fspath(path))
    recording = replace(recording, meta={**recording.meta, "sha256": sha256})
    if use_cache:
        store_recording(recording, sha256)
    return recording


def convert_model(data: bytes, name: str) -> Recording:
    """The model in `data`, converted and compared with onnxruntime; `name` is what error messages call it."""
    # Imported here: a run on a network that is in the cache needs none of onnx, onnx2torch and onnxruntime.
    from lirpa_verify.load.check import check_recording
    from lirpa_verify.load.onnx_model import parse_model
    from lirpa_verify.load.onnx_program import record_model

    recording = record_model(parse_model(data, name), name)
    check_recording(recording, data, name)
    return recording
