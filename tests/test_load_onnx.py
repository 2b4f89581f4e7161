"""Small ONNX models in all the forms that exporters write, each compared with onnxruntime (as loading itself does)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from recorded_models import DOUBLE, FLOAT, INT64, converted, ints, model, node, ops, rand

from lirpa_verify.load import convert_model, load_recording
from lirpa_verify.load.replay import replay


def test_a_plain_network_becomes_three_calls() -> None:
    data = model(
        [
            node("Gemm", "x w1 b1", "h", transB=1),
            node("Relu", "h", "r"),
            node("Gemm", "r w2 b2", "y", alpha=0.5, beta=2.0),
        ],
        {"x": [1, 4]},
        ["y"],
        {"w1": rand(6, 4), "b1": rand(6), "w2": rand(6, 3), "b2": rand(3)},
    )
    recording = converted(data)
    assert ops(recording) == ["aten.addmm.default", "aten.relu.default", "aten.addmm.default"]
    assert recording.inputs[0].name == "x" and recording.output_specs[0].name == "y"
    assert len(recording.constants) == 4
    assert recording.meta["opset"] == "13"
    assert [call.label for call in recording.calls] == ["h", "r", "y"]


def test_constants_that_are_listed_as_inputs_are_not_inputs() -> None:
    data = model([node("MatMul", "x w", "y")], {"x": [1, 3]}, ["y"], {"w": rand(3, 2)}, 8, constants_are_inputs=True)
    assert [spec.name for spec in converted(data).inputs] == ["x"]


@pytest.mark.parametrize("dimension", ["batch", None, 0])
def test_dynamic_and_zero_dimensions_count_as_one(dimension: Any) -> None:
    data = model([node("MatMul", "x w", "y")], {"x": [dimension, 3]}, ["y"], {"w": rand(3, 2)})
    recording = convert_model(data, "test") if dimension == 0 else converted(data)
    assert recording.inputs[0].shape == (1, 3)
    assert recording.output_specs[0].shape == (1, 2)


def test_several_inputs_and_outputs_keep_the_order_of_the_graph() -> None:
    data = model(
        [node("Split", "x", "p q", axis=1), node("Mul", "q b", "m"), node("Sub", "p a", "s")],
        {"b": [1, 2], "x": [1, 4], "a": [1, 2]},
        ["s", "q", "m"],
    )
    recording = converted(data)
    assert [spec.name for spec in recording.inputs] == ["b", "x", "a"]
    assert [spec.name for spec in recording.output_specs] == ["s", "q", "m"]


def test_outputs_may_be_inputs_or_constants_and_the_same_value_twice() -> None:
    data = model(
        [node("Identity", "x", "same"), node("Identity", "c", "constant"), node("Relu", "x", "y")],
        {"x": [2]},
        ["same", "constant", "y"],
        {"c": [1.0, 2.0]},
    )
    assert ops(converted(data)) == ["aten.relu.default"]


def test_an_output_of_rank_0() -> None:
    data = model([node("ReduceSum", "x", "y", keepdims=0)], {"x": [2, 3]}, ["y"])
    assert converted(data).output_specs[0].shape == ()


def test_float64() -> None:
    data = model(
        [node("MatMul", "x w", "h"), node("Tanh", "h", "y")],
        {"x": [1, 3]},
        ["y"],
        {"w": rand(3, 2).astype(np.float64)},
        kind=DOUBLE,
    )
    assert converted(data).output_specs[0].dtype == torch.float64


def test_nhwc_input_and_reshape_of_computed_shape() -> None:
    data = model(
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t w", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("Shape", "c", "shape"),
            node("Gather", "shape zero", "batch"),
            node("Unsqueeze", "batch axis", "batch1"),
            node("Concat", "batch1 minus", "target", axis=0),
            node("Reshape", "c target", "y"),
        ],
        {"x": ["n", 7, 6, 3]},
        ["y"],
        {"w": rand(4, 3, 3, 3), "zero": np.array(0), "axis": ints(0), "minus": ints(-1)},
    )
    recording = converted(data)
    assert ops(recording) == [
        "aten.permute.default",
        "aten.constant_pad_nd.default",
        "aten.convolution.default",
        "aten.view.default",
    ]
    assert recording.calls[-1].args[1] == recording.output_specs[0].shape  # no -1 left


def test_if_and_loop_with_constant_conditions() -> None:
    then = helper.make_graph([node("Neg", "x", "t")], "then", [], [helper.make_tensor_value_info("t", FLOAT, None)])
    other = helper.make_graph([node("Abs", "x", "o")], "else", [], [helper.make_tensor_value_info("o", FLOAT, None)])
    body = helper.make_graph(
        [node("Add", "v x", "next"), node("Identity", "c", "more"), node("Identity", "next", "scan")],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, None),
            helper.make_tensor_value_info("scan", FLOAT, None),
        ],
    )
    data = model(
        [
            helper.make_node("If", ["yes"], ["branch"], then_branch=then, else_branch=other),
            helper.make_node("Loop", ["three", "", "branch"], ["y", "all"], body=body),
        ],
        {"x": [2]},
        ["y", "all"],
        {"yes": np.array(False), "three": np.array(3)},
        16,
    )
    assert ops(converted(data)) == ["aten.abs.default", *["aten.add.Tensor"] * 3, "aten.stack.default"]


def test_functions_of_the_model_and_of_the_standard_are_expanded() -> None:
    data = model([node("Attention", "x x x", "y", q_num_heads=2, kv_num_heads=2)], {"x": [1, 3, 4]}, ["y"], opset=23)
    proto = onnx.load_model_from_string(data)
    proto.ir_version = 10
    recording = converted(proto.SerializeToString())
    assert "aten._softmax.default" in ops(recording)


def test_files_plain_and_packed(tmp_path: Path) -> None:
    data = model([node("Relu", "x", "y")], {"x": [2]}, ["y"])
    (tmp_path / "plain.onnx").write_bytes(data)
    (tmp_path / "packed.onnx.gz").write_bytes(gzip.compress(data))
    (tmp_path / "misnamed.onnx").write_bytes(gzip.compress(data))
    for name in ("plain.onnx", "packed.onnx", "packed.onnx.gz", "misnamed.onnx"):
        assert ops(load_recording(tmp_path / name, use_cache=False)) == ["aten.relu.default"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["misnamed.onnx", "packed.onnx.gz", "plain.onnx"]


def test_replay_in_double_precision() -> None:
    data = model([node("Gemm", "x w b", "y")], {"x": [1, 3]}, ["y"], {"w": rand(3, 2), "b": rand(2)})
    recording = converted(data)
    x = torch.randn(1, 3, dtype=torch.float64)
    (y,) = replay(recording, [x], torch.float64)
    assert y.dtype == torch.float64
    exact = x.numpy() @ rand(3, 2).astype(np.float64) + rand(2).astype(np.float64)
    np.testing.assert_allclose(y.numpy(), exact, rtol=1e-12)
