"""Leaves of the graph: the network's input and constants."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lirpa_verify.operators.base import Interval, LinearForms, Operator


@dataclass(frozen=True)
class Input(Operator):
    """The flat vector of everything that varies; its value is given, it is never evaluated."""


@dataclass(frozen=True)
class Constant(Operator):
    """A value that does not depend on the input."""

    value: Tensor  # (*node)

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.value.unsqueeze(0)

    def interval(self, *arguments: Interval) -> Interval:
        return Interval(self.value.unsqueeze(0), self.value.unsqueeze(0))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        raise AssertionError("constants have no arguments to compose with; the pass makes their forms itself")
