"""Batch normalisation while training: the statistics are those of the clean batch, for its bounds too.

As published (arXiv:1906.06316, arXiv:2002.12920): the clean examples pass through the network in
training mode; their means and variances normalise the bounds as well, and gradients flow through them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def clean_pass(module: nn.Module, forward: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Runs `forward`, which calls the module in training mode.

    Returns:
        Its result, and per running mean and variance of the module's batch norms the statistics of this
        batch, by the names that `Bounded` knows them by.
    """
    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: Any) -> None:
            over = [d for d in range(args[0].dim()) if d != 1]
            prefix = f"{name}." if name else ""
            found[f"{prefix}running_mean"] = args[0].mean(over)
            found[f"{prefix}running_var"] = args[0].var(over, unbiased=False)

        return hook

    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, KINDS) and layer.training]
    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in layers]
    try:
        with torch.enable_grad():
            result = forward()
    finally:
        for handle in handles:
            handle.remove()
    return result, found
