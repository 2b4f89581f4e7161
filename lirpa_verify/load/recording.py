"""A recorded network: the flat list of ATen calls that depend on its inputs.

Everything that does not depend on an input was evaluated while recording and is a constant.
Values keep the exact shapes of the model (its own batch dimension included).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Ref:
    """Result number `item` of call `call`; inputs are calls -1, -2, ... (input i is ``Ref(-1 - i)``)."""

    call: int
    item: int = 0


@dataclass(frozen=True)
class Const:
    """Constant number `index` of the recording."""

    index: int


@dataclass(frozen=True)
class TensorSpec:
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Call:
    """One ATen call.

    `op` is the overload's name, for instance ``aten.convolution.default``. `args` and `kwargs` hold
    `Ref`, `Const`, numbers, strings, ``None``, ``torch.dtype`` and (nested) tuples of these.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[TensorSpec | None, ...]  # one per result; None where the result is not a tensor
    label: str  # the ONNX node or torch module it came from


@dataclass(frozen=True)
class Recording:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[Ref | Const, ...]
    calls: tuple[Call, ...]
    constants: tuple[torch.Tensor, ...]
    output_specs: tuple[TensorSpec, ...] = ()
    meta: dict[str, str] = field(default_factory=dict)  # e.g. opset, producer
