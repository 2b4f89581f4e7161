"""Writing a question about a module as files that the command line answers: an ONNX model and a VNN-LIB property."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lirpa_verify.load.record import evaluation_mode
from lirpa_verify.perturbations.base import Perturbation


def export_instance(
    module: nn.Module, perturbation: Perturbation, label: int, model_path: Path | None, property_path: Path
) -> None:
    """Writes whether one example keeps its label: `lirpa-verify MODEL PROPERTY` answers `unsat` if it does.

    Args:
        module: a classifier of one input.
        perturbation: a box around one example (a batch of 1).
        label: of the example.
        model_path: where the ONNX model goes; None where it has been written with another example.
        property_path: where the VNN-LIB property goes.

    Raises:
        ValueError: the set is no box, or has more than one example, or the label is no class.
    """
    if not perturbation.is_box or perturbation.shape[0] != 1:
        raise ValueError("VNN-LIB properties are about boxes, and one example at a time")
    lower, upper = (end.detach().cpu() for end in perturbation.box())
    with torch.no_grad(), evaluation_mode(module):
        outputs = module(lower.to(next(module.parameters()))).numel()
    if not 0 <= label < outputs:
        raise ValueError(f"label {label} of a module with {outputs} outputs")
    if model_path is not None:
        write_onnx(module, lower, model_path)
    property_path.write_text(property_text(lower, upper, label, outputs))


def write_onnx(module: nn.Module, example: Tensor, path: Path) -> None:
    """Exports a module, in evaluation mode, for a batch of one."""
    like = next(module.parameters())
    with torch.no_grad(), evaluation_mode(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(module, (example[:1].to(like),), str(path), dynamo=False)


def property_text(lower: Tensor, upper: Tensor, label: int, outputs: int) -> str:
    """The violation of a label on a box, in VNN-LIB 1.0: some other output reaches the label's."""
    ends = [end.double().flatten().tolist() for end in (lower, upper)]
    lines = [f"; some class other than {label} is at least as likely"]
    lines += [f"(declare-const X_{i} Real)" for i in range(math.prod(lower.shape))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    for i, (low, high) in enumerate(zip(*ends, strict=True)):
        lines += [f"(assert (>= X_{i} {decimal(low)}))", f"(assert (<= X_{i} {decimal(high)}))"]
    others = [f"(and (>= Y_{j} Y_{label}))" for j in range(outputs) if j != label]
    return "\n".join([*lines, f"(assert (or {' '.join(others)}))", ""])


def decimal(value: float) -> str:
    """All digits of a float64, without an exponent."""
    return str(np.format_float_positional(value, unique=True, trim="0"))
