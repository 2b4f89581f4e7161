"""Small ONNX models for tests of the loader: built, replayed and compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load import convert_model
from lirpa_verify.load.recording import Recording
from lirpa_verify.load.replay import replay
from lirpa_verify.operators.base import Interval

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[Any]],
    outputs: list[str],
    constants: dict[str, Any] | None = None,
    opset: int = 13,
    kind: int = FLOAT,
    output_kind: int | None = None,
    constants_are_inputs: bool = False,
) -> bytes:
    """The bytes of a model; constants are float32 arrays where they are not numpy arrays already."""
    arrays = {
        name: numpy_helper.from_array(value if isinstance(value, np.ndarray) else np.array(value, np.float32), name)
        for name, value in (constants or {}).items()
    }
    declared = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    if constants_are_inputs:
        declared = [
            *(helper.make_tensor_value_info(name, array.data_type, array.dims) for name, array in arrays.items()),
            *declared,
        ]
    graph = helper.make_graph(
        nodes,
        "graph",
        declared,
        [helper.make_tensor_value_info(name, output_kind or kind, None) for name in outputs],
        list(arrays.values()),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(4 + opset // 4, 8))
    return made.SerializeToString()


def converted(data: bytes) -> Recording:
    """Convert (which compares with onnxruntime), and compare once more on inputs of our own."""
    recording = convert_model(data, "test")
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(s.shape, generator=generator, dtype=torch.float64).to(s.dtype) for s in recording.inputs]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    expected = session.run(None, {s.name: v.numpy() for s, v in zip(recording.inputs, inputs)})
    for got, want, spec in zip(replay(recording, inputs), expected, recording.output_specs, strict=True):
        assert tuple(got.shape) == want.shape == spec.shape
        assert got.dtype == spec.dtype
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)
    return recording


def ops(recording: Recording) -> list[str]:
    return [call.op for call in recording.calls]


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + 1).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """`node("Add", "x w", "y")`; "-" is an omitted input."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def encloses(recording: Recording) -> None:
    """Bounds of the outputs over a box hold for points of it."""
    graph = simplify(lower(recording, RULES))
    g = torch.Generator().manual_seed(4)
    middle = torch.randn(1, graph.n_inputs, generator=g, dtype=torch.float64)
    box = Interval(middle - 0.4, middle + 0.4)
    points = box.lower + 0.8 * torch.rand(500, graph.n_inputs, generator=g, dtype=torch.float64)
    values = graph.forward(points)
    for method in ("ibp", "crown"):
        found = bound_nodes(graph, box, method)[-1]  # type: ignore[arg-type]
        assert bool(((values >= found.lower - 1e-9) & (values <= found.upper + 1e-9)).all())
