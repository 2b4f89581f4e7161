"""Zonotopes as boxes: the network as a function of the coefficients of the generators, which the verifier can split."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.constant import Input
from lirpa_verify.operators.dense import Dense
from lirpa_verify.perturbations.box import Box
from lirpa_verify.perturbations.region import Region
from lirpa_verify.perturbations.zonotope import Zonotope
from lirpa_verify.witness import Model


@dataclass(frozen=True)
class Coefficients:
    """Every point of a region of one example is ``centre + e @ generators`` with entries of e in [-1, 1]."""

    centre: Tensor  # (inputs,)
    generators: Tensor  # (coefficients, inputs)

    @staticmethod
    def of(region: Region) -> Coefficients:
        """Of boxes and zonotopes; what does not vary has no coefficient."""
        centres, blocks = [], []
        for part in region.parts:
            if isinstance(part, Zonotope):
                centre, block = part.centre[0].flatten(), part.generators[0].flatten(1)
            else:
                lower, upper = (end[0].flatten() for end in part.box())
                centre, block = (lower + upper) / 2, torch.diag((upper - lower) / 2)[upper > lower]
            centres.append(centre)
            blocks.append(block)
        return Coefficients(torch.cat(centres), torch.block_diag(*blocks))

    @property
    def region(self) -> Region:
        one = torch.ones(1, len(self.generators), dtype=self.centre.dtype)
        return Region((Box(-one, one),))

    def points(self, e: np.ndarray) -> np.ndarray:
        return np.asarray(self.centre.numpy() + e @ self.generators.numpy())

    def graph(self, graph: Graph) -> Graph:
        """The network after the affine map."""
        count, inputs = self.generators.shape
        first = (
            Node(Input(), (), (count,), ""),
            Node(Dense(self.generators, self.centre), (0,), (inputs,), "generators"),
        )
        rest = (replace(node, arguments=tuple(a + 1 for a in node.arguments)) for node in graph.nodes[1:])
        return Graph((*first, *rest))


@dataclass(frozen=True)
class OfCoefficients:
    """A model that confirms witnesses, as a function of the coefficients."""

    model: Model
    coefficients: Coefficients

    @property
    def dtype(self) -> np.dtype[np.float64]:
        return np.dtype(np.float64)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.model(self.coefficients.points(x).astype(self.model.dtype))
