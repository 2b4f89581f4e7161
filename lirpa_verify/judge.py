"""Turns candidate points of the search into witnesses that hold, or into nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
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

    @property
    def model(self) -> Model:
        if self.replayer is None:
            self.replayer = Replayer(self.network.model_path)
        return self.replayer

    def outputs(self, points: Tensor) -> Tensor:
        """What the original model computes at points ``(points, varying inputs)``: (points, mentioned outputs)."""
        full = self.problem.full(points.detach().cpu().double()).numpy()
        results = np.stack([self.model(x) for x in full]).astype(np.float64)
        outputs = torch.from_numpy(results).to(points.device)
        return outputs if self.problem.mentioned is None else outputs[:, self.problem.mentioned]

    def __call__(self, points: Tensor) -> Witness | None:
        """The first of the points ``(points, varying inputs)`` that violates the property on the original model."""
        full = self.problem.full(points[:CANDIDATES].detach().cpu().double()).numpy()
        for x in full:
            witness = confirm(self.model, self.prop, x)
            if witness is not None:
                return witness
        return None
