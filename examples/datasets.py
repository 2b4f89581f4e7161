"""The data of the examples: small sets of this repository, and the usual ones from a folder that the user has.

Images are ``(n, channels, height, width)`` bytes, of which `Images.floats` makes numbers in [0, 1]; labels int64.
"""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent / "data"


class DataError(Exception):
    """A folder without the files that its data set consists of."""


@dataclass(frozen=True)
class Images:
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int
    white: int = 255  # the largest value of a pixel

    def floats(self, pixels: Tensor) -> Tensor:
        return pixels.float() / self.white

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return tuple(self.train[0].shape[1:])


@dataclass(frozen=True)
class Texts:
    train: tuple[Tensor, Tensor]  # tokens (n, length), labels
    test: tuple[Tensor, Tensor]
    vocabulary: tuple[str, ...]  # word 0 fills up short texts
    synonyms: dict[int, list[int]]
    classes: int


def images(name: str, folder: Path | None) -> Images:
    """`digits` needs no folder; `mnist`, `cifar10`, `tiny-imagenet` and `imagenet-downscaled` do."""
    if name == "digits":
        return digits()
    if folder is None:
        raise DataError(f"{name} needs --folder, the folder of its files")
    return LOADERS[name](folder)


def digits() -> Images:
    with np.load(HERE / "digits.npz") as file:
        pixels, labels = file["images"], file["labels"]
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.from_numpy(pixels[order]).unsqueeze(1)
    y = torch.from_numpy(labels[order]).long()
    return Images((x[:1400], y[:1400]), (x[1400:], y[1400:]), 10, white=16)


def mnist(folder: Path) -> Images:
    """``train-images-idx3-ubyte`` and so on, compressed or not."""

    def read(name: str) -> np.ndarray:
        raw = content(folder, name, f"{name}.gz")
        rank = raw[3]
        shape = np.frombuffer(raw, ">i4", rank, 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)

    def part(name: str) -> tuple[Tensor, Tensor]:
        return pixels(read(f"{name}-images-idx3-ubyte")[:, None]), classes(read(f"{name}-labels-idx1-ubyte"))

    return Images(part("train"), part("t10k"), 10)


def cifar10(folder: Path) -> Images:
    """The "binary version": ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``."""

    def part(names: list[str]) -> tuple[Tensor, Tensor]:
        rows = np.concatenate([np.frombuffer(content(folder, n), np.uint8).reshape(-1, 3073) for n in names])
        return pixels(rows[:, 1:].reshape(-1, 3, 32, 32)), classes(rows[:, 0])

    return Images(part([f"data_batch_{i}.bin" for i in range(1, 6)]), part(["test_batch.bin"]), 10)


def tiny_imagenet(folder: Path) -> Images:
    """``wnids.txt``, ``train/*/images/*.JPEG``, ``val/images`` and ``val/val_annotations.txt``; needs Pillow."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError("reading Tiny ImageNet's JPEG files needs Pillow: pip install pillow") from None

    def read(paths: list[Path]) -> Tensor:
        return pixels(np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths]))

    names = content(folder, "wnids.txt").decode().split()
    place = {name: i for i, name in enumerate(names)}
    train = [(path, i) for name, i in place.items() for path in sorted((folder / "train" / name / "images").iterdir())]
    rows = [line.split("\t")[:2] for line in content(folder, "val/val_annotations.txt").decode().splitlines()]
    labels = torch.tensor([place[label] for _, label in rows])
    return Images(
        (read([path for path, _ in train]), torch.tensor([i for _, i in train])),
        (read([folder / "val" / "images" / name for name, _ in rows]), labels),
        len(names),
    )


def downscaled(folder: Path) -> Images:
    """``train_data_batch_1`` to ``_10`` and ``val_data`` as published (pickled: only from a source you trust)."""

    def part(names: list[str]) -> tuple[Tensor, Tensor]:
        batches = [pickle.loads(content(folder, name)) for name in names]
        data = np.concatenate([batch["data"] for batch in batches])
        side = round((data.shape[1] / 3) ** 0.5)
        labels = np.concatenate([np.asarray(batch["labels"]) - 1 for batch in batches])
        return pixels(data.reshape(-1, 3, side, side)), classes(labels)

    return Images(part([f"train_data_batch_{i}" for i in range(1, 11)]), part(["val_data"]), 1000)


def reviews(folder: Path | None = None) -> Texts:
    """``train.tsv`` and ``test.tsv`` of lines "label<TAB>text", ``synonyms.json`` from words to lists of words."""
    folder = folder or HERE / "reviews"
    lines = {part: [line.split("\t") for line in content(folder, f"{part}.tsv").decode().splitlines()]
             for part in ("train", "test")}  # fmt: skip
    similar = json.loads(content(folder, "synonyms.json"))
    texts = {part: [text.lower().split() for _, text in rows] for part, rows in lines.items()}
    known = sorted({word for text in texts["train"] for word in text} | set(similar))
    vocabulary = ("<none>", *known)
    number = {word: i for i, word in enumerate(vocabulary)}
    length = max(len(text) for rows in texts.values() for text in rows)

    def encoded(part: str) -> tuple[Tensor, Tensor]:
        tokens = torch.zeros(len(texts[part]), length, dtype=torch.int64)
        for row, text in zip(tokens, texts[part], strict=True):
            row[: len(text)] = torch.tensor([number.get(word, 0) for word in text])
        return tokens, torch.tensor([int(label) for label, _ in lines[part]])

    synonyms = {number[word]: [number[w] for w in others if w in number] for word, others in similar.items()}
    train, test = encoded("train"), encoded("test")
    return Texts(train, test, vocabulary, synonyms, int(train[1].max()) + 1)


LOADERS = {"mnist": mnist, "cifar10": cifar10, "tiny-imagenet": tiny_imagenet, "imagenet-downscaled": downscaled}


def content(folder: Path, *names: str) -> bytes:
    """Of the first of the files that exists, unpacked."""
    for name in names:
        path = folder / name
        if path.exists():
            return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    raise DataError(f"{folder}: no file {' or '.join(names)}")


def pixels(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, np.uint8))


def classes(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, np.int64))
