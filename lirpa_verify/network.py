"""A network ready for bounding: the recording of a model file and its graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load import load_recording
from lirpa_verify.load.recording import Recording


@dataclass(frozen=True)
class Network:
    """`graph` maps the flat inputs, in the order of the file, to the flat outputs, in float64."""

    model_path: Path
    recording: Recording
    graph: Graph


def load_network(path: str | Path) -> Network:
    """Loads an ONNX file.

    Raises:
        ModelError: the file cannot be read or disagrees with onnxruntime.
        UnsupportedOperator: an operation without a bound rule, with its node.
    """
    recording = load_recording(path)
    return Network(Path(path), recording, simplify(lower(recording, RULES)))
