"""RNN, GRU and LSTM of ONNX in all their forms: as onnxruntime computes them, and bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recorded_models import converted, encloses, model, node, rand


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent(op: str, direction: str) -> None:
    gates, both = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1
    attributes = {"linear_before_reset": 1} if op == "GRU" else {}
    data = model(
        [node(op, "x w r b", "y h", hidden_size=3, direction=direction, **attributes)],
        {"x": [4, 1, 2]},
        ["y", "h"],
        {"w": rand(both, gates * 3, 2), "r": rand(both, gates * 3, 3), "b": rand(both, gates * 6)},
        14,
    )
    converted(data)


RARE_FORMS: dict[str, tuple[str, int, dict[str, Any], str]] = {
    "lstm with peepholes": ("LSTM", 2, {"direction": "bidirectional"}, "x w r b - - - p"),
    "lstm, clipped": ("LSTM", 1, {"clip": 0.3}, "x w r b - - - p"),
    "lstm, coupled": ("LSTM", 1, {"input_forget": 1}, "x w r b"),
    "lstm, shorter sequences": ("LSTM", 2, {"direction": "bidirectional"}, "x w r b lengths h0 h0"),
    "lstm, other functions": (
        "LSTM",
        1,
        {"activations": ["HardSigmoid", "Softsign", "ScaledTanh"], "activation_alpha": [0.3, 1.5]}
        | {"activation_beta": [0.4, 0.7]},
        "x w r b",
    ),
    "gru, clipped": ("GRU", 1, {"clip": 0.3}, "x w r b"),
    "gru, clipped, linear before reset": ("GRU", 1, {"clip": 0.3, "linear_before_reset": 1}, "x w r b"),
    "gru, shorter sequences backwards": ("GRU", 1, {"direction": "reverse"}, "x w r - lengths h0"),
    "gru, other functions": ("GRU", 1, {"activations": ["HardSigmoid", "LeakyRelu"]}, "x w r b"),
    "rnn, other functions": (
        "RNN",
        2,
        {"activations": ["Affine", "Elu"], "activation_alpha": [0.5, 0.3], "activation_beta": [0.1]}
        | {"direction": "bidirectional"},
        "x w r b",
    ),
    "rnn, shorter sequences, clipped": ("RNN", 1, {"clip": 0.4, "activations": ["Softplus"]}, "x w r b lengths"),
    "rnn, thresholded": ("RNN", 1, {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}, "x w r b"),
}


@pytest.mark.parametrize("form", RARE_FORMS)
def test_recurrent_in_rare_forms(form: str) -> None:
    op, both, attributes, inputs = RARE_FORMS[form]
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    constants = {
        "w": rand(both, gates * 3, 2),
        "r": rand(both, gates * 3, 3),
        "b": rand(both, gates * 6),
        "p": rand(both, 9),
        "h0": rand(both, 2, 3),
        "lengths": np.array([2, 4], np.int32),
    }
    constants = {name: value for name, value in constants.items() if name in inputs.split()}
    data = model([node(op, inputs, "y h", hidden_size=3, **attributes)], {"x": [4, 2, 2]}, ["y", "h"], constants, 14)
    encloses(converted(data))
