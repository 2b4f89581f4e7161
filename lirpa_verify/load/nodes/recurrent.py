"""RNN, GRU and LSTM, unrolled into their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from lirpa_verify.load.nodes.node import Node, NodeFunction
from lirpa_verify.load.nodes.recurrent_activations import Activation, activations, clipped

# One step: (input part of the gates, weights R and bias of them, state) -> new state; the first entry is the output.
_Step = Callable[[Tensor, Tensor, Tensor, tuple[Tensor, ...], list[Activation]], tuple[Tensor, ...]]


def _rnn_step(
    gates: Tensor, r: Tensor, bias: Tensor, state: tuple[Tensor, ...], f: list[Activation]
) -> tuple[Tensor, ...]:
    return (f[0](gates + torch.addmm(bias, state[0], r)),)


def _lstm_step(
    gates: Tensor,
    r: Tensor,
    bias: Tensor,
    state: tuple[Tensor, ...],
    f: list[Activation],
    peepholes: tuple[Tensor, ...] | None = None,
    coupled: bool = False,
) -> tuple[Tensor, ...]:
    """Peepholes let the input, output and forget gates see the cell; coupled, what is not let in is kept."""
    h, c = state
    i, o, forget, new = torch.split_with_sizes(gates + torch.addmm(bias, h, r), [c.shape[-1]] * 4, -1)
    if peepholes is not None:
        i, forget = i + peepholes[0] * c, forget + peepholes[2] * c
    i = f[0](i)
    kept = 1 - i if coupled else f[0](forget)
    c = kept * c + i * f[1](new)
    if peepholes is not None:
        o = o + peepholes[1] * c
    return f[0](o) * f[2](c), c


def _gru_step(
    gates: Tensor, r: Tensor, bias: Tensor, state: tuple[Tensor, ...], f: list[Activation]
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
    gates: Tensor, r: Tensor, bias: Tensor, state: tuple[Tensor, ...], f: list[Activation]
) -> tuple[Tensor, ...]:
    (h,) = state
    size = h.shape[-1]
    x_zr, x_h = torch.split_with_sizes(gates, [2 * size, size], -1)
    h_zr, h_h = torch.split_with_sizes(torch.addmm(bias, h, r), [2 * size, size], -1)
    update, reset = torch.split_with_sizes(f[0](x_zr + h_zr), [size, size], -1)
    return ((1 - update) * f[1](x_h + reset * h_h) + update * h,)


@dataclass(frozen=True)
class _Kind:
    step: Callable[[int], _Step]  # of a direction
    gates: int
    states: int
    activations: tuple[str, ...]
    clipped: int  # of the activations are those of gates, whose arguments may be clipped


def _rnn(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> list[Tensor]:
    return _recurrent(node, _Kind(lambda d: _rnn_step, 1, 1, ("Tanh",), 1), x, w, r, rest)


def _gru(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> list[Tensor]:
    step = _gru_step_linear_before_reset if node.get("linear_before_reset", 0) else _gru_step
    return _recurrent(node, _Kind(lambda d: step, 3, 1, ("Sigmoid", "Tanh"), 2), x, w, r, rest)


def _lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> list[Tensor]:
    peepholes, coupled = rest[4] if len(rest) > 4 else None, bool(node.get("input_forget", 0))

    def step(direction: int) -> _Step:
        seen = None if peepholes is None else tuple(torch.select(peepholes, 0, direction).chunk(3))
        return partial(_lstm_step, peepholes=seen, coupled=coupled)

    return _recurrent(node, _Kind(step, 4, 2, ("Sigmoid", "Tanh", "Tanh"), 2), x, w, r, rest[:4])


def _recurrent(node: Node, kind: _Kind, x: Tensor, w: Tensor, r: Tensor, rest: Sequence[Tensor | None]) -> list[Tensor]:
    """The outputs (all states, last state, for LSTM last cell) of a recurrent node."""
    bias, lengths, *initial = list(rest) + [None] * (4 - len(rest))
    directions, batch_first = w.shape[0], bool(node.get("layout", 0))
    x = x.permute(1, 0, 2) if batch_first else x
    inside = _inside(node, lengths, len(x))
    size, gates = r.shape[-1], kind.gates
    functions = _functions(node, kind, directions)
    sequences, last = [], []
    for d in range(directions):
        part = bias[d] if bias is not None else torch.zeros(2 * gates * size, dtype=x.dtype)
        state = tuple(_initial(value, d, x, size, batch_first) for value in initial[: kind.states])
        backwards = node.get("direction", "forward") == "reverse" or d == 1
        step, outputs = kind.step(d), {}
        for t in reversed(range(len(x))) if backwards else range(len(x)):
            gate_input = torch.addmm(part[: gates * size], torch.select(x, 0, t), w[d].t())
            new = step(gate_input, r[d].t(), part[gates * size :], state, functions[d])
            outputs[t] = new[0]
            if inside is not None:  # what lies behind the end of a sequence changes nothing, and puts out 0
                outputs[t] = torch.where(inside[t], new[0], torch.zeros_like(new[0]))
                new = tuple(torch.where(inside[t], *both) for both in zip(new, state, strict=True))
            state = new
        sequences.append(torch.stack([outputs[t] for t in range(len(x))]))
        last.append(state)
    everything = torch.stack(sequences, 1)  # (time, direction, batch, hidden)
    everything = everything.permute(2, 0, 1, 3) if batch_first else everything
    ends = [torch.stack([state[i] for state in last], 1 if batch_first else 0) for i in range(kind.states)]
    return [everything, *ends]


def _functions(node: Node, kind: _Kind, directions: int) -> list[list[Activation]]:
    """The activations of each direction."""
    count, limit = len(kind.activations), node.get("clip", 0.0)
    found = activations(node, list(kind.activations) * directions)
    if limit:
        found = [clipped(f, limit) if k % count < kind.clipped else f for k, f in enumerate(found)]
    return [found[d * count : (d + 1) * count] for d in range(directions)]


def _inside(node: Node, lengths: Tensor | None, longest: int) -> Tensor | None:
    """(time, batch, 1) bool: before the end of each sequence; None where all are equally long."""
    ends = node.integers(lengths, "lengths")
    if ends is None or all(end == longest for end in ends):
        return None
    return (torch.arange(longest).unsqueeze(1) < torch.tensor(ends)).unsqueeze(2)


def _initial(value: Tensor | None, direction: int, x: Tensor, size: int, batch_first: bool) -> Tensor:
    if value is None:
        return torch.zeros(x.shape[1], size, dtype=x.dtype)
    return torch.select(value, 1 if batch_first else 0, direction)


OPERATORS: Mapping[str, NodeFunction] = MappingProxyType({"RNN": _rnn, "GRU": _gru, "LSTM": _lstm})
