"""When optimisation stops: at once where steps gain nothing, late where they gain much."""

from __future__ import annotations

import torch

from lirpa_verify.search.stopping import WINDOW, Stopping


def steps(gain: float, first: float, missing: float = 1.0, most: int = 200) -> int:
    """Steps taken where splitting gains `first`, and every step `gain`."""
    stopping = Stopping(torch.full((4,), -missing), 4)
    for step in range(most):
        if not stopping.worthwhile(torch.full((4,), -missing + first + gain * step)):
            return step
    return most


def test_steps_that_gain_nothing_are_not_taken() -> None:
    assert steps(0.0, 0.2) == WINDOW


def test_steps_that_gain_as_much_as_splits_go_on() -> None:
    assert steps(0.01, 0.01) > 50


def test_the_more_is_missing_the_longer_it_pays() -> None:
    assert steps(0.002, 0.1, missing=0.3) < steps(0.002, 0.1, missing=1.0)


def test_closed_children_count_with_what_they_gained() -> None:
    stopping = Stopping(torch.tensor([-1.0, -1.0]), 2)
    stopping.worthwhile(torch.tensor([0.5, -0.9]))
    stopping.drop(torch.tensor([True, False]))
    stopping.worthwhile(torch.tensor([-0.9]))
    assert stopping.gains[0] == stopping.gains[1]
