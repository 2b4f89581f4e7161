"""Calls that are recorded as the simpler calls that torch itself takes them apart into.

Only those whose parts have relaxations as tight as one of their own would be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_TAKEN_APART = frozenset(
    f"aten::{name}"
    for name in (
        "addcmul", "addcdiv", "addr", "aminmax", "binary_cross_entropy_with_logits", "block_diag", "deg2rad", "dist",
        "embedding", "frac", "glu", "huber_loss", "index_add", "index_copy", "index_fill", "lerp",
        "linalg_cross", "logit", "mse_loss", "nll_loss_forward", "rad2deg", "rot90", "smooth_l1_loss",
        "soft_margin_loss", "std_mean", "take", "trace", "var_mean", "xlogy",
    )
)  # fmt: skip


def decomposition(func: Any) -> Callable[..., Any] | None:
    """What to run instead of an ATen call; None where it is recorded itself."""
    if func._schema.name not in _TAKEN_APART:
        return None
    from torch._decomp import decomposition_table

    return decomposition_table.get(func)
