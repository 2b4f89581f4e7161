"""The examples run, on little data, and find what they are there to show."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


@pytest.mark.parametrize("model", ["cnn", "densenet", "resnext", "wide-resnet"])
def test_image_models(example, model):
    module = example("train_images")
    data = module.images("digits", None)
    few = module.Images((data.train[0][:256], data.train[1][:256]), (data.test[0][:50], data.test[1][:50]), 10, 16)
    settings = module.Settings(model, epochs=8, radius=0.03, rate=5e-3)
    _, task = module.train_classifier(few, settings, robust=True)
    found = module.accuracy(task, few, settings.radius)
    assert found.clean >= found.certified > 0.2


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_text_models(example, model):
    module = example("train_text")
    data = module.reviews()
    few = module.Texts((data.train[0][:96], data.train[1][:96]), (data.test[0][:20], data.test[1][:20]),
                       data.vocabulary, data.synonyms, data.classes)  # fmt: skip
    _, task = module.train_classifier(few, module.Settings(model, epochs=2), robust=True)
    found = module.accuracy(task, few)
    assert 0 <= found.certified <= found.clean <= 1 and found.examples == 20


def test_flat_minima(example, tmp_path):
    found = example("flat_minima").main(["--epochs", "4", "--points", "5", "--out", str(tmp_path)])
    plain, flat = found["plain training"], found["training against perturbed weights"]
    assert flat[0] < plain[0]
    assert (tmp_path / "landscape.svg").read_text().count("<rect") == 2 * 5 * 5


@pytest.mark.slow
def test_export(example, tmp_path):
    answers = example("prove_exported").main(["--epochs", "12", "--examples", "3", "--out", str(tmp_path)])
    for certified, library, command in answers:
        assert library == command
        assert not certified or command == "unsat"


# -- data sets ---------------------------------------------------------------------------------------------------------


def test_reviews_are_read(example):
    data = example("datasets").reviews()
    assert data.train[0].shape == (1500, 10) and data.classes == 2
    good = data.vocabulary.index("good")
    assert sorted(data.vocabulary[w] for w in data.synonyms[good]) == ["decent", "fine"]


def test_mnist_and_cifar_folders(example, tmp_path):
    datasets = example("datasets")
    generator = np.random.default_rng(0)
    for part in ("train", "t10k"):
        pixels, labels = generator.integers(0, 256, (5, 28, 28), np.uint8), generator.integers(0, 10, 5, np.uint8)
        header = bytes([0, 0, 8, 3]) + np.array([5, 28, 28], ">i4").tobytes()
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
        header = bytes([0, 0, 8, 1]) + np.array([5], ">i4").tobytes()
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    read = datasets.images("mnist", tmp_path)
    assert read.shape == (1, 28, 28)
    torch.testing.assert_close(read.floats(read.test[0])[:, 0], torch.from_numpy(pixels).float() / 255)
    assert read.test[1].tolist() == labels.tolist()
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        rows = generator.integers(0, 10, (2, 3073), np.uint8)
        (tmp_path / name).write_bytes(rows.tobytes())
    read = datasets.images("cifar10", tmp_path)
    assert read.train[0].shape == (10, 3, 32, 32) and read.test[1].tolist() == rows[:, 0].tolist()


def test_tiny_and_downscaled_imagenet_folders(example, tmp_path):
    import pickle

    image = pytest.importorskip("PIL.Image")
    datasets = example("datasets")
    (tmp_path / "wnids.txt").write_text("n1\nn2\n")
    grey = image.fromarray(np.full((64, 64), 51, np.uint8))
    for name in ("n1", "n2"):
        (tmp_path / "train" / name / "images").mkdir(parents=True)
        grey.save(tmp_path / "train" / name / "images" / f"{name}_0.JPEG")
    (tmp_path / "val" / "images").mkdir(parents=True)
    grey.save(tmp_path / "val" / "images" / "val_0.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn2\t0\t0\t62\t62\n")
    read = datasets.images("tiny-imagenet", tmp_path)
    assert read.train[0].shape == (2, 3, 64, 64) and read.train[1].tolist() == [0, 1] and read.test[1].tolist() == [1]
    assert float(read.floats(read.test[0]).mean()) == pytest.approx(0.2, abs=0.01)
    batch = pickle.dumps({"data": np.zeros((2, 3 * 16 * 16), np.uint8), "labels": [1, 1000]})
    for name in [*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"]:
        (tmp_path / name).write_bytes(batch)
    read = datasets.images("imagenet-downscaled", tmp_path)
    assert read.train[0].shape == (20, 3, 16, 16) and read.test[1].tolist() == [0, 999]


def test_a_missing_file_is_named(example, tmp_path):
    datasets = example("datasets")
    with pytest.raises(datasets.DataError, match="train-images-idx3-ubyte"):
        datasets.images("mnist", tmp_path)
    with pytest.raises(datasets.DataError, match="--folder"):
        datasets.images("cifar10", None)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train_images", ["--data", "mnist"], "mnist needs --folder"),
        ("train_images", ["--data", "mnist", "--folder", "nowhere"], "nowhere: no file train-images-idx3-ubyte"),
        ("train_text", ["--folder", "nowhere"], "nowhere: no file train.tsv"),
    ],
)
def test_bad_arguments_get_one_message(example, capsys, name, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        example(name).main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
