"""Modules as graphs whose parameters stay alive: bounds of the graph have gradients with respect to them.

A module is recorded once, with its parameters and buffers as inputs beside its own. Before every
use, `bind` gives those inputs their present values and computes what depends on nothing else;
what is left is a recording of the module's inputs, and of the parameters that are perturbed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.load.record import (
    NoEscape,
    evaluation_mode,
    module_labels,
    output_tensors,
    recording_context,
)
from lirpa_verify.load.recorder import Recorder, spec
from lirpa_verify.load.recording import Call, Const, Recording, Ref, TensorSpec
from lirpa_verify.load.replay import resolve
from lirpa_verify.load.trim import leaves, map_leaves

OUTPUT = "output"
NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


@dataclass(frozen=True)
class LiveRecording:
    """`recording` has the function's own inputs first, then its state; its outputs have names."""

    recording: Recording
    n_inputs: int
    state: tuple[str, ...]  # names of parameters and buffers
    outputs: dict[str, tuple[int, ...]]  # per name its places among the recording's outputs


def record_live(function: Callable[..., Any], examples: Sequence[Tensor], state: Mapping[str, Tensor]) -> LiveRecording:
    """Runs the function once; parameters in `state` become inputs of the recording.

    Args:
        function: a module (runs in evaluation mode) or function of tensors.
        examples: its inputs, a batch of one example each.
        state: the very tensors that the function uses, by name.

    Raises:
        UnsupportedOperator: random results, or control flow or shapes that depend on values.
    """
    if isinstance(function, torch.nn.Module):
        refuse_batch_statistics(function)
    if isinstance(function, torch.nn.Module) and any(value.device.type != "cpu" for value in state.values()):
        function = copy.deepcopy(function).cpu()  # other devices have fused operations that hide what they consist of
        state = {name: value for name, value in floating_state(function).items() if name in state}
        examples = [value.cpu() for value in examples]
    inputs = [value.detach().clone() for value in examples]
    names = [f"input_{i}" for i in range(len(inputs))]
    recorder = Recorder([*inputs, *state.values()], [*names, *state])
    inner: list[tuple[str, Ref | Const, TensorSpec]] = []
    with recording_context(), ExitStack() as stack:
        if isinstance(function, torch.nn.Module):
            stack.enter_context(evaluation_mode(function))
            stack.enter_context(module_labels(function, recorder))
            stack.enter_context(module_outputs(function, recorder, inner))
        with NoEscape(recorder), recorder:
            result = function(*inputs)
        final = list(output_tensors(result))
        if not final:
            raise UnsupportedOperator("output", "", "the function returns no tensor")
        recording = recorder.finish(final, inner=[(value, described) for _, value, described in inner])
    places = {OUTPUT: tuple(range(len(final)))}
    if len(final) > 1:
        places |= {f"{OUTPUT}[{i}]": (i,) for i in range(len(final))}
    places |= {name: (len(final) + i,) for i, (name, _, _) in enumerate(inner)}
    return LiveRecording(recording, len(inputs), tuple(state), places)


def refuse_batch_statistics(module: torch.nn.Module) -> None:
    """Batch norms that have no running statistics take those of the batch, in which examples influence each other."""
    for name, layer in module.named_modules():
        if isinstance(layer, NORMS) and layer.running_mean is None:
            raise UnsupportedOperator("batch norm", name, "no running statistics: examples influence each other")


@contextmanager
def module_outputs(
    root: torch.nn.Module, recorder: Recorder, found: list[tuple[str, Ref | Const, TensorSpec]]
) -> Iterator[None]:
    """Notes what every submodule returns: `name`, `name[1]` for its second tensor, `name@2` for its second call."""
    calls: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            called = name if calls[name] == 1 else f"{name}@{calls[name]}"
            for i, value in enumerate(output_tensors(output)):
                if recorder.depends(value):
                    full = called if i == 0 else f"{called}[{i}]"
                    found.append((full, recorder.value_of(value), spec(value, full)))

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in root.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def bind(recording: Recording, values: Mapping[int, Tensor]) -> Recording:
    """The recording as a function of the inputs without a value; gradients flow to the values.

    Args:
        recording: of inputs and state.
        values: per input its value.
    """
    known: dict[Ref, Tensor] = {Ref(-1 - i): value for i, value in values.items()}
    constants = list(recording.constants)
    place: dict[Ref, Const] = {}
    calls: list[Call] = []
    number: dict[int, int] = {}
    free = [i for i in range(len(recording.inputs)) if i not in values]
    number |= {-1 - old: -1 - new for new, old in enumerate(free)}

    device = next((value.device for value in values.values()), torch.device("cpu"))
    recast = {recording.inputs[i].dtype: value.dtype for i, value in values.items()}  # modules change precision

    def fetch(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return known[leaf]
        if not isinstance(leaf, Const):
            return leaf
        constant = recording.constants[leaf.index]
        return constant.to(device, recast.get(constant.dtype, constant.dtype))

    def rename(leaf: Any) -> Any:
        if not isinstance(leaf, Ref):
            return leaf
        if leaf not in known:
            return Ref(number[leaf.call], leaf.item)
        if leaf not in place:
            constants.append(known[leaf])
            place[leaf] = Const(len(constants) - 1)
        return place[leaf]

    for index, call in enumerate(recording.calls):
        if all(leaf in known for leaf in leaves((call.args, call.kwargs)) if isinstance(leaf, Ref)):
            result = resolve(call.op)(*map_leaves(fetch, call.args), **map_leaves(fetch, call.kwargs))
            for item, value in enumerate(result if isinstance(result, tuple | list) else (result,)):
                known[Ref(index, item)] = value
        else:
            number[index] = len(calls)
            calls.append(replace(call, args=map_leaves(rename, call.args), kwargs=map_leaves(rename, call.kwargs)))
    return replace(
        recording,
        inputs=tuple(recording.inputs[i] for i in free),
        outputs=map_leaves(rename, recording.outputs),
        calls=tuple(calls),
        constants=tuple(constants),
    )


def floating_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and floating buffers by name, as they are now."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: value for name, value in tensors if value.is_floating_point()}


def one_example(value: Tensor) -> Tensor:
    """The first example of a batch, as a batch of one."""
    if not isinstance(value, Tensor):
        raise UnsupportedOperator("input", "", f"an example input is a {type(value).__name__}, not a tensor")
    if value.dim() == 0 or value.shape[0] == 0:
        raise UnsupportedOperator("input", "", "an example input without examples: the first dimension is the batch")
    return value[:1]
