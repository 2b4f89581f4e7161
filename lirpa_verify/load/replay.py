"""Running a recording with torch, for comparison with the original network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lirpa_verify.load.recording import Const, Recording, Ref
from lirpa_verify.load.trim import leaves, map_leaves


def replay(
    recording: Recording, inputs: Sequence[torch.Tensor], dtype: torch.dtype | None = None
) -> list[torch.Tensor]:
    """The outputs for `inputs`; with `dtype`, everything that is a float is computed in that type.

    Computed on the device of the first input. Gradients flow unless the caller switches them off.
    """

    def cast(leaf: Any) -> Any:
        if dtype is None:
            return leaf
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            return leaf.to(dtype)
        if isinstance(leaf, torch.dtype) and leaf.is_floating_point:
            return dtype
        return leaf

    device = inputs[0].device if len(inputs) else torch.device("cpu")
    values: dict[int, Any] = {
        -1 - i: (cast(value).reshape(expected.shape),)
        for i, (value, expected) in enumerate(zip(inputs, recording.inputs, strict=True))
    }

    def fetch(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return values[leaf.call][leaf.item]
        if isinstance(leaf, Const):
            return cast(recording.constants[leaf.index].to(device))
        return cast(leaf)

    last_use = _last_uses(recording)
    for index, call in enumerate(recording.calls):
        result = resolve(call.op)(*map_leaves(fetch, call.args), **map_leaves(fetch, call.kwargs))
        values[index] = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        for done in last_use.get(index, ()):
            del values[done]
    return [fetch(output) for output in recording.outputs]


def resolve(op: str) -> Callable[..., Any]:
    """The torch operator of a recorded name such as ``aten.convolution.default``."""
    if op == "aten.view.default":
        return torch.reshape  # a recorded view is a reshape of the values, whatever their memory layout
    namespace, name, overload = op.split(".")
    operator: Callable[..., Any] = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    return operator


def _last_uses(recording: Recording) -> dict[int, list[int]]:
    """For each call, the values that nothing needs after it."""
    last: dict[int, int] = {}
    for index, call in enumerate(recording.calls):
        for leaf in leaves((call.args, call.kwargs)):
            if isinstance(leaf, Ref):
                last[leaf.call] = index
    for leaf in recording.outputs:
        if isinstance(leaf, Ref):
            last[leaf.call] = len(recording.calls)
    uses: dict[int, list[int]] = {}
    for value, index in last.items():
        uses.setdefault(index, []).append(value)
    return uses
