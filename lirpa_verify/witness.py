"""Replays candidate witnesses with onnxruntime on the original file; only what holds there counts.

A verifier's own arithmetic is never trusted for a `sat`: the outputs are computed by another
runtime from the file that the user gave, and the property is evaluated on those exactly.
"""

from __future__ import annotations

import gzip
import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lirpa_verify.errors import ModelError
from lirpa_verify.memory import allocation_failed
from lirpa_verify.verdict import Witness
from vnnlib.property import Property

_ELEMENT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_GZIP_MAGIC = b"\x1f\x8b"


class Model(Protocol):
    """What a witness is confirmed with."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of the inputs."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Flat outputs at a flat input."""


class Replayer:
    """An onnxruntime session on a model file, for as many candidates as one likes.

    Inputs are flat vectors: all inputs of the network in the file's order (initialisers left out),
    each in row-major order, unknown extents taken as 1. Outputs likewise.
    """

    def __init__(self, model_path: str | Path) -> None:
        import onnxruntime  # only runs that find a candidate need it

        self._path = str(model_path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: what matters is raised
        options.intra_op_num_threads = 1  # the search needs the other cores, and waits for nobody here
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                _session_source(Path(model_path)), options, providers=["CPUExecutionProvider"]
            )
            self._inputs = [_declared(node) for node in self._session.get_inputs()]
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime raises classes of its own that derive from Exception alone
            raise ModelError(f"{model_path}: onnxruntime cannot load it: {error}") from error

    @property
    def n_inputs(self) -> int:
        return sum(math.prod(shape) for _, shape, _ in self._inputs)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of the inputs (of the widest, should they differ)."""
        return np.result_type(*(dtype for _, _, dtype in self._inputs))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The network's outputs at `x`, flat, in their own element type."""
        x = np.asarray(x).ravel()
        if x.size != self.n_inputs:
            raise ValueError(f"{x.size} values for a network with {self.n_inputs} inputs")
        feeds, used = {}, 0
        for name, shape, dtype in self._inputs:
            size = math.prod(shape)
            feeds[name] = x[used : used + size].astype(dtype).reshape(shape)
            used += size
        try:
            outputs = self._session.run(None, feeds)
        except Exception as error:  # again its own classes, also where memory runs out
            if allocation_failed(error):
                raise MemoryError(str(error)) from error
            raise ModelError(f"{self._path}: onnxruntime cannot run it: {error}") from error
        return np.concatenate([np.asarray(output).ravel() for output in outputs])


def replay(model_path: str | Path, x: np.ndarray) -> np.ndarray:
    """The outputs of the model file at one point. For many points keep a `Replayer`."""
    return Replayer(model_path)(x)


def confirm(replayer: Model, property: Property, x: np.ndarray) -> Witness | None:
    """The witness at `x` (moved into the nearest input box), or None if the property fails there.

    Boxes are rounded to the network's element type, to nearest: the point that a checker reads is
    rounded in the same way. Where the same violation also survives rounding the box inwards, that
    point is preferred, as it lies within the bounds under either reading.
    """
    lower, upper = _nearest_box(property, np.asarray(x, dtype=np.float64).ravel())
    nearest = np.clip(np.asarray(x).ravel(), lower, upper).astype(replayer.dtype)
    nearest = np.clip(nearest, lower.astype(replayer.dtype), upper.astype(replayer.dtype))
    witness = _check(replayer, property, nearest)
    if witness is None:
        return None
    inner = _clip_inwards(nearest, lower, upper)
    if np.array_equal(inner, nearest):
        return witness
    return _check(replayer, property, inner) or witness


def _session_source(path: Path) -> str | bytes:
    """The file's name, or its unpacked content if it is compressed (whatever its suffix says)."""
    if not path.exists():
        path = path.with_name(path.name + ".gz")
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    return gzip.decompress(path.read_bytes()) if compressed else str(path)


def _declared(node: Any) -> tuple[str, tuple[int, ...], type[Any]]:
    if node.type not in _ELEMENT_TYPES:
        raise ValueError(f"input {node.name} has element type {node.type}")
    shape = tuple(extent if isinstance(extent, int) and extent > 0 else 1 for extent in node.shape)
    return node.name, shape, _ELEMENT_TYPES[node.type]


def _nearest_box(property: Property, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if property.n_boxes == 1:
        return property.lower[0], property.upper[0]
    outside = np.maximum(np.maximum(property.lower - x, x - property.upper), 0.0)
    reachable = (property.lower <= property.upper).all(axis=1)
    box = int(np.argmin(np.where(reachable, outside.max(axis=1, initial=0.0), np.inf)))
    return property.lower[box], property.upper[box]


def _clip_inwards(x: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Move `x` to representable values inside the bounds, where there are any."""
    up, down = x.dtype.type(np.inf), x.dtype.type(-np.inf)
    low, high = lower.astype(x.dtype), upper.astype(x.dtype)
    low = np.where(low.astype(np.float64) < lower, np.nextafter(low, up), low)
    high = np.where(high.astype(np.float64) > upper, np.nextafter(high, down), high)
    return np.where(low <= high, np.clip(x, low, np.maximum(low, high)), x)


def _check(replayer: Model, property: Property, x: np.ndarray) -> Witness | None:
    y = replayer(x)
    return Witness(x, y) if y.size == property.n_outputs and holds(property, x, y) else None


def holds(property: Property, x: np.ndarray, y: np.ndarray) -> bool:
    """Does some disjunct hold? In float64 for all of them at once, then exactly for one that seems to.

    Boxes are rounded to the type of `x`.
    """
    values = np.concatenate([x.astype(np.float64), y.astype(np.float64)])
    within = (property.lower.astype(x.dtype) <= x) & (x <= property.upper.astype(x.dtype))
    inside: np.ndarray = np.asarray(within.all(axis=1))
    inside &= (property.lower <= property.upper).all(axis=1)
    terms = property.coefficient * values[property.variable]
    sums = _segment_sums(terms, property.term_start)
    true = np.where(property.strict, sums < property.rhs, sums <= property.rhs)
    false_rows = _segment_sums((~true).astype(np.float64), property.row_start)
    candidates = np.flatnonzero(inside[property.box] & (false_rows == 0))
    return any(_holds_exactly(property, int(disjunct), values) for disjunct in candidates)


def _segment_sums(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Sums of `values[start[i]:start[i+1]]`; adding up one segment never touches another's rounding."""
    sums = np.zeros(len(start) - 1)
    np.add.at(sums, np.repeat(np.arange(len(sums)), np.diff(start)), values)
    return sums


def _holds_exactly(property: Property, disjunct: int, values: np.ndarray) -> bool:
    for row in range(property.row_start[disjunct], property.row_start[disjunct + 1]):
        terms = slice(property.term_start[row], property.term_start[row + 1])
        involved = values[property.variable[terms]]
        if not np.isfinite(involved).all():
            return False
        pairs = zip(property.coefficient[terms].tolist(), involved.tolist(), strict=True)
        excess = sum((Fraction(c) * Fraction(v) for c, v in pairs), Fraction(0)) - Fraction(float(property.rhs[row]))
        if excess > 0 or (excess == 0 and property.strict[row]):
            return False
    return True
