"""What confirms witnesses of a query: onnxruntime runs every network, products are multiplied out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lirpa_verify.query.graph import Product
from lirpa_verify.witness import Replayer
from vnnlib import Interface


@dataclass(frozen=True)
class JoinedModel:
    """The networks of a query as one model of the distinct inputs."""

    paths: tuple[Path, ...]  # of each network's model
    sizes: tuple[int, ...]  # numbers of their inputs
    index: np.ndarray  # (inputs of all networks,) which of the distinct inputs each is
    products: tuple[Product, ...]

    @staticmethod
    def of(interface: Interface, paths: Sequence[str | Path], index: np.ndarray | None = None) -> JoinedModel:
        """The model of a query, from its networks' files; without an index all inputs are distinct."""
        return JoinedModel(
            tuple(Path(path) for path in paths),
            tuple(network.n_inputs for network in interface.networks),
            np.arange(interface.n_inputs) if index is None else index,
            interface.products,
        )

    @property
    def n_inputs(self) -> int:
        """Of all networks together."""
        return sum(model.n_inputs for model in self.models)

    @cached_property
    def models(self) -> list[Replayer]:
        """Made when the first candidate comes; networks that share a file share a session."""
        replayers = {path: Replayer(path) for path in dict.fromkeys(self.paths)}
        return [replayers[path] for path in self.paths]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(model.dtype for model in self.models))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """All outputs, then all products (in float64, where those of two float32 are exact)."""
        inputs = np.asarray(x).ravel()[self.index]
        parts = np.split(inputs, np.cumsum(self.sizes)[:-1])
        outputs = np.concatenate([model(part) for model, part in zip(self.models, parts, strict=True)])
        if not self.products:
            return outputs
        values = np.concatenate([inputs, outputs]).astype(np.float64)
        return np.concatenate([outputs, [values[list(product)].prod() for product in self.products]])
