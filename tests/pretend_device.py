"""Tensors that claim to be on a GPU, where there is none: an operation that mixes them with tensors of the CPU fails.

Values are computed by the CPU. As on a real device, numbers and tensors without dimensions may come from the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("lazy", 0)  # a device that torch knows, and that needs no driver
ANYWHERE = ("aten::index.Tensor", "aten::index_put", "aten::_index_put_impl_")  # take indices of the CPU


class Elsewhere(Tensor):
    """A tensor of the CPU that says that it is on the device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> list[Any]:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with Device():
            return func(*args, **(kwargs or {}))


class Device(TorchDispatchMode):
    """Inside, the device is there."""

    def __enter__(self) -> Device:
        self.before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) goes through here as well
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self.before)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        there = any(isinstance(t, Elsewhere) for t in flat)
        target = kwargs.get("device")
        copies = func._schema.name in ("aten::_to_copy", "aten::copy_")
        if there and not copies and not func._schema.name.startswith(ANYWHERE):
            strangers = [t for t in flat if not isinstance(t, Elsewhere) and t.dim() > 0]
            if strangers:
                raise RuntimeError(f"{func}: a tensor of the CPU, {tuple(strangers[0].shape)}, meets one of the device")
        if target is not None:
            there = torch.device(target).type == DEVICE.type
            kwargs["device"] = torch.device("cpu")
        elif copies:
            there = isinstance(args[0], Elsewhere)
        result = func(*map_tensors(lambda t: t.inner if isinstance(t, Elsewhere) else t, args),
                      **map_tensors(lambda t: t.inner if isinstance(t, Elsewhere) else t, kwargs))  # fmt: skip
        if func._schema.name.endswith("_") and isinstance(args[0], Elsewhere):  # in place
            return args[0]
        return map_tensors(Elsewhere, result) if there else result


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    return pytree.tree_map_only(Tensor, function, tree)
