"""Reads witnesses as they are written for the competition, in either version of VNN-LIB.

As strict as its own readers. 1.0: one pair of parentheses around everything, pairs of a name and a number, the
indices of `X` and of `Y` each from 0 on in order. 2.0: the tensors in the order of their declarations, each a
line of name, type and shape, then a number a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import numpy as np

from vnnlib import Interface
from vnnlib.interface import Tensor

_PAIR = re.compile(r"\(\s*([XY])_(\d+) +([^\s()]+)\s*\)\s*")


class MalformedWitness(ValueError):
    """The text is no witness."""


def read_witness(text: str) -> tuple[np.ndarray, np.ndarray]:
    """``(x, y)`` in float64; y may be empty. A first line `sat` is skipped."""
    body = text.strip().removeprefix("sat").strip()
    if not (body.startswith("(") and body.endswith(")")):
        raise MalformedWitness("no parentheses around the witness")
    body = body[1:-1].strip()
    values: dict[str, list[float]] = {"X": [], "Y": []}
    position = 0
    while pair := _PAIR.match(body, position):
        letter, index, number = pair.groups()
        if int(index) != len(values[letter]):
            raise MalformedWitness(f"{letter}_{index} where {letter}_{len(values[letter])} should be")
        try:
            values[letter].append(float(number))
        except ValueError as error:
            raise MalformedWitness(f"{letter}_{index} is {number!r}") from error
        position = pair.end()
    if position != len(body):
        raise MalformedWitness(f"unexpected text {body[position : position + 20]!r}")
    return np.array(values["X"]), np.array(values["Y"])


def read_assignment(text: str, interface: Interface) -> tuple[np.ndarray, np.ndarray]:
    """All networks' inputs and their outputs in float64, from a witness in the form of VNN-LIB 2.0."""
    lines = iter([line.strip() for line in text.strip().splitlines() if line.strip() not in ("", "sat")])
    inputs: list[float] = []
    outputs: list[float] = []
    for network in interface.networks:
        for tensor in network.inputs:
            inputs += _entries(lines, tensor)
        for tensor in network.outputs:
            outputs += _entries(lines, tensor)
    if (left := next(lines, None)) is not None:
        raise MalformedWitness(f"unexpected text {left[:20]!r}")
    return np.array(inputs), np.array(outputs)


def _entries(lines: Iterator[str], tensor: Tensor) -> list[float]:
    head = next(lines, "")
    if head.replace(" ", "") != f"{tensor.name}{tensor.element_type}{list(tensor.shape)}".replace(" ", ""):
        raise MalformedWitness(f"{head[:40]!r} where {tensor.name} should be")
    try:
        entries = [float(line) for line in islice(lines, tensor.size)]
    except ValueError as error:
        raise MalformedWitness(f"an entry of {tensor.name} is no number") from error
    if len(entries) < tensor.size:
        raise MalformedWitness(f"{len(entries)} entries of {tensor.name}")
    return entries
