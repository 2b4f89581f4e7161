"""Whatever happens to the process of an instance becomes that instance's row, and the next one is run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import bench_helpers
import numpy as np
import onnx
import pytest
from bench_helpers import EXAMPLES, task
from onnx import TensorProto, helper, numpy_helper

from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.warm import warm_workers

FRAGILE = EXAMPLES / "digits_fragile.vnnlib"
DIGITS = EXAMPLES / "digits.onnx"


def run(work: Callable[..., None] | None, *, timeout: float = 5.0, memory: int | None = None, **files: object) -> Row:
    workers = warm_workers(Effort(memory=memory), *([work] if work else []))
    names = {"model": str(files.get("model", DIGITS)), "prop": str(files.get("prop", FRAGILE))}
    return workers(task(timeout=timeout, **names))


@pytest.mark.parametrize(
    ("fault", "verdict", "detail"),
    [
        (bench_helpers.killed, "crash", "was killed"),
        (bench_helpers.segfault, "crash", "SIGSEGV"),
    ],
)
def test_workers_that_die(fault: Callable[..., None], verdict: str, detail: str) -> None:
    row = run(fault)
    assert (row.verdict, detail in row.detail) == (verdict, True)
    assert row.seconds < 4


def test_a_worker_that_ignores_its_deadline(tmp_path: Path) -> None:
    (tmp_path / "prop.vnnlib").write_text("")
    row = run(bench_helpers.hold_lock, timeout=1.0, prop=tmp_path / "prop.vnnlib")
    assert (row.verdict, row.detail) == ("timeout", "the time is up")
    assert row.seconds <= 1.0


def test_a_worker_that_eats_the_memory() -> None:
    row = run(bench_helpers.hog, memory=1 << 30, timeout=30.0)
    assert row.verdict == "memout"
    assert "out of memory" in row.detail


def test_a_model_that_needs_more_memory_than_the_limit(tmp_path: Path) -> None:
    """Its layer has 2 GB in float64; the limit of the kernel answers before the supervisor looks."""
    path = tmp_path / "wide.onnx"
    wide = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"]),
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("Expand", ["a", "shape"], ["e"]),
        helper.make_node("ReduceSum", ["e"], ["y"], keepdims=1),
    ]
    constants = [
        numpy_helper.from_array(np.eye(2, 1024, dtype=np.float32), "w"),
        numpy_helper.from_array(np.zeros(1024, dtype=np.float32), "b"),
        numpy_helper.from_array(np.array([1 << 18, 1024]), "shape"),
    ]
    graph = helper.make_graph(
        wide,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    prop = tmp_path / "prop.vnnlib"
    bounds = "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2))
    declared = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
    prop.write_text(f"{declared}{bounds}(assert (<= Y_0 -1))")
    row = run(None, model=path, prop=prop, memory=1 << 30, timeout=20.0)
    assert row.verdict == "memout", row


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no model")
    row = run(None, model=broken)
    assert (row.verdict, "broken.onnx" in row.detail) == ("error", True)
    row = run(None, model=tmp_path / "nothing.onnx")
    assert (row.verdict, row.detail) == ("error", f"{tmp_path}/nothing.onnx: no such file")
    row = run(None, prop=EXAMPLES / "digits.onnx")
    assert (row.verdict, "digits.onnx" in row.detail) == ("error", True)


def test_the_server_of_the_workers_is_replaced_when_it_dies(tmp_path: Path) -> None:
    """The instance that it takes with it is a row; the next one finds a new server."""
    prop = tmp_path / "prop.vnnlib"
    prop.write_text("")
    workers = warm_workers(Effort(), bench_helpers.hold_lock)
    server = _server()

    def kill() -> None:
        while not (tmp_path / "prop.vnnlib.begun").exists():
            time.sleep(0.02)
        os.kill(server, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    row = workers(task(model=str(DIGITS), prop=str(prop), timeout=60.0))
    assert row.verdict == "crash"
    assert row.seconds < 30
    assert run(None, timeout=30.0).verdict == "sat"
    assert _server() != server


def _server() -> int:
    from multiprocessing import forkserver

    return forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined, no-any-return]


def test_a_warm_instance_is_right_and_its_witness_is_kept() -> None:
    row = run(None, timeout=30.0)
    assert row.verdict == "sat"
    assert row.witness.startswith("((X_0 ")
    assert row.prepare_seconds is not None
    assert run(None, prop=EXAMPLES / "digits_robust.vnnlib", timeout=30.0).verdict == "unsat"


def test_a_model_is_prepared_once() -> None:
    workers = warm_workers(Effort())
    first = workers(task(model=str(DIGITS), prop=str(FRAGILE), timeout=30.0))
    second = workers(task(model=str(DIGITS), prop=str(FRAGILE), timeout=30.0))
    assert first.prepare_seconds is not None and first.prepare_seconds > 0
    assert second.prepare_seconds == 0


def test_an_answer_after_the_time_is_a_timeout() -> None:
    from lirpa_verify.bench.warm import row_of
    from lirpa_verify.messages import Answer

    row = row_of(Answer("unsat"), seconds=5.1, timeout=5.0, prepare_seconds=0.0)
    assert (row.verdict, row.detail) == ("timeout", "answered unsat after the time was up")
    assert time.time() - row.finished < 60
