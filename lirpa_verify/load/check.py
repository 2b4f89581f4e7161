"""Comparing a recording with onnxruntime on the original file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import onnxruntime
import torch

from lirpa_verify.errors import ModelError
from lirpa_verify.load.recording import Recording, TensorSpec
from lirpa_verify.load.replay import replay
from lirpa_verify.memory import allocation_failed

Box = Sequence[tuple[torch.Tensor, torch.Tensor]]  # lower and upper limits of every input

_SAMPLES = 3  # of each kind
# Rounding errors of a deep network are many units in the last place: this many are granted to any network, and more
# to one whose own result moves more between float32 and float64.
_ROUNDINGS = 4000
_NOISE_FACTOR = 50
_LARGEST_NOISE = 1e-3  # relative to the output: a larger difference is not rounding but a jump
_SHAKES = 4
_DISCONTINUOUS = frozenset(
    [
        "sign",
        "floor",
        "ceil",
        "round",
        "trunc",
        "remainder",
        "fmod",
        "argmax",
        "argmin",
        "topk",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "_to_copy",
        "index_select",
    ]
)


def check_recording(recording: Recording, data: bytes, name: str, box: Box | None = None) -> None:
    """Raise `ModelError` if the recording and onnxruntime disagree on random inputs (and points of `box`).

    Where a discontinuous operation (sign, floor, argmax, ...) is so close to its jump that rounding errors of the
    input decide, the two may rightly differ: such a sample says nothing, and is left out.
    """
    session = _session(data, name)
    compared = 0
    for inputs in _samples(recording.inputs, box):
        expected = _run(session, recording, inputs, name)
        got = _replay(recording, inputs)
        if got is None or expected is None:
            continue
        if _agrees(recording, inputs, got, expected, name):
            compared += 1
        elif not _is_at_a_jump(recording, inputs, got):
            worst = max(_difference(a, b) for a, b in zip(got, expected, strict=True))
            raise ModelError(f"model '{name}': its conversion differs from onnxruntime by {worst:.3g}")
    if not compared:
        raise ModelError(f"model '{name}': its conversion could not be compared with onnxruntime on any input")


def _session(data: bytes, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        raise ModelError(f"model '{name}': onnxruntime refuses it: {_first_line(error)}") from error


def _samples(specs: Sequence[TensorSpec], box: Box | None) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def uniform(spec: TensorSpec) -> torch.Tensor:
        return torch.rand(spec.shape, generator=generator, dtype=torch.float64)

    samples = []
    for _ in range(_SAMPLES):
        samples.append([uniform(spec) for spec in specs])
        samples.append([torch.randn(spec.shape, generator=generator, dtype=torch.float64) for spec in specs])
        if box is not None:
            limits = [
                (low.double().reshape(s.shape), high.double().reshape(s.shape)) for (low, high), s in zip(box, specs)
            ]
            samples.append([low + (high - low) * uniform(s) for (low, high), s in zip(limits, specs, strict=True)])
    return [[value.to(spec.dtype) for value, spec in zip(sample, specs, strict=True)] for sample in samples]


def _run(
    session: onnxruntime.InferenceSession, recording: Recording, inputs: Sequence[torch.Tensor], name: str
) -> list[torch.Tensor] | None:
    feed = {spec.name: value.numpy() for spec, value in zip(recording.inputs, inputs, strict=True)}
    outputs = [spec.name for spec in recording.output_specs]
    try:
        return [torch.from_numpy(numpy.array(value)) for value in session.run(outputs, feed)]
    except Exception as error:  # onnxruntime's errors share no public base class
        if allocation_failed(error):
            raise MemoryError(str(error)) from error
        if _replay(recording, inputs) is None:
            return None  # outside of what the network is defined for
        raise ModelError(f"model '{name}': onnxruntime cannot run it: {_first_line(error)}") from error


def _replay(
    recording: Recording, inputs: Sequence[torch.Tensor], dtype: torch.dtype | None = None
) -> list[torch.Tensor] | None:
    """The recording's outputs; None where an index that depends on the input is out of range."""
    try:
        with torch.no_grad():
            return replay(recording, inputs, dtype)
    except (IndexError, RuntimeError) as error:
        if ("index" in str(error) and "range" in str(error)) or "out of bounds" in str(error):
            return None
        raise


def _agrees(
    recording: Recording,
    inputs: Sequence[torch.Tensor],
    got: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    name: str,
) -> bool:
    for a, b, spec in zip(got, expected, recording.output_specs, strict=True):
        if a.shape != b.shape:
            raise ModelError(
                f"model '{name}': output '{spec.name}' has shape {tuple(a.shape)}, in onnxruntime {tuple(b.shape)}"
            )
    allowed = [_tolerance(recording, value) for value in expected]
    if all(_difference(a, b) <= limit for a, b, limit in zip(got, expected, allowed, strict=True)):
        return True
    exact = _replay(recording, inputs, torch.float64)
    return exact is not None and all(
        _difference(a, b) <= limit + _NOISE_FACTOR * min(_difference(a, c), _LARGEST_NOISE * _scale(a))
        for a, b, c, limit in zip(got, expected, exact, allowed, strict=True)
    )


def _tolerance(recording: Recording, value: torch.Tensor) -> float:
    types = {spec.dtype for spec in (*recording.inputs, *recording.output_specs) if spec.dtype.is_floating_point}
    unit = max((torch.finfo(dtype).eps for dtype in types), default=2.0**-23)
    return _ROUNDINGS * unit * max(_scale(value), unit)


def _scale(value: torch.Tensor) -> float:
    finite = value.double()[torch.isfinite(value.double())]
    return float(finite.abs().max()) if finite.numel() else 0.0


def _is_at_a_jump(recording: Recording, inputs: Sequence[torch.Tensor], got: Sequence[torch.Tensor]) -> bool:
    """Whether changes of the input as small as rounding errors move the output far beyond what is smooth."""
    if not any(call.op.split(".")[1] in _DISCONTINUOUS for call in recording.calls):
        return False
    generator = torch.Generator().manual_seed(1)
    for shake in range(_SHAKES):
        size = 4.0**shake * 2.0**-22
        moved = [
            value + size * (1 + value.abs()) * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            if value.is_floating_point()
            else value
            for value in inputs
        ]
        shaken = _replay(recording, moved)
        if shaken is None:
            return True
        for a, b in zip(got, shaken, strict=True):
            scale = max(float(a.double().abs().max()), 1e-30) if a.numel() else 1.0
            if _difference(a, b) > 1e-3 * scale:
                return True
    return False


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference; infinite where one is NaN or infinite and the other is not the same."""
    a, b = a.double(), b.double()
    if not a.numel():
        return 0.0
    same = (a == b) | (torch.isnan(a) & torch.isnan(b))
    distance = torch.where(same, torch.zeros_like(a), (a - b).abs())
    return float(torch.where(torch.isnan(distance), torch.full_like(a, torch.inf), distance).max())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
