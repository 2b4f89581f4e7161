"""Certified accuracy that plain training does not have, for every model of the examples: a table in Markdown.

    PYTHONPATH=.:examples python benchmarks/certified_training.py [--seeds 3] [--models cnn ...]

Every training takes between some seconds and two minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import statistics
import time

import datasets
import models
import train_images
import train_text

from lirpa_verify import Accuracy


def run(model: str, robust: bool, seed: int) -> Accuracy:
    if model in models.TEXT_MODELS:
        texts = datasets.reviews()
        _, task = train_text.train_classifier(texts, train_text.Settings(model, seed=seed), robust)
        return train_text.accuracy(task, texts)
    images = datasets.digits()
    settings = train_images.Settings(model, seed=seed)
    _, task = train_images.train_classifier(images, settings, robust)
    return train_images.accuracy(task, images, settings.radius)


def cell(values: list[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=[*models.IMAGE_MODELS, *models.TEXT_MODELS])
    given = parser.parse_args()
    print("| model | training | clean, % | certified, % | seconds |\n| --- | --- | --- | --- | --- |")
    for model in given.models:
        for robust in (False, True):
            started = time.monotonic()
            found = [run(model, robust, seed) for seed in range(given.seeds)]
            seconds = (time.monotonic() - started) / given.seeds
            clean, certified = cell([a.clean for a in found]), cell([a.certified for a in found])
            kind = "certified" if robust else "plain"
            print(f"| {model} | {kind} | {clean} | {certified} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
