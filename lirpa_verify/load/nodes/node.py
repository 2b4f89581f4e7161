"""What a node function sees of an ONNX node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from lirpa_verify.errors import UnsupportedOperator

# A node function takes the node and its inputs (None for an omitted one) and returns one tensor or several.
NodeFunction = Callable[..., Any]


@dataclass(frozen=True)
class Node:
    """One ONNX node. Attribute tensors are torch tensors already; `opset` is the version of the node's domain."""

    op: str
    name: str
    domain: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    only_places: bool = False  # whether the outputs end in places to write to, and nowhere else
    depends: Callable[[torch.Tensor], bool] = lambda value: False  # on an input of the network
    # a - b where that is the same for every input of the network, else None
    difference: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None] = lambda a, b: a - b

    def get(self, attribute: str, default: Any = None) -> Any:
        return self.attributes.get(attribute, default)

    def unsupported(self, detail: str) -> UnsupportedOperator:
        return UnsupportedOperator(f"{self.op} (opset {self.opset})", self.name, detail)

    def integers(self, value: torch.Tensor | None, what: str) -> list[int] | None:
        """The numbers in a tensor that must be constant, such as a shape; None stays None."""
        if value is None:
            return None
        if self.depends(value):
            raise self.unsupported(f"its {what} depends on the network's input")
        return [int(entry) for entry in value.reshape(-1).tolist()]

    def number(self, value: torch.Tensor | None) -> float | int | bool | None:
        """The number in a constant one-element tensor; None where there is no tensor, or it is not that."""
        if value is None or self.depends(value) or value.numel() != 1:
            return None
        number: float | int | bool = value.item()
        return number
