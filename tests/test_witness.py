"""A witness is only what onnxruntime confirms on the original file, exactly."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lirpa_verify.errors import ModelError
from lirpa_verify.witness import Replayer, confirm, replay
from vnnlib.property import Property

FLOAT32_OF_03 = float(np.float32(0.3))  # a little more than 0.3


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list, outputs: list, constants: dict) -> Path:
    initialisers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def value(name: str, shape: list, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """y = x for two numbers."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return save(tmp_path / "identity.onnx", nodes, [value("x", [1, 2])], [value("y", [1, 2])], {})


def rows(boxes: list[tuple[list[float], list[float]]], disjuncts: list[tuple[int, list]], n: int = 2) -> Property:
    """A property over n inputs and n outputs; a row is (terms as {variable: coefficient}, rhs, strict)."""
    all_rows = [row for _, conjunction in disjuncts for row in conjunction]
    terms = [term for terms, _, _ in all_rows for term in terms.items()]
    counts = [len(conjunction) for _, conjunction in disjuncts]
    return Property(
        n_inputs=n,
        n_outputs=n,
        lower=np.array([low for low, _ in boxes], dtype=np.float64),
        upper=np.array([high for _, high in boxes], dtype=np.float64),
        box=np.array([box for box, _ in disjuncts], dtype=np.int64),
        row_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        term_start=np.concatenate([[0], np.cumsum([len(terms) for terms, _, _ in all_rows])]).astype(np.int64),
        variable=np.array([variable for variable, _ in terms], dtype=np.int64),
        coefficient=np.array([coefficient for _, coefficient in terms], dtype=np.float64),
        rhs=np.array([rhs for _, rhs, _ in all_rows], dtype=np.float64),
        strict=np.array([strict for _, _, strict in all_rows], dtype=bool),
    )


UNIT = ([0.0, 0.0], [1.0, 1.0])


def test_replay_concatenates_inputs_and_outputs_and_skips_initialisers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["a", "w"], ["sum"]),
        helper.make_node("Mul", ["b", "two"], ["double"]),
    ]
    inputs = [value("w", [2, 2]), value("a", ["batch", 2, 2]), value("b", [None, 3])]  # w is an initialiser
    outputs = [value("sum", ["batch", 2, 2]), value("double", [None, 3])]
    constants = {"w": np.array([[1, 2], [3, 4]], dtype=np.float32), "two": np.array([2], dtype=np.float32)}
    path = save(tmp_path / "two.onnx", nodes, inputs, outputs, constants)
    replayer = Replayer(path)
    assert (replayer.n_inputs, replayer.dtype) == (7, np.float32)
    assert replayer(np.zeros(7)).tolist() == [1, 2, 3, 4, 0, 0, 0]
    assert replayer(np.arange(7)).tolist() == [1, 3, 5, 7, 8, 10, 12]
    with pytest.raises(ValueError, match="7 inputs"):
        replayer(np.zeros(6))


@pytest.mark.parametrize("name", ["net.onnx.gz", "misnamed.onnx"])
def test_a_compressed_model_is_recognised_by_its_content(identity: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(identity.read_bytes()))
    asked = tmp_path / name.removesuffix(".gz")
    assert replay(asked, np.array([0.5, 0.25])).tolist() == [0.5, 0.25]


@pytest.mark.parametrize("content", [b"", b"no model", b"\x1f\x8bnot gzip either"])
def test_a_broken_model_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        Replayer(path)


def test_a_double_model_keeps_its_digits(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    double = TensorProto.DOUBLE
    path = save(tmp_path / "d.onnx", nodes, [value("x", [2], double)], [value("y", [2], double)], {})
    witness = confirm(Replayer(path), rows([UNIT], [(0, [({2: 1.0}, 0.3, False)])]), np.array([0.3, 0.1]))
    assert witness is not None
    assert (witness.x.dtype, witness.y.tolist()) == (np.float64, [0.3, 0.1])


def test_outputs_are_compared_without_tolerance(identity: Path) -> None:
    replayer = Replayer(identity)
    at = np.array([0.3, 0.5])  # the network computes float32(0.3), which is more than 0.3
    assert confirm(replayer, rows([UNIT], [(0, [({2: 1.0}, 0.3, False)])]), at) is None
    assert confirm(replayer, rows([UNIT], [(0, [({2: 1.0}, FLOAT32_OF_03, False)])]), at) is not None
    assert confirm(replayer, rows([UNIT], [(0, [({2: 1.0}, FLOAT32_OF_03, True)])]), at) is None  # strict


def test_ties_count_and_strict_ties_do_not(identity: Path) -> None:
    replayer = Replayer(identity)
    at = np.array([0.5, 0.5])
    assert confirm(replayer, rows([UNIT], [(0, [({2: 1.0, 3: -1.0}, 0.0, False)])]), at) is not None
    assert confirm(replayer, rows([UNIT], [(0, [({2: 1.0, 3: -1.0}, 0.0, True)])]), at) is None


def test_a_point_outside_is_moved_into_the_box(identity: Path) -> None:
    witness = confirm(Replayer(identity), rows([UNIT], [(0, [({2: -1.0}, -1.0, False)])]), np.array([7.0, -7.0]))
    assert witness is not None
    assert witness.x.tolist() == [1.0, 0.0]


def test_a_pinned_input_is_the_nearest_float32(identity: Path) -> None:
    prop = rows([([0.3, 0.0], [0.3, 1.0])], [(0, [({3: 1.0}, 1.0, False)])])
    witness = confirm(Replayer(identity), prop, np.array([0.3, 0.5]))
    assert witness is not None
    assert witness.x[0] == np.float32(0.3)


def test_a_bound_is_respected_exactly_where_float32_allows(identity: Path) -> None:
    prop = rows([([0.0, 0.0], [0.3, 1.0])], [(0, [({2: -1.0}, -0.2, False)])])
    witness = confirm(Replayer(identity), prop, np.array([0.9, 0.5]))
    assert witness is not None
    assert 0.2999 < float(witness.x[0]) <= 0.3
    # and where only the corner itself violates, the rounded corner is still a witness
    prop = rows([([0.0, 0.0], [0.3, 1.0])], [(0, [({2: -1.0}, -FLOAT32_OF_03, False)])])
    witness = confirm(Replayer(identity), prop, np.array([0.9, 0.5]))
    assert witness is not None
    assert witness.x[0] == np.float32(0.3)


def test_box_and_rows_of_one_disjunct_must_hold_together(identity: Path) -> None:
    boxes = [([0.0, 0.0], [0.2, 0.2]), ([0.8, 0.8], [1.0, 1.0])]
    high, low = [({2: -1.0}, -0.5, False)], [({2: 1.0}, 0.5, False)]  # y_0 >= 0.5, y_0 <= 0.5
    replayer = Replayer(identity)
    crossed = rows(boxes, [(0, high), (1, low)])
    matched = rows(boxes, [(0, high), (1, high)])
    for at in (np.array([0.1, 0.1]), np.array([0.9, 0.9])):
        assert confirm(replayer, crossed, at) is None
    assert confirm(replayer, matched, np.array([0.1, 0.1])) is None
    assert confirm(replayer, matched, np.array([0.9, 0.9])) is not None


def test_rows_over_inputs_and_outputs_and_a_disjunct_without_rows(identity: Path) -> None:
    replayer = Replayer(identity)
    mixed = rows([UNIT], [(0, [({0: 1.0, 3: -1.0}, 0.0, True)])])  # x_0 < y_1
    assert confirm(replayer, mixed, np.array([0.1, 0.2])) is not None
    assert confirm(replayer, mixed, np.array([0.2, 0.1])) is None
    assert confirm(replayer, rows([UNIT], [(0, [])]), np.array([0.2, 0.1])) is not None


def test_an_empty_box_holds_nothing(identity: Path) -> None:
    empty = ([0.5, 0.5], [0.4, 0.6])
    assert confirm(Replayer(identity), rows([empty], [(0, [])]), np.array([0.45, 0.5])) is None
    both = rows([empty, UNIT], [(0, []), (1, [({2: 1.0}, 0.1, False)])])
    assert confirm(Replayer(identity), both, np.array([0.45, 0.5])) is None
    assert confirm(Replayer(identity), both, np.array([0.05, 0.5])) is not None


def test_sums_are_exact(identity: Path) -> None:
    """1e17 * y_0 + 1 * y_1 - 1e17 * x_0 <= 0.2 is false at y_1 = 0.5, though float64 sums lose the 0.5."""
    prop = rows([UNIT], [(0, [({2: 1e17, 3: 1.0, 0: -1e17}, 0.2, False)])])
    assert confirm(Replayer(identity), prop, np.array([0.5, 0.5])) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_prove_nothing(tmp_path: Path, bad: float) -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    constants = {"w": np.array([[bad, bad]], dtype=np.float32)}
    path = save(tmp_path / "bad.onnx", nodes, [value("x", [1, 2])], [value("y", [1, 2])], constants)
    for sign in (1.0, -1.0):
        assert confirm(Replayer(path), rows([UNIT], [(0, [({2: sign}, 0.0, False)])]), np.zeros(2)) is None
