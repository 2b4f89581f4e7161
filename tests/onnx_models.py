"""Small ONNX files for tests of the whole engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from random_networks import Dense


def save(
    path: Path, nodes: list[onnx.NodeProto], n_inputs: int, n_outputs: int, constants: dict[str, np.ndarray]
) -> Path:
    """A model from x (1, n_inputs) to y (1, n_outputs)."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n_inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, n_outputs])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def save_dense(path: Path, module: Dense, activation: str = "Relu") -> Path:
    """The layers of a `Dense` in float32, with one ONNX activation between them."""
    nodes, constants, name = [], {}, "x"
    last = len(module.weights) - 1
    for k, (weight, bias) in enumerate(zip(module.weights, module.biases)):
        constants |= {f"w{k}": weight.numpy(), f"b{k}": bias.numpy()}
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], ["y" if k == last else f"z{k}"]))
        if k < last:
            nodes.append(helper.make_node(activation, [f"z{k}"], [f"a{k}"]))
            name = f"a{k}"
    return save(path, nodes, module.weights[0].shape[0], module.weights[-1].shape[1], constants)
