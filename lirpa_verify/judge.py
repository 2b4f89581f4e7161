"""Turns candidate points of the search into witnesses that hold, or into nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lirpa_verify.network import Network
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Witness
from lirpa_verify.witness import Model, Replayer, confirm
from vnnlib import Property

CANDIDATES = 8  # how many points of a batch are replayed


@dataclass
class Judge:
    """Replays candidates, unless another model is given with onnxruntime: that session is made for the first one."""

    network: Network
    prop: Property
    problem: Problem
    replayer: Model | None = None

    def __call__(self, points: Tensor) -> Witness | None:
        """The first of the points ``(points, varying inputs)`` that violates the property on the original model."""
        if self.replayer is None:
            self.replayer = Replayer(self.network.model_path)
        full = self.problem.full(points[:CANDIDATES].detach().cpu().double()).numpy()
        for x in full:
            witness = confirm(self.replayer, self.prop, x)
            if witness is not None:
                return witness
        return None
