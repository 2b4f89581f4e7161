"""Which variables are declared, and where. A variable is the number ``2 * index + is_output``."""

from __future__ import annotations

import re

import numpy as np

from vnnlib.decimals import read_indices
from vnnlib.errors import UnsupportedVnnlib, VnnlibError
from vnnlib.text import Text

_NAME = re.compile(rb"[XY]_(0|[1-9][0-9]*)")
_MULTI_INDEX = re.compile(rb"[A-Za-z]\w*?(?:_[0-9]+){2,}|[A-Za-z]\w*\[.*")
_LARGEST_INDEX = 10_000_000
_UNDECLARED = -1


def name_of(variable: int) -> str:
    return f"{'XY'[variable % 2]}_{variable // 2}"


def read_variables(buffer: np.ndarray, start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the variables ``X_i`` and ``Y_j`` at ``start``, and which ones are such."""
    index, good = read_indices(buffer, start + 2, length - 2)
    good &= buffer[start + 1] == ord("_")
    return (2 * index + (buffer[start] == ord("Y"))).astype(np.int32), good


class Variables:
    """The variables of VNN-LIB 1.0: ``X_i`` and ``Y_j``."""

    name = staticmethod(name_of)

    def __init__(self, text: Text) -> None:
        self._text = text
        self._declared_at = np.zeros(0, dtype=np.int64)  # by variable

    def number(self, offset: int, token: bytes) -> int:
        """The variable that ``token`` names, declared or not."""
        if _NAME.fullmatch(token):
            index = int(token[2:]) if len(token) < 12 else _LARGEST_INDEX
            if index < _LARGEST_INDEX:
                return 2 * index + (token[0] == ord("Y"))
            message = f"the index of {self._text.quote(offset)} is too large"
        elif _MULTI_INDEX.fullmatch(token):
            message = f"{self._text.quote(offset)} has several indices, whose order within the tensor is not defined"
        else:
            message = f"{self._text.quote(offset)} is not the name of an input or output"
        raise self._text.error(offset, message, "X_i or Y_j with one index", UnsupportedVnnlib)

    def declare(self, variables: np.ndarray, at: np.ndarray) -> None:
        largest = int(variables.max(initial=0))
        if largest >= 2 * _LARGEST_INDEX:
            offset = int(at[variables.argmax()])
            message = f"the index of {self._text.quote(offset)} is too large"
            raise self._text.error(offset, message, f"less than {_LARGEST_INDEX}", UnsupportedVnnlib)
        self._make_room_for(largest)
        if (self._declared_at[variables] != _UNDECLARED).any() or not np.diff(np.sort(variables)).all():
            raise self._redeclared(variables, at)
        self._declared_at[variables] = at

    def _make_room_for(self, variable: int) -> None:
        room = len(self._declared_at)
        if variable >= room:
            more = np.full(max(variable + 1, 2 * room) - room, _UNDECLARED)
            self._declared_at = np.concatenate([self._declared_at, more])

    def _redeclared(self, variables: np.ndarray, at: np.ndarray) -> VnnlibError:
        seen = set(np.flatnonzero(self._declared_at != _UNDECLARED).tolist())
        which = 0
        while int(variables[which]) not in seen:
            seen.add(int(variables[which]))
            which += 1
        message = f"{name_of(int(variables[which]))} is declared twice"
        return self._text.error(int(at[which]), message, "one declaration of each variable")

    def require(self, variables: np.ndarray, at: np.ndarray) -> None:
        """Refuse what is not declared so far; ``at`` is where to begin looking for the variable in the text."""
        undeclared = variables >= len(self._declared_at)
        undeclared[~undeclared] = self._declared_at[variables[~undeclared]] == _UNDECLARED
        if undeclared.any():
            which = int(undeclared.argmax())
            name = name_of(int(variables[which]))
            use = re.compile(name.encode() + rb"(?![0-9])").search(self._text.data, int(at[which]))
            offset = use.start() if use else int(at[which])
            raise self._text.error(offset, f"{name} is not declared", f"(declare-const {name} Real) before its use")

    def declared_at(self, variable: int) -> int:
        return int(self._declared_at[variable])

    def count(self) -> tuple[int, int]:
        """How many inputs and outputs there are; their indices must not have gaps."""
        n_inputs, n_outputs = (self._count(family) for family in (0, 1))
        if not n_inputs:
            raise self._text.error(len(self._text.data), "no input is declared", "(declare-const X_0 Real)")
        return n_inputs, n_outputs

    def _count(self, family: int) -> int:
        at = self._declared_at[family::2]
        indices = np.flatnonzero(at != _UNDECLARED)
        if len(indices) and int(indices[-1]) >= len(indices):
            missing = int(np.flatnonzero(at == _UNDECLARED)[0])
            following = int(indices[indices > missing][0])
            name, expected = (name_of(2 * index + family) for index in (following, missing))
            raise self._text.error(int(at[following]), f"{name} is declared, but {expected} is not", expected)
        return len(indices)
