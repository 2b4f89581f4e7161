"""Halving boxes, each where that is expected to gain most."""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.search.boxes import Boxes, join

MOST_LEVELS = 6  # at once
FAIR = 1e-3  # of the best score is what the widest input has at least: a gain of 0 may be one of first order only
LEFT = 0.25  # of an input's gain after it was halved: the error of a relaxation is of second order in the width


def split(boxes: Boxes, gain: Tensor, sensitivity: Tensor, room: int) -> Boxes:
    """Halves every box; several times while there are few, so that batches fill up.

    Args:
        boxes: what to halve; each must have an input that can be.
        gain: ``(batch, inputs)``, what halving each input is expected to bring (`search.gain`).
        sensitivity: ``(batch, inputs)`` of the bound to each input, which decides where no gain is known.
        room: how many boxes are wanted.
    """
    levels = 1
    while len(boxes) * 2 ** (levels + 1) <= room and levels < MOST_LEVELS:
        levels += 1
    known = (gain > 0).any(1, keepdim=True)
    score = torch.where(known, gain, sensitivity * (boxes.upper - boxes.lower))
    score = torch.nan_to_num(score, nan=0.0, posinf=0.0, neginf=0.0)
    for _ in range(levels):
        if len(boxes) == 0:
            return boxes
        width = boxes.upper - boxes.lower
        possible = can_halve(boxes)
        fair = FAIR * width * score.amax(1, keepdim=True) / width.amax(1, keepdim=True).clamp(min=1e-300)
        best = torch.nan_to_num(score + fair, nan=0.0, posinf=0.0, neginf=0.0).masked_fill(~possible, 0)
        widest = width.masked_fill(~possible, -1).argmax(1)
        dimension = torch.where(best.amax(1) > 0, best.argmax(1), widest)
        pick = dimension.unsqueeze(1)
        score = score.scatter(1, pick, LEFT * score.gather(1, pick)).repeat(2, 1)
        boxes = halve(boxes, dimension)
    return boxes


def can_halve(boxes: Boxes) -> Tensor:
    """(batch, inputs): whether a number lies between the ends; not so where an end is infinite."""
    middle = (boxes.lower + boxes.upper) / 2
    return (boxes.lower < middle) & (middle < boxes.upper)


def halve(boxes: Boxes, dimension: Tensor) -> Boxes:
    pick = dimension.unsqueeze(1)
    middle = (boxes.lower.gather(1, pick) + boxes.upper.gather(1, pick)) / 2
    left = Boxes(boxes.lower, boxes.upper.scatter(1, pick, middle), boxes.origin, boxes.alive, boxes.margin)
    right = Boxes(boxes.lower.scatter(1, pick, middle), boxes.upper, boxes.origin, boxes.alive, boxes.margin)
    return join([left, right])
