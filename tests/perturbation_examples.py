"""One perturbation of every kind over two examples of shape (3, 2), and what it means to lie inside."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lirpa_verify.perturbations.ball import Ball, ball
from lirpa_verify.perturbations.base import Perturbation
from lirpa_verify.perturbations.box import Box, linf
from lirpa_verify.perturbations.polytope import ConstrainedBox
from lirpa_verify.perturbations.sparse import Sparse, l0
from lirpa_verify.perturbations.words import Words, words
from lirpa_verify.perturbations.zonotope import Zonotope

SHAPE = (2, 3, 2)
SYNONYMS = {0: [1, 2], 1: [0], 3: [4, 5, 6]}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make(kind: str) -> Perturbation:
    x = numbers(*SHAPE)
    if kind == "box":
        return Box(x - numbers(*SHAPE, seed=1).abs(), x + numbers(*SHAPE, seed=2).abs())
    if kind == "linf":
        return linf(x.clamp(-0.9, 0.9), 0.3, -1.0, 1.0)
    if kind in ("l1", "l2", "l3", "l1.5"):
        return ball(x, torch.tensor([0.5, 1.5], dtype=torch.float64), float(kind[1:]))
    if kind == "l0":
        return l0(x, 2, -1.0, numbers(*SHAPE, seed=3).abs())
    if kind == "zonotope":
        return Zonotope(x, numbers(2, 4, 3, 2, seed=4))
    if kind in ("constrained", "constrained once"):
        count = 3 if kind == "constrained" else 1
        matrix = numbers(2, count, 3, 2, seed=5)
        return ConstrainedBox(x - 1, x + 1, matrix, (matrix * x.unsqueeze(1)).flatten(2).sum(2) + 0.4)
    if kind == "words":
        return words(torch.tensor([[0, 3, 1], [7, 3, 3]]), numbers(8, 2, seed=6), SYNONYMS, 2)
    raise ValueError(kind)


KINDS = ("box", "linf", "l1", "l1.5", "l2", "l3", "l0", "zonotope", "constrained", "constrained once", "words")
ROUNDING = 1e-9


def inside(set_: Perturbation, points: Tensor) -> Tensor:
    """Whether points ``(batch, points, *input)`` lie in the set, by its definition."""
    checks: dict[type[Perturbation], Callable[..., Tensor]] = {
        Box: _in_box, Ball: _in_ball, Sparse: _in_sparse, Zonotope: _in_zonotope, ConstrainedBox: _in_polytope,
        Words: _in_words,
    }  # fmt: skip
    return checks[type(set_)](set_, points)


def _in_box(set_: Box | ConstrainedBox, points: Tensor) -> Tensor:
    above = points >= set_.lower.unsqueeze(1) - ROUNDING
    return (above & (points <= set_.upper.unsqueeze(1) + ROUNDING)).flatten(2).all(2)


def _in_ball(set_: Ball, points: Tensor) -> Tensor:
    distance = torch.linalg.vector_norm((points - set_.centre.unsqueeze(1)).flatten(2), set_.p, dim=2)
    return distance <= set_.radius.unsqueeze(1) + ROUNDING


def _in_sparse(set_: Sparse, points: Tensor) -> Tensor:
    changed = (points != set_.centre.unsqueeze(1)).flatten(2)
    valid = (points >= set_.low.unsqueeze(1) - ROUNDING) & (points <= set_.high.unsqueeze(1) + ROUNDING)
    return (changed.sum(2) <= set_.count) & (valid.flatten(2) | ~changed).all(2)


def _in_zonotope(set_: Zonotope, points: Tensor) -> Tensor:
    """By the support function in many directions, which the set's own code has no part in."""
    directions = numbers(500, 6, seed=9)
    reach = (directions @ set_.generators.flatten(2).mT).abs().sum(2)  # (batch, directions)
    offset = (points - set_.centre.unsqueeze(1)).flatten(2) @ directions.T
    return (offset <= reach.unsqueeze(1) + ROUNDING).all(2)


def _in_polytope(set_: ConstrainedBox, points: Tensor) -> Tensor:
    values = points.flatten(2) @ set_.matrix.flatten(2).mT
    return _in_box(set_, points) & (values <= set_.limit.unsqueeze(1) + 1e-6).all(2)


def _in_words(set_: Words, points: Tensor) -> Tensor:
    there = (points == set_.centre.unsqueeze(1)).all(3)
    other = (points.unsqueeze(3) == set_.candidates.unsqueeze(1)).all(4) & set_.present.unsqueeze(1)
    return (there | other.any(3)).all(2) & ((~there).sum(2) <= set_.budget)
