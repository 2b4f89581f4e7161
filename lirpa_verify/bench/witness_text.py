"""Reads witnesses as they are written for the competition.

As strict as its own reader: one pair of parentheses around everything, pairs of a name and a number, the
indices of `X` and of `Y` each from 0 on in order.
"""

from __future__ import annotations

import re

import numpy as np

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
