"""A recording as bytes: a JSON header and the raw constants. Nothing in it is ever executed or unpickled.

magic (8) | CRC-32 of the rest (4) | length of the header (8) | header | constants, each aligned to 64 bytes
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from typing import Any

import torch

from lirpa_verify.load.recording import Call, Const, Recording, Ref, TensorSpec

_MAGIC = b"LIRPAREC"
_PREFIX = struct.Struct("<8sIQ")
_CHECKED_FROM = 12  # the length of magic and checksum
_ALIGNMENT = 64
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
    )
}


class NotSerial(ValueError):
    """The recording holds something that has no serial form, or the bytes are not a recording."""


def to_bytes(recording: Recording) -> bytearray:
    """The serial form of a recording."""
    arrays: list[memoryview] = []
    places: list[tuple[str, list[int], int, int]] = []
    offset = 0
    for constant in recording.constants:
        raw = constant.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        places.append((_dtype_name(constant.dtype), list(constant.shape), offset, len(raw)))
        arrays.append(raw)  # a view: the weights are copied once, into the result
        offset += len(raw) + -len(raw) % _ALIGNMENT
    content = {
        "inputs": [_spec(value) for value in recording.inputs],
        "outputs": [_encode(value) for value in recording.outputs],
        "output_specs": [_spec(value) for value in recording.output_specs],
        "calls": [
            [
                call.op,
                _encode(call.args),
                {key: _encode(value) for key, value in call.kwargs.items()},
                [value and _spec(value) for value in call.outputs],
                call.label,
            ]
            for call in recording.calls
        ],
        "constants": places,
        "meta": recording.meta,
    }
    header = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-(len(header) + _PREFIX.size) % _ALIGNMENT)
    result = bytearray(_PREFIX.size + len(header) + offset)
    start = _PREFIX.size + len(header)
    result[_PREFIX.size : start] = header
    for (_, _, place, size), raw in zip(places, arrays, strict=True):
        result[start + place : start + place + size] = raw
    _PREFIX.pack_into(result, 0, _MAGIC, 0, len(header))
    _PREFIX.pack_into(result, 0, _MAGIC, zlib.crc32(memoryview(result)[_CHECKED_FROM:]), len(header))
    return result


def from_bytes(data: bytearray) -> Recording:
    """The recording in `data`, whose memory the constants share; `NotSerial` if it is not one, or damaged."""
    if len(data) < _PREFIX.size:
        raise NotSerial("too short")
    magic, checksum, length = _PREFIX.unpack_from(data)
    if magic != _MAGIC or zlib.crc32(memoryview(data)[_CHECKED_FROM:]) != checksum:
        raise NotSerial("damaged, or not a recording")
    try:
        start = _PREFIX.size + length
        content = json.loads(bytes(data[_PREFIX.size : start]))
        return Recording(
            inputs=tuple(_read_spec(value) for value in content["inputs"]),
            outputs=tuple(_decode(value) for value in content["outputs"]),
            calls=tuple(
                Call(
                    op,
                    _decode(args),
                    {key: _decode(value) for key, value in kwargs.items()},
                    tuple(None if value is None else _read_spec(value) for value in outputs),
                    label,
                )
                for op, args, kwargs, outputs, label in content["calls"]
            ),
            constants=tuple(_constant(data, start, *place) for place in content["constants"]),
            output_specs=tuple(_read_spec(value) for value in content["output_specs"]),
            meta=dict(content["meta"]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NotSerial(f"not a recording: {error}") from error


def _constant(data: bytearray, start: int, dtype: str, shape: list[int], offset: int, size: int) -> torch.Tensor:
    kind = _DTYPES[dtype]
    count = math.prod(shape)
    if offset < 0 or start + offset + size > len(data) or size != count * kind.itemsize:
        raise NotSerial("a constant reaches beyond the end")
    if not count:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(data, dtype=kind, count=count, offset=start + offset).reshape(shape)


def _spec(value: TensorSpec) -> list[Any]:
    return [value.name, list(value.shape), _dtype_name(value.dtype)]


def _read_spec(value: list[Any]) -> TensorSpec:
    name, shape, dtype = value
    return TensorSpec(name, tuple(shape), _DTYPES[dtype])


def _dtype_name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise NotSerial(f"element type {name}")
    return name


def _encode(value: Any) -> Any:
    """JSON for an argument: what JSON does not have is a list that starts with a letter."""
    if isinstance(value, Ref):
        return ["r", value.call, value.item]
    if isinstance(value, Const):
        return ["c", value.index]
    if isinstance(value, tuple):
        return ["t", *(_encode(entry) for entry in value)]
    if isinstance(value, torch.dtype):
        return ["d", _dtype_name(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return ["f", str(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise NotSerial(f"an argument of type {type(value).__name__}")


def _decode(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    kind, *content = value
    if kind == "r":
        return Ref(*content)
    if kind == "c":
        return Const(*content)
    if kind == "t":
        return tuple(_decode(entry) for entry in content)
    if kind == "d":
        return _DTYPES[content[0]]
    if kind == "f":
        return float(content[0])
    raise NotSerial(f"unknown entry {kind!r}")
