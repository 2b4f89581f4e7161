"""A network ready for bounding: the recording of a model file and its graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

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

    @property
    def in_single_precision(self) -> np.ndarray:
        """``(inputs,)``: which of the flat inputs are in single precision."""
        inputs = self.recording.inputs
        return np.repeat([spec.dtype == torch.float32 for spec in inputs], [math.prod(spec.shape) for spec in inputs])


def load_network(path: str | Path) -> Network:
    """Loads an ONNX file.

    Raises:
        ModelError: the file cannot be read or disagrees with onnxruntime.
        UnsupportedOperator: an operation without a bound rule, with its node.
    """
    recording = load_recording(path)
    return Network(Path(path), recording, simplify(lower(recording, RULES)))
