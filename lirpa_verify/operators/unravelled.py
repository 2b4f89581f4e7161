"""Places of entries in a tensor from their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def unravelled(numbers: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """As `torch.unravel_index`, which imports a computer algebra system first: most of a second."""
    places = []
    for n in reversed(shape):
        places.append(numbers % n)
        numbers = numbers // n
    return tuple(reversed(places))
