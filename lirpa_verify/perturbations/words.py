"""Word substitution: some words of a sentence, no more than a budget, are replaced by synonyms.

The set is that of the embeddings ``(batch, length, size)`` of all sentences within reach. A linear
function is a sum over positions, so the dynamic program over positions and words replaced
(arXiv:2002.12920, section 3.2) takes the positions that gain most, as many as the budget allows:
this is how it is computed, in one sort.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.transforms import holds
from lirpa_verify.perturbations.base import Perturbation, product, uniform


@dataclass(frozen=True)
class Words(Perturbation):
    """At most `budget` positions take one of their other candidates. Made by `words`."""

    centre: Tensor  # (batch, length, size): embeddings of the words that are there
    candidates: Tensor  # (batch, length, candidates, size): of what may replace them
    present: Tensor  # (batch, length, candidates): which of those there are
    budget: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.centre.shape)

    def scaled(self, factor: float) -> Words:
        """Every replacement only `factor` of the way to it: for training, where the radius grows from 0 to 1."""
        there = self.centre.unsqueeze(2)
        return replace(self, candidates=there + factor * (self.candidates - there))

    def box(self) -> Interval:
        if self.budget == 0 or self.candidates.shape[2] == 0:
            return Interval(self.centre, self.centre)
        choices = torch.where(self.present.unsqueeze(3), self.candidates, self.centre.unsqueeze(2))
        lower, upper = choices.amin(2), choices.amax(2)
        return Interval(torch.minimum(lower, self.centre), torch.maximum(upper, self.centre))

    def best(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The gain (<= 0) of the best replacement at every position, and which it is: (batch, rows, length)."""
        there = (weight * self.centre.unsqueeze(1)).sum(3)
        if self.candidates.shape[2] == 0:
            return torch.zeros_like(there), torch.zeros_like(there, dtype=torch.int64)
        values = torch.einsum("brld,blkd->brlk", weight, self.candidates) - there.unsqueeze(3)
        values = values.masked_fill(~self.present.unsqueeze(1), torch.inf)
        gain, which = values.min(3)
        return gain.clamp(max=0), which

    def minimum(self, weight: Tensor) -> Tensor:
        gain, _ = self.best(weight)
        count = min(self.budget, gain.shape[2])
        return product(weight, self.centre) + gain.topk(count, dim=2, largest=False, sorted=False).values.sum(2)

    def minimiser(self, weight: Tensor) -> Tensor:
        gain, which = self.best(weight.detach())
        count = min(self.budget, gain.shape[2])
        chosen = torch.zeros_like(gain, dtype=torch.bool)
        chosen = chosen.scatter(2, gain.topk(count, dim=2, largest=False).indices, True) & (gain < 0)
        return self.replaced(chosen, which)

    def replaced(self, chosen: Tensor, which: Tensor) -> Tensor:
        """Sentences with candidate ``which`` where ``chosen``, (batch, rows, length) each."""
        rows = chosen.shape[1]
        centre = self.centre.unsqueeze(1).expand(-1, rows, -1, -1)
        if self.candidates.shape[2] == 0:
            return centre
        all_candidates = self.candidates.unsqueeze(1).expand(-1, rows, -1, -1, -1)
        index = which[..., None, None].expand(*which.shape, 1, centre.shape[3])
        return torch.where(chosen.unsqueeze(3), all_candidates.gather(3, index).squeeze(3), centre)

    def members(self, most: int) -> Tensor | None:
        """All points of one example's set, ``(points, length, size)``; None where they are more than `most`."""
        counts = [1] + [0] * self.budget  # of sentences with so many words replaced
        for options in self.present[0].sum(1).tolist():
            counts = [count + (counts[k - 1] * options if k else 0) for k, count in enumerate(counts)]
        if sum(counts) > most:
            return None
        points = [self.centre[0]]
        open_ = self.present[0].any(1).nonzero().flatten().tolist()  # positions that have a choice
        for size in range(1, self.budget + 1):
            for places in itertools.combinations(open_, size):
                for choice in itertools.product(*(self.candidates[0, t][self.present[0, t]] for t in places)):
                    points.append(self.centre[0].index_copy(0, torch.tensor(places), torch.stack(choice)))
        return torch.stack(points)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        batch, length = self.shape[:2]
        if self.candidates.shape[2] == 0:
            return self.centre.expand(count, *self.shape)
        luck = uniform((batch, count, *self.present.shape[1:]), self.centre, generator)
        which = torch.where(self.present.unsqueeze(1), luck, -1).argmax(3)
        order = uniform((batch, count, length), self.centre, generator).argsort(2)
        chosen = (order < self.budget) & self.present.any(2).unsqueeze(1)
        return self.replaced(chosen, which).transpose(0, 1)


def words(tokens: Tensor, embedding: Tensor, synonyms: Mapping[int, Sequence[int]], budget: int) -> Words:
    """The embeddings of all sentences that differ from the given ones in at most `budget` words.

    Args:
        tokens: ``(batch, length)`` numbers of words.
        embedding: ``(vocabulary, size)``; gradients flow to it.
        synonyms: per word the words that may replace it; words without an entry stay.
        budget: how many words of a sentence may be replaced.

    Raises:
        ValueError: a negative budget, or a word outside the vocabulary.
    """
    if budget < 0:
        raise ValueError(f"a budget of {budget} words")
    if not holds(((tokens >= 0) & (tokens < embedding.shape[0])).all()):
        raise ValueError(f"a word outside the vocabulary of {embedding.shape[0]} words")
    table = synonym_table(synonyms, embedding.shape[0]).to(tokens.device)
    choices = table[tokens]  # (batch, length, candidates), -1 where there is none
    width = int((choices >= 0).sum(2).max()) if choices.numel() else 0
    choices = choices[:, :, :width]
    return Words(embedding[tokens], embedding[choices.clamp(min=0)], choices >= 0, min(budget, tokens.shape[1]))


def synonym_table(synonyms: Mapping[int, Sequence[int]], vocabulary: int) -> Tensor:
    """(vocabulary, most synonyms) numbers of words, -1 behind the last one."""
    width = max((len(others) for others in synonyms.values()), default=0)
    table = torch.full((vocabulary, width), -1)
    for word, others in synonyms.items():
        if not all(0 <= w < vocabulary for w in (word, *others)):
            raise ValueError(f"a synonym of word {word} is outside the vocabulary of {vocabulary} words")
        table[word, : len(others)] = torch.tensor(list(others), dtype=torch.int64)
    return table
