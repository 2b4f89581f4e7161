"""Halving boxes, each where that is expected to gain most."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lirpa_verify.search.boxes import Boxes, join

MOST_LEVELS = 6  # at once
FAIR = 1e-3  # of the best score is what the widest input has at least: a gain of 0 may be one of first order only
LEFT = 0.25  # of an input's gain after it was halved: the error of a relaxation is of second order in the width


def split(boxes: Boxes, sensitivity: Tensor, room: int) -> Boxes:
    """Halves every box; several times while there are few, so that batches fill up.

    Args:
        boxes: what to halve; each must have an input that can be.
        sensitivity: ``(batch, inputs)`` of the bound to each input, which decides where no gain is known.
        room: how many boxes are wanted.
    """
    levels = 1
    while len(boxes) * 2 ** (levels + 1) <= room and levels < MOST_LEVELS:
        levels += 1
    known = (boxes.gain > 0).any(1, keepdim=True)
    guess = torch.nan_to_num(sensitivity * (boxes.upper - boxes.lower), nan=0.0, posinf=0.0, neginf=0.0)
    boxes = replace(boxes, gain=torch.where(known, boxes.gain, guess))
    for _ in range(levels):
        boxes = halve(boxes, choice(boxes))
    return boxes


def choice(boxes: Boxes) -> Tensor:
    """(batch,): the input to halve, one that can be."""
    width = boxes.upper - boxes.lower
    possible = can_halve(boxes)
    fair = FAIR * width * boxes.gain.amax(1, keepdim=True) / width.amax(1, keepdim=True).clamp(min=1e-300)
    best = torch.nan_to_num(boxes.gain + fair, nan=0.0, posinf=0.0, neginf=0.0).masked_fill(~possible, 0)
    widest = width.masked_fill(~possible, -1).argmax(1)
    return torch.where(best.amax(1) > 0, best.argmax(1), widest)


def can_halve(boxes: Boxes) -> Tensor:
    """(batch, inputs): whether a number lies between the ends; not so where an end is infinite."""
    middle = (boxes.lower + boxes.upper) / 2
    return (boxes.lower < middle) & (middle < boxes.upper)


def halve(boxes: Boxes, dimension: Tensor) -> Boxes:
    """Lower halves of all boxes, then their upper halves."""
    pick = dimension.unsqueeze(1)
    middle = (boxes.lower.gather(1, pick) + boxes.upper.gather(1, pick)) / 2
    gain = boxes.gain.scatter(1, pick, LEFT * boxes.gain.gather(1, pick))
    half = replace(boxes, gain=gain, age=boxes.age + 1, share=boxes.share / 2)
    left = replace(half, upper=boxes.upper.scatter(1, pick, middle))
    right = replace(half, lower=boxes.lower.scatter(1, pick, middle))
    return join([left, right])
