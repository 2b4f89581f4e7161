"""ONNX element types and torch types."""

from __future__ import annotations

import numpy
import torch

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.load.nodes.node import Node

# The numbers are those of the TensorProto.DataType enumeration, which the ONNX file format fixes.
_TORCH_TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
_REFUSED = frozenset({torch.float16, torch.bfloat16})


def torch_type(number: int, node: Node) -> torch.dtype:
    """The torch type of an ONNX element type; refuses what the program does not compute with."""
    found = known_type(number)
    if found is None:
        raise node.unsupported(f"element type {number} is neither bool, an integer, float32 nor float64")
    return found


def known_type(number: int) -> torch.dtype | None:
    """The torch type, or None for a type that is not supported (half precision, strings, ...)."""
    found = _TORCH_TYPES.get(number)
    return None if found in _REFUSED else found


def to_torch(array: numpy.ndarray, name: str) -> torch.Tensor:
    """A constant as a tensor of its own memory."""
    if array.dtype == numpy.uint64 or array.dtype == numpy.uint32:
        array = array.astype(numpy.int64)
    try:
        return torch.from_numpy(numpy.array(array, order="C"))
    except TypeError as error:
        raise UnsupportedOperator("Constant", name, f"element type {array.dtype} is not supported") from error
