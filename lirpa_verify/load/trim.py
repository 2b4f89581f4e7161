"""Removing what does not lead to an output from a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lirpa_verify.load.recording import Call, Const, Recording, Ref


def trim(recording: Recording) -> Recording:
    """Drop dead calls and unused constants, and number the rest anew."""
    alive = _live_calls(recording)
    calls = {old: new for new, old in enumerate(alive)}
    used = dict.fromkeys(
        leaf.index
        for tree in (recording.outputs, *((call.args, call.kwargs) for call in _pick(recording, alive)))
        for leaf in leaves(tree)
        if isinstance(leaf, Const)
    )
    constants = {old: new for new, old in enumerate(used)}

    def renumber(leaf: Any) -> Any:
        if isinstance(leaf, Const):
            return Const(constants[leaf.index])
        if isinstance(leaf, Ref) and leaf.call >= 0:
            return Ref(calls[leaf.call], leaf.item)
        return leaf

    return replace(
        recording,
        calls=tuple(
            replace(call, args=map_leaves(renumber, call.args), kwargs=map_leaves(renumber, call.kwargs))
            for call in _pick(recording, alive)
        ),
        outputs=map_leaves(renumber, recording.outputs),
        constants=tuple(recording.constants[old] for old in used),
    )


def leaves(tree: Any) -> Iterator[Any]:
    """Every entry of nested tuples and dictionaries that is neither."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def map_leaves(function: Any, tree: Any) -> Any:
    """The same nested tuples and dictionaries with `function` applied to every leaf."""
    if isinstance(tree, dict):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(map_leaves(function, value) for value in tree)
    return function(tree)


def _pick(recording: Recording, alive: list[int]) -> Iterator[Call]:
    return (recording.calls[index] for index in alive)


def _live_calls(recording: Recording) -> list[int]:
    wanted = [leaf.call for leaf in leaves(recording.outputs) if isinstance(leaf, Ref) and leaf.call >= 0]
    alive: set[int] = set()
    while wanted:
        index = wanted.pop()
        if index in alive:
            continue
        alive.add(index)
        call = recording.calls[index]
        wanted.extend(
            leaf.call for leaf in leaves((call.args, call.kwargs)) if isinstance(leaf, Ref) and leaf.call >= 0
        )
    return sorted(alive)
