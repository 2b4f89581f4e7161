"""How many examples a classifier labels correctly, and on how many no perturbation can change that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.library.bounded import Bounded, Inputs, Method


@dataclass(frozen=True)
class Accuracy:
    examples: int
    clean: float  # share labelled correctly
    certified: float  # share labelled correctly whatever the perturbation, as far as bounds tell


@torch.no_grad()
def certified_accuracy(
    bounded: Bounded,
    batches: Iterable[tuple[Tensor, Tensor]],
    perturb: Callable[[Tensor], Inputs],
    methods: Iterable[Method] = ("ibp", "crown-ibp"),
    clean: Callable[[Tensor], Tensor] = lambda x: x,
) -> Accuracy:
    """Clean and certified accuracy; an example counts as certified if one of the methods proves it.

    Args:
        bounded: the classifier; bounds have its running statistics of batch norms.
        batches: inputs and labels.
        perturb: the perturbation around inputs.
        methods: tried in order, each only on what is left.
        clean: what the classifier takes for unperturbed inputs (the embedding of words, say).
    """
    examples, right, certain = 0, 0, 0
    for x, y in batches:
        logits = bounded.bounds(clean(x), "ibp").lower
        open_ = logits.argmax(1) == y
        right += int(open_.sum())
        for method in methods:
            index = open_.nonzero().flatten()
            if len(index) == 0:
                break
            proved = (bounded.margins(perturb(x[index]), y[index], method) > 0).all(1)
            certain += int(proved.sum())
            open_ = open_.index_fill(0, index[proved], False)
        examples += len(y)
    return Accuracy(examples, right / max(1, examples), certain / max(1, examples))
