"""In-place operations as functions: what is written, the functional variant, and the way from a view to its base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten


def written_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors that the call writes into."""
    if not func._schema.is_mutable:
        return []
    written: list[torch.Tensor] = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        if isinstance(value, torch.Tensor):
            written.append(value)
        elif isinstance(value, (tuple, list)):
            written.extend(entry for entry in value if isinstance(entry, torch.Tensor))
    return written


def functional_variant(func: Any) -> Callable[..., torch.Tensor] | None:
    """A function with the arguments of the in-place call `func` that returns the new value; None if unknown."""
    name = func._schema.name.removeprefix("aten::")
    if name in _BY_HAND:
        return _BY_HAND[name]
    if func.namespace != "aten" or not name.endswith("_"):
        return None
    packet = getattr(aten, name[:-1], None)
    if packet is None or func._overloadname not in packet.overloads():
        return None
    variant: Callable[..., torch.Tensor] = getattr(packet, func._overloadname)
    return variant


def scatter_back(func: Any) -> Callable[[torch.Tensor, torch.Tensor, tuple[Any, ...]], torch.Tensor] | None:
    """For a view operation: (base, new value of the view, arguments) -> new value of the base; None if not a view
    that can be undone."""
    return _SCATTER.get(str(func))


def element_marks(value: torch.Tensor) -> torch.Tensor:
    """One flag, all false, for every element of the memory that `value` lies in."""
    return torch.zeros(value.untyped_storage().nbytes() // value.element_size(), dtype=torch.bool)


def marked(marks: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The flags of the elements of `value`, as a view that can be written. (All where the element sizes differ.)"""
    if value.untyped_storage().nbytes() // value.element_size() != marks.numel():
        return marks
    return marks.as_strided(value.shape, value.stride(), value.storage_offset())


def overlap(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two views of the same memory have an element in common (decided exactly: chunks are interleaved)."""
    marks = element_marks(first)
    marked(marks, first).fill_(True)
    return bool(marked(marks, second).any())


def _copy(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    return source  # the recorder casts and expands every result to the target


def _fill(target: torch.Tensor, value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.full_like(target, value)


def _zero(target: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(target)


_BY_HAND: dict[str, Callable[..., torch.Tensor]] = {
    "copy_": _copy,
    "fill_": _fill,
    "zero_": _zero,
    "transpose_": aten.transpose.int,
}


def _same_elements(base: torch.Tensor, value: torch.Tensor, args: tuple[Any, ...]) -> torch.Tensor:
    return value.reshape(base.shape)


def _permuted(base: torch.Tensor, value: torch.Tensor, args: tuple[Any, ...]) -> torch.Tensor:
    order = [dim % base.dim() for dim in args[0]]
    return value.permute([order.index(dim) for dim in range(base.dim())])


_SCATTER: dict[str, Callable[[torch.Tensor, torch.Tensor, tuple[Any, ...]], torch.Tensor]] = {
    "aten.select.int": lambda base, value, args: aten.select_scatter.default(base, value, *args),
    "aten.slice.Tensor": lambda base, value, args: aten.slice_scatter.default(base, value, *args),
    "aten.transpose.int": lambda base, value, args: aten.transpose.int(value, *args),
    "aten.t.default": lambda base, value, args: aten.t.default(value),
    "aten.permute.default": _permuted,
    "aten.view.default": _same_elements,
    "aten.unsqueeze.default": _same_elements,
    "aten.squeeze.default": _same_elements,
    "aten.squeeze.dim": _same_elements,
    "aten.squeeze.dims": _same_elements,
    "aten.detach.default": _same_elements,
    "aten.alias.default": _same_elements,
}
