"""From an ONNX file to a recording: read, convert, compare with onnxruntime, keep for the next time."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import torch

from lirpa_verify.load.cache import cached_recording, store_recording
from lirpa_verify.load.external_data import embedded
from lirpa_verify.load.model_file import read_file, read_model_bytes, unpack
from lirpa_verify.load.recording import Recording

_MANY_BYTES = 2**25  # of weights: enough work per operation for several threads

__all__ = ["convert_model", "load_recording", "read_model_bytes"]


def load_recording(path: str | os.PathLike[str], use_cache: bool = True) -> Recording:
    """The network in `path` (or `path` + ".gz"; gzip or plain) as a recording that agrees with onnxruntime.

    Raises `ModelError` for a file that is not a sound model, `UnsupportedOperator` for what cannot be converted.
    """
    packed = embedded(read_file(path), path)
    # The digest of the file as it lies there: a packed model that was seen before need not be unpacked.
    digest = hashlib.sha256(packed).hexdigest()
    if use_cache and (recording := cached_recording(digest)) is not None:
        return recording
    data = unpack(packed, path)
    recording = convert_model(data, os.fspath(path))
    meta = {**recording.meta, "sha256": hashlib.sha256(data).hexdigest(), "file_sha256": digest}
    recording = replace(recording, meta=meta)
    if use_cache:
        store_recording(recording, digest)
    return recording


def convert_model(data: bytes, name: str) -> Recording:
    """The model in `data`, converted and compared with onnxruntime; `name` is what error messages call it."""
    # Imported here: a run on a network that is in the cache needs none of onnx, onnx2torch and onnxruntime.
    from lirpa_verify.load.check import check_recording
    from lirpa_verify.load.onnx_model import parse_model, without_zero_dimensions
    from lirpa_verify.load.onnx_program import record_model
    from lirpa_verify.threads import torch_threads

    model = parse_model(data, name)
    with torch_threads(1 if len(data) < _MANY_BYTES else torch.get_num_threads()):
        recording = record_model(model, name)
        check_recording(recording, without_zero_dimensions(data), name)
    return recording
