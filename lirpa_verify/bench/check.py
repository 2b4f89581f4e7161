"""Replays stored witnesses with onnxruntime on the original files, long after the run and apart from it.

Each outcome is one of the competition's: `exact` (inputs within their bounds, rounded to the network's
type as every reader of a witness does), `tolerance` (inputs within 1e-4 of them), `fails`,
`missing`, `malformed`; and `unusable` where the files cannot be read any more, which says nothing of the
witness. Outputs have no tolerance. What the witness says of the outputs is not believed; they are computed.
"""

from __future__ import annotations

import contextlib
import gzip
import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from lirpa_verify.bench.database import transaction
from lirpa_verify.files import named_models

if TYPE_CHECKING:
    from lirpa_verify.query.model import JoinedModel
    from lirpa_verify.witness import Replayer
    from vnnlib import Interface

TOLERANCE = 1e-4  # of inputs, absolute
_TIMEOUT = 600.0  # seconds for one witness


@dataclass(frozen=True)
class Witnessed:
    """A `sat` of a run, with its files and its witness."""

    task: int
    category: str
    onnx: str
    vnnlib: str
    model: str
    property: str
    witness: str


def witnesses(db: sqlite3.Connection, run: int) -> list[Witnessed]:
    rows = db.execute(
        "SELECT id, category, onnx, vnnlib, model, property, witness FROM task JOIN result ON task = id"
        " WHERE run = ? AND verdict = 'sat' ORDER BY id",
        (run,),
    )
    return [
        Witnessed(task, category, onnx, vnnlib, model, prop, gzip.decompress(packed).decode() if packed else "")
        for task, category, onnx, vnnlib, model, prop, packed in rows
    ]


def check_all(db: sqlite3.Connection, run: int) -> Iterator[tuple[Witnessed, str, str]]:
    """Check every witness of a run in a process apart, store what comes of it, and yield it with its detail."""
    replays = None
    try:
        for witnessed in witnesses(db, run):
            replays = replays or _Replays()
            outcome, detail = replays(witnessed)
            if not replays.process.is_alive():
                replays = None  # the next one gets a new process
            with transaction(db):
                fields = (witnessed.task, time.time(), outcome, detail)
                db.execute("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?)", fields)
            yield witnessed, outcome, detail
    finally:
        if replays is not None:
            replays.end()


class _Replays:
    """A process that replays one witness after the other, as long as it survives that."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def __call__(self, witnessed: Witnessed) -> tuple[str, str]:
        try:
            self._connection.send((witnessed.model, witnessed.property, witnessed.witness))
            if self._connection.poll(_TIMEOUT):
                outcome, detail = self._connection.recv()
                return outcome, detail
            why = f"the replay took more than {_TIMEOUT:g} s"
        except (EOFError, OSError):
            why = "the replay crashed"
        self.end()
        return "unusable", why

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(connection: Connection) -> None:
    with contextlib.suppress(EOFError):  # nobody has more to ask
        while True:
            connection.send(check(*connection.recv()))


def check(model: str, prop: str, witness: str) -> tuple[str, str]:
    """What the witness is worth, and why."""
    import vnnlib
    from lirpa_verify.bench.witness_text import MalformedWitness, read_assignment, read_witness
    from lirpa_verify.errors import LirpaError
    from lirpa_verify.witness import Replayer

    if not witness.strip():
        return "missing", ""
    try:
        query, interface = vnnlib.read_query(prop)
        if interface is None:
            x, said = read_witness(witness)
            replayer: Replayer | JoinedModel = Replayer(model)
        else:
            x, said = read_assignment(witness, interface)
            replayer = _joined(interface, model)
        if x.size != replayer.n_inputs:
            return "malformed", f"{x.size} inputs for a network with {replayer.n_inputs}"
        x = x.astype(replayer.dtype)
        y = replayer(x)
    except MalformedWitness as error:
        return "malformed", str(error)
    except (LirpaError, vnnlib.VnnlibError, OSError, ValueError, MemoryError) as error:
        return "unusable", f"{type(error).__name__}: {error}"
    computed = y if interface is None else y[: interface.n_outputs]
    off = float(np.abs(said - computed).max()) if said.size == computed.size else float("nan")
    detail = f"outputs differ from the written ones by {off:.3g}" if not off <= 1e-3 * np.abs(computed).max() else ""
    rounded = replace(query, lower=_as(query.lower, x.dtype), upper=_as(query.upper, x.dtype))
    if rounded.evaluate(x, y):
        return "exact", detail
    if rounded.evaluate(x, y, TOLERANCE):
        return "tolerance", detail
    return "fails", detail or "the property does not hold at the witness"


def _joined(interface: Interface, model: str) -> JoinedModel:
    """What computes the outputs of a query in VNN-LIB 2.0."""
    from lirpa_verify.query.fit import model_paths
    from lirpa_verify.query.model import JoinedModel

    return JoinedModel.of(interface, model_paths(interface, named_models(model)))


def _as(bounds: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return bounds.astype(dtype).astype(float)
