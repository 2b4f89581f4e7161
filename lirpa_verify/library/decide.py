"""Verdicts about modules: does any input of a perturbation break a margin?

Boxes, with linear constraints or not, go to the verifier as a property, as a file would, and so do
zonotopes, by the coefficients of their generators. For other sets there is no search: points where the
linearised margin is least are tried as witnesses, then CROWN and alpha-CROWN as proofs, in float64 and
with rounding accounted for. Sentences that words make are tried one by one if that fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.rounding import margin
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.library.generators import Coefficients, OfCoefficients
from lirpa_verify.library.optimise import optimised_slopes
from lirpa_verify.library.passes import bound_nodes, certain_minimum
from lirpa_verify.load.recording import Recording, TensorSpec
from lirpa_verify.load.replay import replay
from lirpa_verify.network import Network
from lirpa_verify.operators.base import Interval
from lirpa_verify.perturbations.ball import Ball, norm
from lirpa_verify.perturbations.base import Perturbation
from lirpa_verify.perturbations.box import Box, exact
from lirpa_verify.perturbations.polytope import ConstrainedBox
from lirpa_verify.perturbations.region import Region
from lirpa_verify.perturbations.words import Words
from lirpa_verify.perturbations.zonotope import Zonotope
from lirpa_verify.strategy import Options, verify
from lirpa_verify.verdict import Progress, Result, Witness
from vnnlib import Property

ATTACK_ROUNDS, ATTACK_STARTS = 12, 16
OPTIMISATION_STEPS = 50
MOST_SENTENCES, SENTENCES_AT_ONCE = 20_000, 500


@dataclass(frozen=True)
class Replayed:
    """A recording as what confirms witnesses: its operations, run by torch in the module's own precision."""

    recording: Recording

    @property
    def dtype(self) -> np.dtype[Any]:
        kinds = {torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16}
        return np.result_type(*(kinds.get(spec.dtype, np.float32) for spec in self.recording.inputs))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        sizes = [int(np.prod(spec.shape)) for spec in self.recording.inputs]
        parts = torch.from_numpy(np.asarray(x)).split(sizes)
        with torch.no_grad():
            values = [
                p.to(spec.dtype).reshape(spec.shape) for p, spec in zip(parts, self.recording.inputs, strict=True)
            ]
            outputs = replay(self.recording, values)
        return np.concatenate([output.cpu().numpy().ravel() for output in outputs])


def decide(
    recording: Recording, graph: Graph, region: Region, rows: Tensor, deadline: Deadline, options: Options
) -> Result:
    """Whether some point of one example's region makes one of the rows ``<row, output>`` 0 or less.

    Args:
        recording: of the inputs that vary.
        graph: its graph, in float64.
        region: with a batch of 1.
        rows: ``(rows, outputs)``.
        deadline: when to stop.
        options: as for `lirpa_verify.verify`.
    """
    model = Replayed(recording)
    rows = rows.detach().cpu().double()
    if all(part.is_box or isinstance(part, ConstrainedBox) for part in region.parts):
        network = Network(Path("module"), recording, simplify(graph))
        return verify(network, property_of(region, rows), deadline, options, ignore, model)
    if all(part.is_box or isinstance(part, Zonotope) for part in region.parts):
        return decide_coefficients(recording, graph, Coefficients.of(region), rows, deadline, options)
    if any(isinstance(part, ConstrainedBox) for part in region.parts):
        return Result("unknown", reason="linear constraints together with a set that is no box")
    witness = attack(graph, region, rows, model, deadline, options.seed)
    if witness is not None:
        return Result("sat", witness, "attack")
    result = prove(graph, region, rows.unsqueeze(0), deadline)
    return prove_sentences(graph, region, rows, model, deadline) or result if result.verdict == "unknown" else result


def decide_coefficients(
    recording: Recording, graph: Graph, over: Coefficients, rows: Tensor, deadline: Deadline, options: Options
) -> Result:
    """The same for boxes and zonotopes, as a property of the generators' coefficients."""
    model = Replayed(recording)
    small = simplify(over.graph(graph))
    coefficients = TensorSpec("coefficients", (small.n_inputs,), recording.inputs[0].dtype)
    network = Network(Path("module"), replace(recording, inputs=(coefficients,)), small)
    result = verify(network, property_of(over.region, rows), deadline, options, ignore, OfCoefficients(model, over))
    if result.witness is None:
        return result
    x = over.points(result.witness.x).astype(model.dtype)
    return replace(result, witness=Witness(x, result.witness.y))


def ignore(progress: Progress) -> None:
    """Takes news for nobody."""


@torch.no_grad()
def prove(graph: Graph, region: Region, rows: Tensor, deadline: Deadline) -> Result:
    """One pass of CROWN, then optimised slopes for the rows that are left."""
    values = bound_nodes(graph, region, "crown", certain=True)
    intervals, known = dict(enumerate(values)), sizes(graph, values)
    slopes = None
    for reason in ("CROWN bounds", "alpha-CROWN bounds"):
        if deadline.passed():
            return Result("timeout", reason="time is up")
        bound = certain_minimum(backward(graph, {graph.output: rows}, intervals, slopes, sizes=known), region)
        open_ = ~(bound[0] > 0)
        if not bool(open_.any()):
            return Result("unsat", reason=reason)
        rows = rows[:, open_]
        with torch.enable_grad():
            slopes = optimised_slopes(graph, rows, region, values, OPTIMISATION_STEPS, deadline)
    return Result("unknown", reason="alpha-CROWN bounds do not prove it, and sets that are no boxes are not split")


@torch.no_grad()
def prove_sentences(graph: Graph, region: Region, rows: Tensor, model: Replayed, deadline: Deadline) -> Result | None:
    """Every sentence on its own, where words are all that varies and sentences are not too many."""
    if len(region.parts) != 1 or not isinstance(region.parts[0], Words):
        return None
    points = region.parts[0].members(MOST_SENTENCES)
    if points is None:
        return None
    for part in points.split(SENTENCES_AT_ONCE):
        if deadline.passed():
            return Result("timeout", reason="time is up")
        lower, upper = bound_nodes(graph, Region((exact(part),)), "ibp", certain=True)[-1]
        least = lower @ rows.clamp(min=0).T + upper @ rows.clamp(max=0).T
        least = least - margin(torch.maximum(lower.abs(), upper.abs()) @ rows.abs().T)
        open_ = ~(least > 0).all(1)
        for x in part[open_].flatten(1):
            witness = confirmed(model, rows, x)
            return Result("sat", witness, "enumeration") if witness else Result("unknown", reason="too close to tell")
    return Result("unsat", reason="enumeration")


def attack(
    graph: Graph, region: Region, rows: Tensor, model: Replayed, deadline: Deadline, seed: int
) -> Witness | None:
    """Frank and Wolfe's method from random points: towards where the linearised margin is least, and that point too."""
    region = Region(tuple(within(part, model.dtype) for part in region.parts))
    points = region.sample(ATTACK_STARTS, torch.Generator().manual_seed(seed))[:, 0]
    for step in range(ATTACK_ROUNDS):
        if deadline.passed():
            return None
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            margins = graph.forward(points) @ rows.T
            worst = margins.amin(1)
            (gradient,) = torch.autograd.grad(worst.sum(), points)
        for x in points[worst <= 0].detach():
            witness = confirmed(model, rows, x)
            if witness is not None:
                return witness
        extreme = region.minimiser(torch.nan_to_num(gradient).unsqueeze(0))[0]
        points = extreme if not step % 2 or not convex(region) else torch.lerp(points.detach(), extreme, 2 / (step + 2))
    return None


def within(part: Perturbation, dtype: np.dtype[Any]) -> Perturbation:
    """The set without what rounding to the module's precision could lead out of; other sets have room or corners."""
    if not isinstance(part, Ball):
        return part
    size = norm(part.centre.flatten(1), part.p).squeeze(1) + part.radius
    return replace(part, radius=(part.radius - float(np.finfo(dtype).eps) * size).clamp(min=0))


def convex(region: Region) -> bool:
    """Whether mixtures of points stay inside: not for words, nor for a few entries among many."""
    return all(isinstance(part, Ball | Box | Zonotope) for part in region.parts)


def confirmed(model: Replayed, rows: Tensor, x: Tensor) -> Witness | None:
    """The point in the module's own precision, if it breaks a margin there."""
    point = x.cpu().numpy().astype(model.dtype)
    y = model(point)
    broken = bool(((rows @ torch.from_numpy(y).double()) <= 0).any())
    return Witness(point, y) if broken else None


def property_of(region: Region, rows: Tensor) -> Property:
    """The property that some row is 0 or less: one disjunct per row, each with the region's constraints."""
    box = Interval(*(end.detach().cpu().double() for end in region.box))
    n, m = box.lower.shape[1], rows.shape[1]
    constraints, limits = constraint_rows(region, n)
    blocks = [np.concatenate([np.zeros((1, n)), row[None]], 1) for row in rows.numpy()]
    padded = np.concatenate([constraints, np.zeros((len(constraints), m))], 1)
    matrix = np.concatenate([np.concatenate([block, padded]) for block in blocks])
    rhs = np.concatenate([np.concatenate([[0.0], limits]) for _ in blocks])
    row, variable = np.nonzero(matrix)
    return Property(
        n_inputs=n,
        n_outputs=m,
        lower=box.lower.numpy(),
        upper=box.upper.numpy(),
        box=np.zeros(len(blocks), dtype=np.int64),
        row_start=np.arange(len(blocks) + 1) * (1 + len(limits)),
        term_start=np.searchsorted(row, np.arange(len(rhs) + 1)),
        variable=variable,
        coefficient=matrix[row, variable],
        rhs=rhs,
        strict=np.zeros(len(rhs), dtype=bool),
    )


def constraint_rows(region: Region, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear constraints on the flat input: ``(constraints, n)`` and ``(constraints,)``."""
    matrices, limits, start = [np.zeros((0, n))], [np.zeros(0)], 0
    for part, size in zip(region.parts, region.sizes, strict=True):
        if isinstance(part, ConstrainedBox):
            matrix = np.zeros((part.limit.shape[1], n))
            matrix[:, start : start + size] = part.matrix[0].flatten(1).detach().cpu().double().numpy()
            matrices.append(matrix)
            limits.append(part.limit[0].detach().cpu().double().numpy())
        start += size
    return np.concatenate(matrices), np.concatenate(limits)
