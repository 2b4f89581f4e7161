"""Certified training of text classifiers against word substitution, beside plain training.

    python examples/train_text.py --model lstm
    python examples/train_text.py --model transformer --folder FOLDER   (train.tsv, test.tsv, synonyms.json)

Every word that has synonyms may be replaced by one of them, at most --budget words of a text.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import DataError, Texts, reviews
from models import TEXT_MODELS, TextClassifier
from torch import Tensor

from lirpa_verify import Accuracy, Bounded, Plan, Smoothed, Task, Words, certified_accuracy, shuffled, train, words

BATCH = 64


@dataclass(frozen=True)
class Settings:
    model: str = "lstm"
    epochs: int = 8
    budget: int = 2
    size: int = 8  # of an embedding
    rate: float = 2e-2
    seed: int = 0


def train_classifier(
    data: Texts, settings: Settings, robust: bool, out: Path | None = None
) -> tuple[TextClassifier, Task]:
    """A classifier trained with bounds, or plainly. The embedding is trained with it."""
    torch.manual_seed(settings.seed)
    length = data.train[0].shape[1]
    body = TEXT_MODELS[settings.model](settings.size, length, data.classes)
    module = TextClassifier(body, len(data.vocabulary), settings.size)

    def perturb(x: Tensor, radius: float) -> Words:
        """The radius is how far of the way to the synonyms words may move; 1 in the end."""
        return words(x, module.embedding.weight, data.synonyms, settings.budget).scaled(radius)

    bounded = Bounded(body, torch.zeros(1, length, settings.size))
    task = Task(module, bounded, shuffled(*data.train, BATCH, settings.seed), perturb, module.embedding)
    steps = settings.epochs * -(-len(data.train[1]) // BATCH)
    radius = Smoothed(1.0 if robust else 0.0, steps // 10, 7 * steps // 10)
    plan = Plan(
        settings.epochs, radius, "fused", clean_share=0.5 if robust else 1.0, backward_share=1.0, rate=settings.rate,
        decay=(int(0.85 * settings.epochs),),
    )  # fmt: skip
    train(task, plan, out)
    return module.eval(), task


def accuracy(task: Task, data: Texts) -> Accuracy:
    batches = list(zip(data.test[0].split(100), data.test[1].split(100), strict=True))
    return certified_accuracy(task.bounded, batches, lambda x: task.perturb(x, 1.0), ("ibp", "crown-ibp"), task.embed)


def main(arguments: list[str] | None = None) -> dict[str, Accuracy]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=TEXT_MODELS, default="lstm")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--budget", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    try:
        data, found = reviews(given.folder), {}
    except DataError as error:
        parser.error(str(error))
    settings = Settings(given.model, given.epochs, given.budget, seed=given.seed)
    for name, robust in (("plain", False), ("certified", True)):
        _, task = train_classifier(data, settings, robust, given.out and given.out / name)
        found[name] = accuracy(task, data)
        print(f"{name} training: {found[name].clean:.1%} correct, {found[name].certified:.1%} certified "
              f"whatever {given.budget} words are replaced, of {found[name].examples} texts")  # fmt: skip
    return found


if __name__ == "__main__":
    main()
