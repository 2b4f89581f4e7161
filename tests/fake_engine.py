"""The real worker over a fake engine: stand-ins for torch, the parser, the loader and the strategy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from lirpa_verify import worker
from lirpa_verify.errors import LirpaError, ModelError, UnsupportedOperator
from lirpa_verify.messages import Job
from lirpa_verify.verdict import Progress, Result, Witness


class VnnlibError(Exception):
    """As the parser's."""


class UnsupportedVnnlib(VnnlibError):
    """As the parser's."""


class OutOfMemoryError(RuntimeError):
    """As torch's."""


def work(job: Job, connection: Connection) -> None:
    """Run the worker while the engine does what the environment variable FAKE_ENGINE says."""
    for name, module in _modules(os.environ["FAKE_ENGINE"]).items():
        sys.modules[name] = module
    worker.work(job, connection)


def _modules(what: str) -> dict[str, ModuleType]:
    spec = SimpleNamespace(shape=(1, 3))
    recording = SimpleNamespace(inputs=(spec, SimpleNamespace(shape=())), output_specs=(SimpleNamespace(shape=(2,)),))
    n_outputs = 3 if what == "mismatch" else 2
    prop = SimpleNamespace(n_inputs=4, n_outputs=n_outputs)
    return {
        "torch": _module(OutOfMemoryError=OutOfMemoryError, cuda=SimpleNamespace(is_available=lambda: False)),
        "vnnlib": _module(
            VnnlibError=VnnlibError,
            UnsupportedVnnlib=UnsupportedVnnlib,
            read_query=_raising(what, "property", (prop, None)),
        ),
        "lirpa_verify.network": _module(
            load_network=_raising(what, "model", SimpleNamespace(recording=recording, model_path="model.onnx"))
        ),
        "lirpa_verify.strategy": _module(
            Options=SimpleNamespace, verify=_verify(what), output_ranges=lambda *_: (np.zeros(2), np.array([1, np.inf]))
        ),
    }


def _module(**contents: Any) -> ModuleType:
    module = ModuleType("fake")
    vars(module).update(contents)
    return module


_RAISED: dict[str, tuple[str, BaseException]] = {
    "syntax": ("property", VnnlibError("line 3, column 7: expected a number")),
    "unsupported-property": ("property", UnsupportedVnnlib("line 3: a product of two variables")),
    "unreadable": ("property", PermissionError(13, "Permission denied")),
    "malformed": ("model", ModelError("not an ONNX file")),
    "unsupported-load": ("model", UnsupportedOperator("Foo", "bar")),
    "unsupported": ("verify", UnsupportedOperator("Foo", "bar", "axis 3")),
    "memory": ("verify", MemoryError()),
    "torch-cpu-memory": ("verify", RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")),
    "torch-cuda-memory": ("verify", OutOfMemoryError("CUDA out of memory")),
    "bug": ("verify", KeyError("alpha")),
    "other": ("verify", LirpaError("something else to tell")),
}


def _raising(what: str, place: str, result: Any) -> Callable[..., Any]:
    def call(*_arguments: Any) -> Any:
        if what in _RAISED and _RAISED[what][0] == place:
            raise _RAISED[what][1]
        return result

    return call


def _verify(what: str) -> Callable[..., Result]:
    def verify(_network: Any, _prop: Any, deadline: Any, _options: Any, report: Any) -> Result:
        _raising(what, "verify", None)()
        report(Progress("alpha-crown", open=np.int64(3), worst=np.float64(-0.5)))  # type: ignore[arg-type]
        if what in ("sat32", "sat64"):
            dtype = np.float64 if what == "sat64" else np.float32
            return Result("sat", Witness(np.array([0.1, 1 / 3, -0.0, 1e-30], dtype), np.array([1e10, 2.5], dtype)))
        if what == "sat-nothing":
            return Result("sat")
        return Result("unsat", statistics={"left": deadline.remaining(), "count": np.int64(3)})  # type: ignore[dict-item]

    return verify
