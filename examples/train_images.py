"""Certified training of image classifiers against L-infinity perturbations, beside plain training.

    python examples/train_images.py --model densenet
    python examples/train_images.py --model cnn --data mnist --folder MNIST_FOLDER --epochs 60 --radius 0.3

Without a folder it takes the 8 x 8 digits of this repository, which needs well under a minute per model.
With --out, checkpoints and a log go there, and a run that was interrupted is continued.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import LOADERS, DataError, Images, images
from models import IMAGE_MODELS
from torch import nn

from lirpa_verify import Accuracy, Bounded, Plan, Smoothed, Task, certified_accuracy, linf, shuffled, train

BATCH = 64


@dataclass(frozen=True)
class Settings:
    model: str = "cnn"
    epochs: int = 20
    radius: float = 0.1
    method: str = "fused"
    rate: float = 2e-3
    seed: int = 0


def train_classifier(data: Images, settings: Settings, robust: bool, out: Path | None = None) -> tuple[nn.Module, Task]:
    """A classifier trained with bounds, or plainly."""
    torch.manual_seed(settings.seed)
    module = IMAGE_MODELS[settings.model](data.shape[0], data.shape[1], data.classes)
    bounded = Bounded(module, data.floats(data.train[0][:1]))
    batches = shuffled(*data.train, BATCH, settings.seed, data.floats)
    task = Task(module, bounded, batches, lambda x, r: linf(x, r, 0, 1))
    steps = settings.epochs * -(-len(data.train[1]) // BATCH)
    radius = Smoothed(settings.radius if robust else 0.0, steps // 10, 6 * steps // 10)
    plan = Plan(
        settings.epochs, radius, settings.method, clean_share=0.5 if robust else 1.0, rate=settings.rate,
        decay=(int(0.85 * settings.epochs),),
    )  # fmt: skip
    train(task, plan, out)
    return module.eval(), task


def accuracy(task: Task, data: Images, radius: float) -> Accuracy:
    batches = ((data.floats(x), y) for x, y in zip(data.test[0].split(200), data.test[1].split(200), strict=True))
    return certified_accuracy(task.bounded, batches, lambda x: linf(x, radius, 0, 1), ("ibp", "crown-ibp", "crown"))


def main(arguments: list[str] | None = None) -> dict[str, Accuracy]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=IMAGE_MODELS, default="cnn")
    parser.add_argument("--data", choices=("digits", *LOADERS), default="digits")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--radius", type=float, default=0.1)
    parser.add_argument("--method", choices=("ibp", "crown-ibp", "fused"), default="fused")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    try:
        data = images(given.data, given.folder)
    except DataError as error:
        parser.error(str(error))
    settings = Settings(given.model, given.epochs, given.radius, given.method, seed=given.seed)
    found = {}
    for name, robust in (("plain", False), ("certified", True)):
        _, task = train_classifier(data, settings, robust, given.out and given.out / name)
        found[name] = accuracy(task, data, given.radius)
        print(f"{name} training: {found[name].clean:.1%} correct, {found[name].certified:.1%} certified "
              f"within {given.radius} of {found[name].examples} images")  # fmt: skip
    return found


if __name__ == "__main__":
    main()
