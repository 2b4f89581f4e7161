"""When merging linear steps would lose what it costs to round them.

Bounds allow for rounding relative to the coefficients that they meet (`bounds/sizes.py`). Where the coefficients
of a product of matrices are what large terms leave when they cancel, they are rounded relative to these terms, which
nobody sees afterwards. Such steps stay apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_LOST = 3e3  # times smaller than the terms may be what they leave: margins are 1e5 times a number's rounding
UNSEEN = 1e-3  # next to which margins do not shrink any more


def cancels(terms: Tensor, left: Tensor) -> bool:
    """Whether some entry's terms are much larger than what is left of them; nothing is left where they are equal.

    Args:
        terms: per entry the magnitudes of all terms of its coefficients and its constant part.
        left: the magnitudes of these, added up as well.
    """
    return bool(((terms > MOST_LOST * (left + UNSEEN)) & (left > 0)).any())


def magnitude(*values: Tensor | None) -> Tensor:
    """Of several constants together, where there are any."""
    return sum((value.abs() for value in values if value is not None), torch.zeros((), dtype=torch.float64))
