"""Which variables are declared, and where. A variable is the number ``2 * index + is_output``."""

from __future__ import annotations

import re

import numpy as np

from vnnlib.errors import UnsupportedVnnlib
from vnnlib.text import Text

_NAME = re.compile(rb"[XY]_(0|[1-9][0-9]*)")
_MULTI_INDEX = re.compile(rb"[A-Za-z]\w*?(?:_[0-9]+){2,}|[A-Za-z]\w*\[.*")
_LARGEST_INDEX = 10_000_000
_UNDECLARED = -1


def name_of(variable: int) -> str:
    return f"{'XY'[variable % 2]}_{variable // 2}"


class Variables:
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
        if not len(variables):
            return
        largest = int(variables.max())
        if largest >= 2 * _LARGEST_INDEX:
            offset = int(at[variables.argmax()])
            raise self._text.error(offset, f"the index of {self._text.quote(offset)} is too large")
        if largest >= len(self._declared_at):
            more = np.full(largest + 1 - len(self._declared_at), _UNDECLARED)
            self._declared_at = np.concatenate([self._declared_at, more])
        _, first = np.unique(variables, return_index=True)
        again = self._declared_at[variables] != _UNDECLARED
        again[np.setdiff1d(np.arange(len(variables)), first)] = True
        if again.any():
            offset = int(at[again.argmax()])
            raise self._text.error(offset, f"{self._text.quote(offset)} is declared twice", "one declaration each")
        self._declared_at[variables] = at

    def require(self, variables: np.ndarray, at: np.ndarray) -> None:
        """Refuse what is not declared so far; ``at`` is where to begin looking for the variable in the text."""
        if not len(variables):
            return
        if int(variables.max()) < len(self._declared_at):
            undeclared = self._declared_at[variables] == _UNDECLARED
        else:
            undeclared = ~np.isin(variables, np.flatnonzero(self._declared_at != _UNDECLARED))
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
