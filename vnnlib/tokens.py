"""Bytes to tokens: where each token begins, how long it is and what its kind is.

The kind of an atom is first guessed from its first byte alone; keywords are compared in full. So the
kinds select candidates quickly, and whoever reads an atom's text checks all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from vnnlib.decimals import PADDING

# Kinds of tokens; OPEN and CLOSE are the two lowest, so that `kind >= ATOM` tells atoms.
BLANK, OPEN, CLOSE, ATOM, VARIABLE, NUMERAL, COMPARISON, DECLARE, REAL, ASSERT, AND = range(11)
# Kinds that stand for several tokens which have been read already (see reduction.py).
DECLARATIONS, COMPARISONS, ASSERTIONS, CONJUNCTIONS = range(11, 15)

KEYWORDS = {b"declare-const": DECLARE, b"Real": REAL, b"assert": ASSERT, b"and": AND}

_BLOCK = 1 << 20  # bytes read at a time: what is computed per block stays in the cache


def kinds_of_first_bytes(variables: bytes) -> bytes:
    """The table of kinds; ``variables`` are the characters that a variable's name may begin with."""
    table = bytearray([ATOM] * 256)
    for characters, kind in (
        (b" \t\r\n", BLANK),
        (b"(", OPEN),
        (b")", CLOSE),
        (variables, VARIABLE),
        (b"-0123456789", NUMERAL),
        (b"<>=", COMPARISON),
    ):
        for character in characters:
            table[character] = kind
    return bytes(table)


X_OR_Y = kinds_of_first_bytes(b"XY")


@dataclass(frozen=True)
class Tokens:
    """Columns over the tokens. ``first`` and ``count`` say which items a reduced token stands for."""

    kind: np.ndarray  # uint8
    start: np.ndarray  # int64 offset in the text
    length: np.ndarray  # int32 bytes
    first: np.ndarray  # int32
    count: np.ndarray  # int32

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, keep: np.ndarray) -> Tokens:
        at = np.flatnonzero(keep)  # few of many: much faster than five times by the mask
        return Tokens(*(getattr(self, column.name)[at] for column in fields(self)))

    @staticmethod
    def concatenate(parts: list[Tokens]) -> Tokens:
        if not parts:
            empty = np.zeros(0, dtype=np.int32)
            return Tokens(empty.astype(np.uint8), empty.astype(np.int64), empty, empty, empty)
        return Tokens(*(np.concatenate([getattr(p, column.name) for p in parts]) for column in fields(Tokens)))


def blocks(data: bytes, begin: int = 0) -> Iterator[tuple[int, int]]:
    """Offsets that cut ``data`` right behind closing parentheses, so that no token and no comparison is torn."""
    while begin < len(data):
        end = len(data)
        if end - begin > _BLOCK:
            end = data.rfind(b")", begin, begin + _BLOCK) + 1 or data.find(b")", begin + _BLOCK) + 1 or end
        yield begin, end
        begin = end


def padded(block: bytes) -> np.ndarray:
    """The block as an array, behind it the blanks that readers of fixed-width windows may touch."""
    return np.frombuffer(block + b" " * PADDING, dtype=np.uint8)


def tokenise(buffer: np.ndarray, first_bytes: bytes = X_OR_Y) -> Tokens:
    """The tokens of one block, which begins and ends at token boundaries; offsets are within the block."""
    kinds = np.frombuffer(buffer.tobytes().translate(first_bytes), dtype=np.uint8)
    in_atom = kinds >= ATOM
    begins = (kinds == OPEN) | (kinds == CLOSE)
    ends = begins.copy()
    begins[0] |= in_atom[0]
    begins[1:] |= in_atom[1:] & ~in_atom[:-1]
    ends[:-1] |= in_atom[:-1] & ~in_atom[1:]  # the last byte is a blank
    start = np.flatnonzero(begins)
    length = (np.flatnonzero(ends) - start + 1).astype(np.int32)
    kind = kinds[start]
    keyword_like = (kind == ATOM) | (kind == VARIABLE) if first_bytes[ord("a")] == VARIABLE else kind == ATOM
    _recognise_keywords(buffer, np.flatnonzero(keyword_like), kind, start, length)
    nothing = np.zeros(len(start), dtype=np.int32)
    return Tokens(kind, start, length, nothing, nothing)


def _recognise_keywords(
    buffer: np.ndarray, words: np.ndarray, kind: np.ndarray, start: np.ndarray, length: np.ndarray
) -> None:
    for keyword, its_kind in KEYWORDS.items():
        candidates = words[length[words] == len(keyword)]
        spelling = np.lib.stride_tricks.sliding_window_view(buffer, len(keyword))[start[candidates]]
        kind[candidates[(spelling == np.frombuffer(keyword, dtype=np.uint8)).all(axis=1)]] = its_kind
