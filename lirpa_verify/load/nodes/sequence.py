"""Sequences of tensors, which are Python lists here: a model's splits, and what it picks of them or joins again."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction

Result = tuple[list[Tensor]]  # the one output, which is a sequence


def _construct(node: Node, *entries: Tensor) -> Result:
    return (list(entries),)


def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> Result:
    """Into parts of given sizes, of one size (the last may be smaller), or of one entry each."""
    axis = node.get("axis", 0)
    if sizes is None:
        parts = torch.split(x, 1, axis)
        return (list(parts) if node.get("keepdims", 1) else [part.squeeze(axis) for part in parts],)
    wanted = node.integers(sizes, "sizes") or []
    return (list(torch.split(x, wanted[0] if sizes.dim() == 0 else wanted, axis)),)


def _at(node: Node, entries: list[Tensor], place: Tensor) -> Tensor:
    return entries[_place(node, place)]


def _insert(node: Node, entries: list[Tensor], x: Tensor, place: Tensor | None = None) -> Result:
    where = len(entries) if place is None else _place(node, place)
    return ([*entries[:where], x, *entries[where:]],)


def _erase(node: Node, entries: list[Tensor], place: Tensor | None = None) -> Result:
    where = range(len(entries))[-1 if place is None else _place(node, place)]
    return (entries[:where] + entries[where + 1 :],)


def _length(node: Node, entries: list[Tensor]) -> Tensor:
    return torch.tensor(len(entries))


def _concat(node: Node, entries: list[Tensor]) -> Tensor:
    axis = node.get("axis")
    return torch.stack(entries, axis) if node.get("new_axis", 0) else torch.cat(entries, axis)


def _place(node: Node, place: Tensor) -> int:
    return (node.integers(place, "place in a sequence") or [0])[0]


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        "SequenceEmpty": _construct,
        "SequenceConstruct": _construct,
        "SplitToSequence": _split,
        "SequenceAt": _at,
        "SequenceInsert": _insert,
        "SequenceErase": _erase,
        "SequenceLength": _length,
        "ConcatFromSequence": _concat,
    }
)
