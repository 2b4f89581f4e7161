"""What a user sees when a model cannot be loaded: one typed error that names the file, the node, and a way out."""

from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lirpa_verify.errors import LirpaError, ModelError, UnsupportedOperator
from lirpa_verify.load import convert_model, load_recording
from lirpa_verify.load.check import check_recording
from lirpa_verify.load.onnx_model import parse_model
from lirpa_verify.load.onnx_program import record_model

FLOAT = TensorProto.FLOAT


def proto(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    kind: int = FLOAT,
    shape: list[int] | None = None,
    opset: int = 13,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape or [1, 4])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def relu() -> bytes:
    data: bytes = proto([helper.make_node("Relu", ["x"], ["y"], "the_relu")]).SerializeToString()
    return data


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("missing", None),
        ("empty", b""),
        ("text", b"this is not a model"),
        ("zeros", bytes(100)),
        ("truncated", relu()[:-20]),
        ("packed and empty", gzip.compress(b"", mtime=0)),
        ("packed and truncated", gzip.compress(relu(), mtime=0)[:-12]),
        ("packed and damaged", gzip.compress(relu(), mtime=0)[:20] + b"????" + gzip.compress(relu(), mtime=0)[24:]),
        ("packed text", gzip.compress(b"hello", mtime=0)),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, contents: bytes | None) -> None:
    path = tmp_path / f"{name}.onnx"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ModelError) as caught:
        load_recording(path, use_cache=False)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read model"):
        load_recording(tmp_path, use_cache=False)


def test_every_prefix_of_a_model_is_refused_or_loads() -> None:
    data = proto(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        {"w": np.ones((4, 2), np.float32)},
    ).SerializeToString()
    for length in range(len(data)):
        with pytest.raises(LirpaError):
            convert_model(data[:length], "cut")


@pytest.mark.parametrize("text", [b"Relu", b"the_name", b"x_of_net"])
def test_names_that_are_no_text_are_refused(text: bytes) -> None:
    node = helper.make_node("Relu", ["x_of_net"], ["y"], "the_name")
    model = helper.make_model(
        helper.make_graph(
            [node],
            "net",
            [helper.make_tensor_value_info("x_of_net", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        )
    )
    data = model.SerializeToString().replace(text, b"\xff" * len(text))
    with pytest.raises(ModelError, match="no text"):
        convert_model(data, "model.onnx")


def test_weights_in_another_file_are_refused() -> None:
    model = proto([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((4, 2), np.float32)})
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ModelError, match="another file"):
        convert_model(model.SerializeToString(), "model.onnx")


def test_half_precision_is_refused_clearly() -> None:
    model = proto([helper.make_node("Relu", ["x"], ["y"])], kind=TensorProto.FLOAT16)
    with pytest.raises(ModelError, match=r"FLOAT16.*convert the model"):
        convert_model(model.SerializeToString(), "model.onnx")
    model = proto([helper.make_node("Cast", ["x"], ["y"], "to_half", to=TensorProto.FLOAT16)])
    with pytest.raises(UnsupportedOperator, match="to_half"):
        convert_model(model.SerializeToString(), "model.onnx")


def test_unknown_operators_are_reported_before_anything_runs() -> None:
    model = proto(
        [
            helper.make_node("Reshape", ["x", "bad"], ["h"], "would_fail"),
            helper.make_node("Det", ["h"], ["y"], "determinant"),
        ],
        {"bad": np.array([7], np.int64)},
    )
    with pytest.raises(UnsupportedOperator, match=r"Det \(opset 13\) at node 'determinant'.*export"):
        convert_model(model.SerializeToString(), "model.onnx")


def test_operators_of_other_domains() -> None:
    model = proto([helper.make_node("Special", ["x"], ["y"], "odd", domain="com.example")])
    with pytest.raises(UnsupportedOperator, match=r"com\.example\.Special.*odd.*domain"):
        convert_model(model.SerializeToString(), "model.onnx")
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedOperator, match=r"com\.example\.Special \(opset 1\).*odd"):
        convert_model(model.SerializeToString(), "model.onnx")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Relu", ["nowhere"], ["y"], "lost")], "lost.*nowhere"),
        ([helper.make_node("Relu", ["x"], ["z"])], "output 'y'"),
        ([helper.make_node("Relu", ["y"], ["z"]), helper.make_node("Relu", ["z"], ["y"])], "before it"),
        ([helper.make_node("Concat", ["x", "w"], ["y"], "join", axis=0)], "node 'join'"),
    ],
)
def test_malformed_graphs(nodes: list[onnx.NodeProto], message: str) -> None:
    model = proto(nodes, {"w": np.ones((2, 3), np.float32)})
    with pytest.raises(ModelError, match=message):
        convert_model(model.SerializeToString(), "model.onnx")


def test_nodes_in_any_order() -> None:
    model = proto([helper.make_node("Neg", ["h"], ["y"]), helper.make_node("Relu", ["x"], ["h"])])
    recording = record_model(parse_model(model.SerializeToString(), "model.onnx"), "model.onnx")
    assert [call.op for call in recording.calls] == ["aten.relu.default", "aten.neg.default"]


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        ([helper.make_node("NonZero", ["x"], ["y"], "places")], "places"),
        (
            [
                helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
                helper.make_node("Flatten", ["i"], ["f"], axis=0),
                helper.make_node("Squeeze", ["f", "zero"], ["s"]),
                helper.make_node("ConstantOfShape", ["s"], ["y"], "grows"),
            ],
            "grows",
        ),
        ([helper.make_node("RandomNormalLike", ["x"], ["y"], "noise")], "noise"),
    ],
)
def test_shapes_that_depend_on_the_input(nodes: list[onnx.NodeProto], named: str) -> None:
    model = proto(nodes, {"zero": np.array([0], np.int64)})
    with pytest.raises(UnsupportedOperator, match=named):
        convert_model(model.SerializeToString(), "model.onnx")


def test_a_wrong_conversion_is_an_error_not_a_warning() -> None:
    data = proto(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.arange(8, dtype=np.float32).reshape(4, 2)}
    ).SerializeToString()
    recording = convert_model(data, "model.onnx")
    wrong = replace(recording, constants=(recording.constants[0] + 0.01,))
    with pytest.raises(ModelError, match=r"'model\.onnx'.*differs from onnxruntime"):
        check_recording(wrong, data, "model.onnx")
    shaped = replace(recording, constants=(recording.constants[0][:, :1],))
    with pytest.raises(ModelError, match="shape"):
        check_recording(shaped, data, "model.onnx")


def test_a_difference_in_a_box_only_is_found_with_the_box() -> None:
    nodes = [helper.make_node("Sub", ["x", "c"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    data = proto(nodes, {"c": np.float32(100).reshape(())}).SerializeToString()
    recording = convert_model(data, "model.onnx")
    wrong = replace(recording, constants=(torch.tensor(101.0),))
    check_recording(wrong, data, "model.onnx")  # both are 0 near the origin
    with pytest.raises(ModelError):
        check_recording(wrong, data, "model.onnx", [(torch.full((1, 4), 200.0), torch.full((1, 4), 300.0))])


@pytest.mark.parametrize("op", ["Sign", "Floor", "Round", "Ceil"])
def test_jumps_are_not_taken_for_errors(op: str) -> None:
    rng = np.random.default_rng(0)
    nodes, constants = [], {}
    name = "x"
    for layer in range(6):
        constants[f"w{layer}"] = rng.integers(-1, 2, (64 if layer else 4, 64)).astype(np.float32) * np.float32(0.1)
        nodes += [
            helper.make_node("MatMul", [name, f"w{layer}"], [f"h{layer}"]),
            helper.make_node(op, [f"h{layer}"], [f"s{layer}"]),
        ]
        name = f"s{layer}"
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    convert_model(proto(nodes, constants).SerializeToString(), "model.onnx")


def test_a_deep_network_is_within_its_rounding_errors() -> None:
    rng = np.random.default_rng(1)
    nodes, constants, name = [], {}, "x"
    for layer in range(60):
        size = 32 if layer else 4
        constants[f"w{layer}"] = (rng.standard_normal((size, 32)) * np.sqrt(2 / size)).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", [name, f"w{layer}"], [f"h{layer}"]),
            helper.make_node("Relu", [f"h{layer}"], [f"r{layer}"]),
        ]
        name = f"r{layer}"
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    convert_model(proto(nodes, constants).SerializeToString(), "model.onnx")


def test_onnx2torch_is_imported_without_torchvision() -> None:
    code = (
        "import sys; from lirpa_verify.load.onnx2torch_import import import_onnx2torch; import_onnx2torch(); "
        "import onnx2torch; sys.exit(any(name.startswith('torchvision') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
