"""Operators in every form that ONNX gives them: the recording computes what onnxruntime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from recorded_models import FLOAT, INT64, converted, encloses, ints, model, node, ops, rand

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load import convert_model
from lirpa_verify.load.replay import replay
from lirpa_verify.operators.base import Interval

OLD_FORMS = {
    "dropout 7": (7, [node("Dropout", "x", "y", ratio=0.3)]),
    "upsample 7": (7, [node("Upsample", "x", "y", scales=[1.0, 1.0, 2.0, 3.0])]),
    "upsample 9": (9, [node("Upsample", "x scales", "y", mode="nearest")]),
    "batch norm 7": (7, [node("BatchNormalization", "x v1 v2 v1 v3", "y", epsilon=0.01)]),
    "batch norm 9": (9, [node("BatchNormalization", "x v1 v2 v1 v3", "y")]),
    "clip 6": (6, [node("Clip", "x", "y", min=-0.5, max=0.25)]),
    "clip 11": (11, [node("Clip", "x low high", "y")]),
    "clip, only the upper limit": (12, [node("Clip", "x - high", "y")]),
    "pad 2": (8, [node("Pad", "x", "y", pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5)]),
    "pad 11": (11, [node("Pad", "x pads fill", "y")]),
    "pad 11 reflect": (11, [node("Pad", "x pads", "y", mode="reflect")]),
    "pad 11 edge": (11, [node("Pad", "x pads", "y", mode="edge")]),
    "slice 1": (8, [node("Slice", "x", "y", axes=[2, -1], starts=[1, -3], ends=[100, -1])]),
    "slice 10 backwards": (10, [node("Slice", "x last first axes3 minus", "y")]),
    "slice backwards from before the beginning": (10, [node("Slice", "x first first axes3 minus", "y")]),
    "squeeze 1": (8, [node("Unsqueeze", "x", "u", axes=[0, 2]), node("Squeeze", "u", "y", axes=[0])]),
    "softmax 8": (8, [node("Softmax", "x", "y", axis=2)]),
    "softmax 13": (13, [node("Softmax", "x", "y", axis=2)]),
    "reduce sum 11": (11, [node("ReduceSum", "x", "y", axes=[-1, 1], keepdims=0)]),
    "reduce mean 18": (18, [node("ReduceMean", "x axes3", "y", keepdims=1)]),
    "reduce max": (13, [node("ReduceMax", "x", "y", axes=[1, 2])]),
    "split 2": (8, [node("Split", "x", "p q", axis=2, split=[1, 3]), node("Neg", "q", "y")]),
    "split 18": (18, [node("Split", "x", "p q r", axis=3, num_outputs=3), node("Neg", "r", "y")]),
    "resize 10": (10, [node("Resize", "x scales", "y", mode="nearest")]),
    "resize 13 sizes": (13, [node("Resize", "x - - sizes", "y", mode="linear")]),
    "resize 13": (
        13,
        [
            node(
                "Resize",
                "x - scales",
                "y",
                mode="nearest",
                coordinate_transformation_mode="half_pixel",
                nearest_mode="round_prefer_ceil",
            )
        ],
    ),
    "average pool": (8, [node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 0, 0, 1])]),
    "average pool, pads counted": (
        10,
        [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
    ),
    "max pool": (8, [node("MaxPool", "x", "y", kernel_shape=[2, 3], pads=[0, 2, 1, 0], strides=[2, 1])]),
    "max pool ceil": (12, [node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)]),
    "max pool ceil, uneven": (
        12,
        [node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 0, 1], ceil_mode=1)],
    ),
    "average pool ceil, uneven": (
        12,
        [node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 0, 1], ceil_mode=1)],
    ),
    "max pool same": (12, [node("MaxPool", "x", "y", kernel_shape=[2, 2], auto_pad="SAME_LOWER", strides=[2, 2])]),
    "global pools": (
        8,
        [node("GlobalAveragePool", "x", "a"), node("GlobalMaxPool", "x", "b"), node("Sub", "a b", "y")],
    ),
    "transposed convolution": (
        11,
        [
            node(
                "ConvTranspose",
                "x k v4",
                "y",
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                output_padding=[1, 1],
                dilations=[1, 2],
            )
        ],
    ),
    "transposed convolution, uneven": (
        11,
        [node("ConvTranspose", "x k", "y", strides=[2, 2], pads=[0, 1, 1, 0])],
    ),
    "transposed convolution, less than its shape": (
        11,
        [node("ConvTranspose", "x k v4", "y", strides=[3, 2], output_shape=[14, 11])],
    ),
    "transposed convolution, the same shape not reached": (
        11,
        [node("ConvTranspose", "x k v4", "y", strides=[4, 4], auto_pad="SAME_LOWER")],
    ),
    "grouped convolution": (11, [node("Conv", "x g v3", "y", group=3, pads=[1, 0, 0, 1])]),
    "prelu": (9, [node("PRelu", "x slopes", "y")]),
    "leaky relu": (6, [node("LeakyRelu", "x", "y", alpha=0.1)]),
    "elu, selu": (6, [node("Elu", "x", "e", alpha=0.7), node("Selu", "e", "y")]),
    "hard sigmoid": (6, [node("HardSigmoid", "x", "y")]),
    "layer norm 17": (17, [node("LayerNormalization", "x n n", "y", axis=-1)]),
    "instance norm": (8, [node("InstanceNormalization", "x v1 v2", "y")]),
    "lrn (through onnx2torch)": (13, [node("LRN", "x", "y", size=3)]),
    "gelu 20": (20, [node("Gelu", "x", "y", approximate="tanh")]),
    "min, max, mean, sum": (
        8,
        [node("Max", "x low", "a"), node("Min", "a high x", "b"), node("Mean", "a b", "c"), node("Sum", "a b c", "y")],
    ),
    "where": (9, [node("Less", "x high", "c"), node("Where", "c x low", "y")]),
    "expand, tile": (8, [node("Expand", "x wide", "e"), node("Tile", "e reps", "y")]),
    "gather": (11, [node("Gather", "x picks", "y", axis=2)]),
    "gather nd": (12, [node("GatherND", "x places", "y")]),
    "scatter nd": (11, [node("ScatterND", "x places updates", "y")]),
    "einsum": (12, [node("Einsum", "x", "y", equation="nchw->nhc")]),
    "pow": (13, [node("Pow", "x two", "y")]),
    "depth and space": (13, [node("SpaceToDepth", "x", "d", blocksize=2), node("DepthToSpace", "d", "y", blocksize=2)]),
    "quantised": (13, [node("QuantizeLinear", "x scale zp", "q"), node("DequantizeLinear", "q scale zp", "y")]),
    "cast there and back": (13, [node("Cast", "x", "i", to=INT64), node("Cast", "i", "y", to=FLOAT)]),
    "compare and cast": (13, [node("Greater", "x low", "c"), node("Cast", "c", "y", to=FLOAT)]),
    "average pool, dilated": (
        19,
        [node("AveragePool", "x", "y", kernel_shape=[2, 2], dilations=[2, 3], pads=[1, 0, 0, 1])],
    ),
    "average pool, dilated, pads counted": (
        19,
        [
            node(
                "AveragePool",
                "x",
                "y",
                kernel_shape=[2, 2],
                dilations=[1, 2],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                count_include_pad=1,
            )
        ],
    ),
    "average pool, dilated, rounded up": (
        19,
        [node("AveragePool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2], strides=[2, 3], ceil_mode=1)],
    ),
    "lp pool": (18, [node("LpPool", "x", "y", kernel_shape=[2, 3], pads=[1, 0, 0, 1], strides=[2, 1])]),
    "lp pool 3": (11, [node("LpPool", "x", "y", kernel_shape=[2, 2], p=3, auto_pad="SAME_UPPER")]),
    "lp pool 1": (11, [node("LpPool", "x", "y", kernel_shape=[2, 2], p=1)]),
    "layer norm with its statistics": (
        17,
        [node("LayerNormalization", "x n", "a m r", axis=3), node("Sum", "a m r", "y")],
    ),
    "hardmax": (13, [node("Hardmax", "x", "y", axis=2)]),
    "hardmax 11": (11, [node("Hardmax", "x", "y", axis=2)]),
    "grid sample": (16, [node("GridSample", "x grid", "y", padding_mode="border")]),
    "grid sample 20": (20, [node("GridSample", "x grid", "y", mode="nearest", align_corners=1)]),
    "columns to image": (18, [node("Reshape", "x blocks", "b"), node("Col2Im", "b image block", "y")]),
    "resize cubic": (13, [node("Resize", "x - - sizes", "y", mode="cubic")]),
    "resize cubic inside": (
        13,
        [node("Resize", "x - scales", "y", mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)],
    ),
    "scatter the largest": (18, [node("ScatterElements", "x where updates1", "y", axis=2, reduction="max")]),
    "scatter a product": (18, [node("ScatterND", "x places updates", "y", reduction="mul")]),
    "reverse sequence": (10, [node("ReverseSequence", "x lengths", "y", batch_axis=1, time_axis=0)]),
    "reverse sequence, batch first": (10, [node("ReverseSequence", "x lengths", "y", batch_axis=0, time_axis=1)]),
    "sequence of equal parts": (
        11,
        [
            node("SplitToSequence", "x four0", "s", axis=3),
            node("SequenceAt", "s minus1", "a"),
            node("SequenceAt", "s one0", "b"),
            node("Concat", "a b", "y", axis=1),
        ],
    ),
    "sequence of single entries": (
        11,
        [
            node("SplitToSequence", "x", "s", axis=2, keepdims=0),
            node("SequenceErase", "s one0", "t"),
            node("ConcatFromSequence", "t", "y", axis=0, new_axis=1),
        ],
    ),
    "sequence of chosen parts": (
        11,
        [
            node("SplitToSequence", "x parts", "s", axis=2),
            node("SequenceAt", "s one0", "a"),
            node("SequenceConstruct", "a a", "t"),
            node("SequenceInsert", "t x minus1", "u"),
            node("SequenceLength", "u", "count"),
            node("Cast", "count", "m", to=FLOAT),
            node("ConcatFromSequence", "u", "c", axis=2),
            node("Mul", "c m", "y"),
        ],
    ),
    "cumulative sum": (14, [node("CumSum", "x axis0", "y", reverse=1)]),
}
OLD_CONSTANTS: dict[str, Any] = {
    "scales": [1.0, 1.0, 2.0, 2.0],
    "sizes": ints(1, 3, 7, 5),
    "v1": rand(3),
    "v2": rand(3) + 0.5,
    "v3": np.abs(rand(3)) + 0.1,
    "v4": rand(2),
    "low": np.float32(-0.5).reshape(()),
    "high": np.float32(0.25).reshape(()),
    "pads": ints(0, 0, 1, 2, 0, 0, 0, 1),
    "fill": np.float32(0.5).reshape(()),
    "last": ints(10),
    "first": ints(-100),
    "axes3": ints(3),
    "axis0": np.array(2),
    "minus": ints(-2),
    "k": rand(3, 2, 3, 3),
    "g": rand(3, 1, 2, 2),
    "slopes": rand(3, 1, 1),
    "n": rand(6),
    "wide": ints(2, 1, 1, 1),
    "reps": ints(1, 2, 1, 1),
    "picks": ints(3, 0, -1),
    "places": np.array([[0, 1], [0, -1]]),
    "updates": rand(2, 4, 6),
    "two": [2.0],
    "grid": np.tanh(rand(1, 2, 3, 2)) * 1.2,
    "blocks": ints(1, 4, 18),
    "image": ints(4, 7),
    "block": ints(2, 2),
    "where": np.array([[[[0, 1, 1, 0, 2, 3]]] * 3]).reshape(1, 3, 1, 6),
    "updates1": rand(1, 3, 1, 6),
    "scale": np.float32(0.05).reshape(()),
    "lengths": ints(1, 3, 2),
    "parts": ints(3, 1),
    "four0": np.array(4),
    "one0": np.array(1),
    "minus1": np.array(-1),
    "zp": np.array(3, np.uint8),
}


@pytest.mark.parametrize("form", OLD_FORMS)
def test_operator(form: str) -> None:
    opset, nodes = OLD_FORMS[form]
    used = {name for entry in nodes for name in entry.input}
    constants = {name: value for name, value in OLD_CONSTANTS.items() if name in used}
    shape = [3, 3, 4] if "lengths" in used else [1, 3, 4, 6]
    recording = converted(model(nodes, {"x": shape}, ["y"], constants, opset))
    if "lengths" in used:
        encloses(recording)


def test_one_hot_of_argmax() -> None:
    data = model(
        [node("ArgMax", "x", "i", axis=1, keepdims=0), node("OneHot", "i depth values", "y", axis=1)],
        {"x": [1, 5]},
        ["y"],
        {"depth": np.array(5), "values": [0.0, 1.0]},
    )
    converted(data)


def test_limits_of_clip_that_depend_on_the_input() -> None:
    data = model([node("Clip", "x low high", "y")], {"x": [3], "low": [], "high": []}, ["y"])
    assert ops(convert_model(data, "test")) == ["aten.maximum.default", "aten.minimum.default"]


def test_a_window_at_a_place_that_the_input_decides() -> None:
    data = model(
        [
            node("Cast", "x", "p", to=INT64),
            node("Add", "p two", "q"),
            node("Slice", "data p q axis", "y"),
        ],
        {"x": [1]},
        ["y"],
        {"two": ints(2), "data": rand(6, 3), "axis": ints(0)},
    )
    recording = convert_model(data, "test")
    table = torch.from_numpy(rand(6, 3))
    torch.testing.assert_close(replay(recording, [torch.tensor([3.7])])[0], table[3:5])
    with pytest.raises((IndexError, RuntimeError), match="index"):
        replay(recording, [torch.tensor([5.0])])  # the window leaves the table


def test_a_slice_that_leaves_its_tensor_writes_nowhere() -> None:
    """As onnxruntime has it: the slice is shorter there. So do the graph and its bounds."""
    data = model(
        [
            node("Cast", "x", "p", to=INT64),
            node("Add", "p one", "q"),
            node("Slice", "range p q axis", "i"),
            node("Shape", "i", "shape"),
            node("Expand", "value shape", "updates"),
            node("Unsqueeze", "i axis1", "places"),
            node("ScatterND", "base places updates", "y"),
        ],
        {"x": [1]},
        ["y"],
        {"one": ints(1), "range": ints(0, 1, 2), "axis": ints(0), "axis1": ints(1), "value": [7.0], "base": rand(3)},
    )
    recording = convert_model(data, "test")
    graph = simplify(lower(recording, RULES))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for place in (0.2, 1.5, 2.0, 3.0, 5.5):
        x = torch.tensor([place])
        (expected,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(replay(recording, [x])[0].numpy(), expected)
        np.testing.assert_allclose(graph.forward(x.double().unsqueeze(0))[0].numpy(), expected, 1e-6)
    outside = bound_nodes(graph, Interval(torch.tensor([[3.5]]).double(), torch.tensor([[9.0]]).double()), "ibp")[-1]
    np.testing.assert_allclose(outside.lower[0].numpy(), rand(3), 1e-6)
    anywhere = bound_nodes(graph, Interval(torch.tensor([[0.0]]).double(), torch.tensor([[9.0]]).double()), "ibp")[-1]
    assert bool((anywhere.upper >= 7 - 1e-9).all()) and bool((anywhere.lower <= outside.lower + 1e-9).all())
