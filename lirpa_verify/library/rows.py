"""What is asked about outputs: rows of linear functions of them, from a specification or from labels."""

from __future__ import annotations

import torch
from torch import Tensor

from lirpa_verify.operators.transforms import holds


def chosen_rows(specification: Tensor | None, labels: Tensor | None, outputs: int) -> Tensor | None:
    """What is asked about the outputs: a specification, the margins of labels, or nothing in particular."""
    if labels is None:
        return specification
    if specification is not None:
        raise ValueError("labels and a specification; one of them is expected")
    return margin_rows(labels, outputs)


def batched_rows(specification: Tensor, batch: int, outputs: int) -> Tensor:
    """``(batch or 1, rows, outputs)``."""
    rows = specification.unsqueeze(0) if specification.dim() == 2 else specification
    if rows.dim() != 3 or rows.shape[2] != outputs or rows.shape[0] not in (1, batch):
        shape = tuple(specification.shape)
        raise ValueError(f"a specification of shape {shape} for {batch} examples of {outputs} outputs")
    return rows


def margin_rows(labels: Tensor, classes: int) -> Tensor:
    """Rows ``output[label] - output[other]`` for every other class: (batch, classes - 1, classes)."""
    check_labels(labels, classes)
    eye = torch.eye(classes, device=labels.device, dtype=torch.float64)
    others = torch.arange(classes - 1, device=labels.device).expand(len(labels), -1)
    others = others + (others >= labels.unsqueeze(1))
    return eye[labels].unsqueeze(1) - eye[others]


def check_labels(labels: Tensor, classes: int) -> None:
    """Raises ValueError for what are no labels of so many classes."""
    if labels.dim() != 1 or labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype}; (batch,) integers are expected"
        )
    if not holds(((labels >= 0) & (labels < classes)).all()):
        raise ValueError(f"a label outside 0 to {classes - 1}")
