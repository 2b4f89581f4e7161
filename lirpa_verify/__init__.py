"""Verifies neural networks: does any input of a set lead to a forbidden output? Bounds them, and trains them to hold.

The names below are loaded on first use, so that importing the package costs nothing: the command
line watches over the real work from a process that never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lirpa_verify.deadline import Deadline
    from lirpa_verify.errors import UnsupportedOperator
    from lirpa_verify.library.bounded import Bounded, Bounds, LinearBounds
    from lirpa_verify.library.export import export_instance
    from lirpa_verify.network import Network, load_network
    from lirpa_verify.perturbations.ball import Ball, ball
    from lirpa_verify.perturbations.base import EmptySet, Perturbation
    from lirpa_verify.perturbations.box import Box, exact, linf
    from lirpa_verify.perturbations.polytope import ConstrainedBox
    from lirpa_verify.perturbations.sparse import Sparse, l0
    from lirpa_verify.perturbations.words import Words, words
    from lirpa_verify.perturbations.zonotope import Zonotope
    from lirpa_verify.strategy import Options, output_ranges, verify
    from lirpa_verify.training.evaluate import Accuracy, certified_accuracy
    from lirpa_verify.training.losses import robust_loss
    from lirpa_verify.training.schedules import Adaptive, Linear, Smoothed
    from lirpa_verify.training.trainer import Plan, Task, shuffled, train
    from lirpa_verify.verdict import Progress, Result, Verdict, Witness
    from lirpa_verify.witness import Replayer, confirm, replay

__version__ = "0.1.0"

_HOME = {
    "Accuracy": "training.evaluate",
    "Adaptive": "training.schedules",
    "Ball": "perturbations.ball",
    "Bounded": "library.bounded",
    "Bounds": "library.bounded",
    "Box": "perturbations.box",
    "ConstrainedBox": "perturbations.polytope",
    "Deadline": "deadline",
    "EmptySet": "perturbations.base",
    "Linear": "training.schedules",
    "LinearBounds": "library.bounded",
    "Network": "network",
    "Options": "strategy",
    "Perturbation": "perturbations.base",
    "Plan": "training.trainer",
    "Progress": "verdict",
    "Replayer": "witness",
    "Result": "verdict",
    "Smoothed": "training.schedules",
    "Sparse": "perturbations.sparse",
    "Task": "training.trainer",
    "UnsupportedOperator": "errors",
    "Verdict": "verdict",
    "Witness": "verdict",
    "Words": "perturbations.words",
    "Zonotope": "perturbations.zonotope",
    "ball": "perturbations.ball",
    "certified_accuracy": "training.evaluate",
    "confirm": "witness",
    "exact": "perturbations.box",
    "export_instance": "library.export",
    "l0": "perturbations.sparse",
    "linf": "perturbations.box",
    "load_network": "network",
    "output_ranges": "strategy",
    "replay": "witness",
    "robust_loss": "training.losses",
    "shuffled": "training.trainer",
    "train": "training.trainer",
    "verify": "strategy",
    "words": "perturbations.words",
}

__all__ = [
    "Accuracy",
    "Adaptive",
    "Ball",
    "Bounded",
    "Bounds",
    "Box",
    "ConstrainedBox",
    "Deadline",
    "EmptySet",
    "Linear",
    "LinearBounds",
    "Network",
    "Options",
    "Perturbation",
    "Plan",
    "Progress",
    "Replayer",
    "Result",
    "Smoothed",
    "Sparse",
    "Task",
    "UnsupportedOperator",
    "Verdict",
    "Witness",
    "Words",
    "Zonotope",
    "__version__",
    "ball",
    "certified_accuracy",
    "confirm",
    "exact",
    "export_instance",
    "l0",
    "linf",
    "load_network",
    "output_ranges",
    "replay",
    "robust_loss",
    "shuffled",
    "train",
    "verify",
    "words",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
