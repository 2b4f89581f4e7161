"""Every network of the shared benchmark families, and every operator test of the ONNX standard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from lirpa_verify.errors import LirpaError
from lirpa_verify.load import load_recording
from lirpa_verify.load.onnx_model import parse_model
from lirpa_verify.load.onnx_program import record_model
from lirpa_verify.load.replay import replay

NETWORKS = Path(__file__).resolve().parents[2] / "shared" / "vnncomp"


@pytest.mark.slow
@pytest.mark.skipif(not NETWORKS.is_dir(), reason="the benchmark networks are not here")
def test_every_benchmark_network_loads_and_agrees_with_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIRPA_VERIFY_CACHE", str(tmp_path))
    paths = sorted(NETWORKS.rglob("*.onnx*"))
    assert paths
    failed = {}
    for path in paths:
        try:
            first = load_recording(path)
            second = load_recording(path)
        except LirpaError as error:
            failed[f"{path.relative_to(NETWORKS)}"] = str(error)
            continue
        assert first.calls == second.calls
        assert all(torch.equal(a, b) for a, b in zip(first.constants, second.constants, strict=True))
    assert not failed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_operator_tests_of_the_standard() -> None:
    """No result may differ; what is not supported must say so."""
    from onnx.backend.test.case.node import collect_testcases

    passed, wrong = 0, []
    for case in collect_testcases(None):
        prepared = _prepare(case)
        if prepared is None:
            continue
        model, inputs, expected = prepared
        try:
            recording = record_model(parse_model(model.SerializeToString(), case.name), case.name)
        except LirpaError:
            continue
        results = [value.numpy() for value in replay(recording, inputs)]
        if _agree(results, expected):
            passed += 1
        else:
            wrong.append(case.name)
    # onnxruntime differs from the standard here, and so do we: it rounds the size before it aligns the corners.
    assert wrong == ["test_resize_downsample_scales_linear_align_corners"]
    assert passed > 1000


def _agree(results: list[Any], expected: list[Any]) -> bool:
    return all(
        got.shape == want.shape and np.allclose(got.astype(float), want.astype(float), 1e-4, 1e-3, equal_nan=True)
        for got, want in zip(results, expected, strict=True)
    )


def _prepare(case: Any) -> tuple[onnx.ModelProto, list[torch.Tensor], list[Any]] | None:
    """The model with its first float input (all of them for arithmetic) left open and the others made constants."""
    try:
        given, wanted = case.data_sets[0]
        arrays, expected = [np.asarray(value) for value in given], [np.asarray(value) for value in wanted]
    except (TypeError, ValueError, IndexError):
        return None  # sequences and optionals
    floats = [i for i, value in enumerate(arrays) if value.dtype in (np.float32, np.float64)]
    odd = any(value.dtype == object or 0 in value.shape for value in (*arrays, *expected))
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    if not floats or odd or len(arrays) != len(model.graph.input):
        return None
    arithmetic = {"Add", "Mul", "MatMul", "Max", "Min", "Where", "Pow", "Div"} & {n.op_type for n in model.graph.node}
    declared = list(model.graph.input)
    del model.graph.input[:]
    inputs = []
    for i, (value, array) in enumerate(zip(declared, arrays, strict=True)):
        if i == floats[0] or (arithmetic and i in floats):
            made = onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, array.shape)
            model.graph.input.append(made)
            inputs.append(torch.from_numpy(array.copy()))
        else:
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    return model, inputs, expected
