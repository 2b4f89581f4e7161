"""The difference of two recorded integer values, where it is the same for every input.

Windows of a fixed size at a place that the input decides are written as slices from ``p`` to ``p + size``: both ends
depend on the input, their difference does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lirpa_verify.load.recording import Call, Const, Ref

# These move entries without changing them; with one entry, nothing moves at all.
_SAME_ENTRY = frozenset({"aten.view.default", "aten.unsqueeze.default", "aten.squeeze.dim", "aten.slice.Tensor"})


def constant_difference(
    first: Ref | Const, second: Ref | Const, calls: Sequence[Call], constants: Sequence[torch.Tensor]
) -> torch.Tensor | None:
    """`first` - `second` for one-entry integer values, or None when it may depend on the input."""
    base, offset = _base_and_offset(first, calls, constants)
    other_base, other_offset = _base_and_offset(second, calls, constants)
    return torch.tensor([offset - other_offset]) if base == other_base else None


def _base_and_offset(
    value: Ref | Const, calls: Sequence[Call], constants: Sequence[torch.Tensor]
) -> tuple[Ref | None, int]:
    """The value as another one plus a number; a constant is a number alone."""
    offset = 0
    while isinstance(value, Ref) and value.call >= 0:
        call = calls[value.call]
        output = call.outputs[value.item]
        if output is None or output.dtype != torch.int64 or any(size != 1 for size in output.shape):
            break
        if call.op in _SAME_ENTRY and isinstance(call.args[0], Ref):
            value = call.args[0]
        elif call.op in ("aten.add.Tensor", "aten.sub.Tensor") and not call.kwargs:
            a, b = call.args
            number = _number(b, constants)
            if number is None:
                number, a, b = _number(a, constants), b, a
                if call.op == "aten.sub.Tensor":
                    break
            if number is None:
                break
            offset += number if call.op == "aten.add.Tensor" else -number
            value = a
        else:
            break
    if isinstance(value, Const):
        return None, offset + int(constants[value.index].reshape(-1)[0])
    return value, offset


def _number(value: object, constants: Sequence[torch.Tensor]) -> int | None:
    if isinstance(value, int):
        return value
    if isinstance(value, Const) and constants[value.index].numel() == 1:
        return int(constants[value.index].reshape(-1)[0])
    return None
