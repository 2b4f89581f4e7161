"""ONNX operators as torch functions, grouped by what they do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lirpa_verify.load.nodes import (
    activation,
    elementwise,
    indexing,
    layer,
    quantize,
    recurrent,
    reduction,
    sequence,
    shape,
)
from lirpa_verify.load.nodes.node import Node, NodeFunction

OPERATORS: Mapping[str, NodeFunction] = MappingProxyType(
    {
        **elementwise.OPERATORS,
        **activation.OPERATORS,
        **layer.OPERATORS,
        **reduction.OPERATORS,
        **shape.OPERATORS,
        **indexing.OPERATORS,
        **recurrent.OPERATORS,
        **quantize.OPERATORS,
        **sequence.OPERATORS,
    }
)

__all__ = ["OPERATORS", "Node", "NodeFunction"]
