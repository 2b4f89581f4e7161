"""Weights in a file beside the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from lirpa_verify.errors import ModelError
from lirpa_verify.load import load_recording
from lirpa_verify.network import load_network
from lirpa_verify.witness import Replayer


def written(folder: Path, scale: float = 1.0) -> Path:
    weight = (scale * np.arange(400, dtype=np.float32) / 100).reshape(4, 100)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "beside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 100])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = folder / "model.onnx"
    (folder / "model.onnx.data").unlink(missing_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    assert (folder / "model.onnx.data").exists()
    return path


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    x = np.array([1.0, -0.5, 0.25, 2.0])
    found = load_network(path).graph.forward(torch.from_numpy(x).unsqueeze(0))
    assert np.allclose(found[0].numpy(), Replayer(path)(x), rtol=1e-5)


def test_other_weights_beside_the_same_model_are_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIRPA_VERIFY_CACHE", str(tmp_path / "cache"))
    first = load_recording(written(tmp_path)).meta["file_sha256"]
    assert load_recording(written(tmp_path)).meta["file_sha256"] == first
    assert load_recording(written(tmp_path, 2.0)).meta["file_sha256"] != first


def test_missing_and_short_weights_are_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "model.onnx.data").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"model\.onnx.*"):
        load_recording(path, use_cache=False)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx': the weights beside it cannot be read"):
        load_recording(path, use_cache=False)


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    model = onnx.load_model(str(path), load_external_data=False)
    del model.graph.initializer[0].external_data[:]
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="cannot be read"):
        load_recording(path, use_cache=False)
