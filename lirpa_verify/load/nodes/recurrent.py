"""RNN, GRU and LSTM, unrolled into their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction

_Activation = Callable[[Tensor], Tensor]
_ACTIVATIONS: Mapping[str, _Activation] = MappingProxyType(
    {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
)
# One step: (input part of the gates, weights R and bias of them, state) -> new state; the first entry is the output.
_Step = Callable[[Tensor, Tensor, Tensor, tuple[Tensor, ...], list[_Activation]], tuple[Tensor, ...]]


def _rnn_step(
    gates: Tensor, r: Tensor, bias: Tensor, state: tuple[Tensor, ...], f: list[_Activation]
) -> tuple[Tensor, ...]:
    return (f[0](gates + torch.addmm(bias, state[0], r)),)


def _lstm_step(
    gates: Tensor, r: Tensor, bias: Tensor, state: tuple[Tensor, ...], f: list[_Activation]
) -> tuple[Tensor, ...]:
    h, c = state
    i, o, forget, new = torch.split_with_sizes(gates + torch.addmm(bias, h, r), [c.shape[-1]] * 4, -1)
    c = f[0](forget) * c + f[0](i) * f[1](new)
    return f[0](o) * f[2](c), c


def _gru_step(
    gates: Tensor, r: Tensor, bias: Tensor, state: tuple[Tensor, ...], f: list[_Activation]
) -> tuple[Tensor, ...]:
    (h,) = state
    size = h.shape[-1]
    x_zr, x_h = torch.split_with_sizes(gates, [2 * size, size], -1)
    update, reset = torch.split_with_sizes(
        f[0](x_zr + torch.addmm(bias[: 2 * size], h, r[:, : 2 * size])), [size, size], -1
    )
    new = f[1](x_h + torch.addmm(bias[2 * size :], reset * h, r[:, 2 * size :]))
    return ((1 - update) * new + update * h,)


def _gru_step_linear_before_reset(
    gates: Tensor, r: Tensor, bias: Tensor, state: tuple[Tensor, ...], f: list[_Activation]
) -> tuple[Tensor, ...]:
    (h,) = state
    size = h.shape[-1]
    x_zr, x_h = torch.split_with_sizes(gates, [2 * size, size], -1)
    h_zr, h_h = torch.split_with_sizes(torch.addmm(bias, h, r), [2 * size, size], -1)
    update, reset = torch.split_with_sizes(f[0](x_zr + h_zr), [size, size], -1)
    return ((1 - update) * f[1](x_h + reset * h_h) + update * h,)


@dataclass(frozen=True)
class _Kind:
    step: _Step
    gates: int
    states: int
    activations: tuple[str, ...]


def _rnn(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> list[Tensor]:
    return _recurrent(node, _Kind(_rnn_step, 1, 1, ("tanh",)), x, w, r, rest)


def _gru(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> list[Tensor]:
    step = _gru_step_linear_before_reset if node.get("linear_before_reset", 0) else _gru_step
    return _recurrent(node, _Kind(step, 3, 1, ("sigmoid", "tanh")), x, w, r, rest)


def _lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> list[Tensor]:
    if len(rest) > 4 and rest[4] is not None:
        raise node.unsupported("peepholes")
    return _recurrent(node, _Kind(_lstm_step, 4, 2, ("sigmoid", "tanh", "tanh")), x, w, r, rest[:4])


def _recurrent(node: Node, kind: _Kind, x: Tensor, w: Tensor, r: Tensor, rest: Sequence[Tensor | None]) -> list[Tensor]:
    """The outputs (all states, last state, for LSTM last cell) of a recurrent node."""
    bias, lengths, *initial = list(rest) + [None] * (4 - len(rest))
    step, gates, states, default = kind.step, kind.gates, kind.states, list(kind.activations)
    directions, batch_first = w.shape[0], bool(node.get("layout", 0))
    x = x.permute(1, 0, 2) if batch_first else x
    _refuse_rare(node, lengths, x)
    size = r.shape[-1]
    names = [name.lower() for name in node.get("activations", default * directions)]
    if any(name not in _ACTIVATIONS for name in names):
        raise node.unsupported(f"activations {names}")
    functions = [_ACTIVATIONS[name] for name in names]
    sequences, last = [], []
    for d in range(directions):
        part = bias[d] if bias is not None else torch.zeros(2 * gates * size, dtype=x.dtype)
        state = tuple(_initial(value, d, x, size, batch_first) for value in initial[:states])
        backwards = node.get("direction", "forward") == "reverse" or d == 1
        order = range(x.shape[0] - 1, -1, -1) if backwards else range(x.shape[0])
        outputs: dict[int, Tensor] = {}
        for t in order:
            gate_input = torch.addmm(part[: gates * size], torch.select(x, 0, t), w[d].t())
            chosen = functions[d * len(default) : (d + 1) * len(default)]
            state = step(gate_input, r[d].t(), part[gates * size :], state, chosen)
            outputs[t] = state[0]
        sequences.append(torch.stack([outputs[t] for t in range(x.shape[0])]))
        last.append(state)
    everything = torch.stack(sequences, 1)  # (time, direction, batch, hidden)
    everything = everything.permute(2, 0, 1, 3) if batch_first else everything
    ends = [torch.stack([state[i] for state in last], 1 if batch_first else 0) for i in range(states)]
    return [everything, *ends]


def _refuse_rare(node: Node, lengths: Tensor | None, x: Tensor) -> None:
    if lengths is not None and any(length != x.shape[0] for length in node.integers(lengths, "lengths") or []):
        raise node.unsupported("sequences of different lengths")
    for attribute in ("clip", "input_forget", "activation_alpha", "activation_beta"):
        if node.get(attribute):
            raise node.unsupported(f"attribute {attribute}")


def _initial(value: Tensor | None, direction: int, x: Tensor, size: int, batch_first: bool) -> Tensor:
    if value is None:
        return torch.zeros(x.shape[1], size, dtype=x.dtype)
    return torch.select(value, 1 if batch_first else 0, direction)


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType({"RNN": _rnn, "GRU": _gru, "LSTM": _lstm})
