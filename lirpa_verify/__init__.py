"""Verifies neural networks: does any input of a set lead to a forbidden output?

The names below are loaded on first use, so that importing the package costs nothing: the command
line watches over the real work from a process that never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lirpa_verify.deadline import Deadline
    from lirpa_verify.network import Network, load_network
    from lirpa_verify.strategy import Options, output_ranges, verify
    from lirpa_verify.verdict import Progress, Result, Verdict, Witness
    from lirpa_verify.witness import Replayer, confirm, replay

__version__ = "0.1.0"

_HOME = {
    "Deadline": "deadline",
    "Network": "network",
    "Options": "strategy",
    "Progress": "verdict",
    "Replayer": "witness",
    "Result": "verdict",
    "Verdict": "verdict",
    "Witness": "verdict",
    "confirm": "witness",
    "load_network": "network",
    "output_ranges": "strategy",
    "replay": "witness",
    "verify": "strategy",
}

__all__ = [
    "Deadline",
    "Network",
    "Options",
    "Progress",
    "Replayer",
    "Result",
    "Verdict",
    "Witness",
    "__version__",
    "confirm",
    "load_network",
    "output_ranges",
    "replay",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
