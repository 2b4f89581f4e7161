"""Certified training, readable in one sitting: `train` is a loop over `train_step`.

Every step bounds the cross-entropy over the perturbation of a batch, mixes it with the clean one and
takes a step of Adam. After every epoch a checkpoint is written, from which a run that was interrupted
goes on as if nothing had happened, and a row is added to `log.csv`.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lirpa_verify.library.bounded import Bounded, Inputs
from lirpa_verify.perturbations.base import Perturbation
from lirpa_verify.training.batch_norm import clean_pass
from lirpa_verify.training.losses import METHODS, robust_loss
from lirpa_verify.training.schedules import Schedule

Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
MEMORY = 0.9  # of the running mean of the robust loss, which adaptive schedules look at
COLUMNS = ("epoch", "step", "radius", "loss", "clean_loss", "robust_loss", "clean_accuracy")


@dataclass(frozen=True)
class Task:
    """What is trained against what.

    `bounded` is the part of `module` behind the perturbation; `embed` leads from the data to its inputs.
    """

    module: nn.Module  # all that is trained
    bounded: Bounded
    batches: Batches  # per epoch: inputs and labels, in an order that the epoch decides
    perturb: Callable[[Tensor, float], Inputs]  # inputs and radius
    embed: Callable[[Tensor], Tensor] = lambda x: x
    perturb_parameters: Callable[[float], Mapping[str, Perturbation]] = lambda radius: {}


@dataclass(frozen=True)
class Plan:
    epochs: int
    schedule: Schedule
    method: str = "fused"  # ibp, crown-ibp or fused: see `robust_loss`
    clean_share: float = 0.5  # of the clean loss at the final radius; it is 1 at radius 0
    backward_share: float = 0.0  # of the backward bound at the final radius; it is 1 at radius 0
    rate: float = 1e-3
    clip: float = 5.0  # norm of the gradient
    decay: tuple[int, ...] = ()  # epochs at which the rate is divided by 10

    def __post_init__(self) -> None:
        if self.method not in METHODS:  # not only in the epoch in which the radius starts to grow
            raise ValueError(f"unknown training method {self.method!r}; there are {', '.join(METHODS)}")


@dataclass
class State:
    """All that a run has to remember beside the parameters."""

    optimiser: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    radius: float = 0.0
    running: float = math.inf  # mean of the robust loss
    rows: list[dict[str, float]] = field(default_factory=list)  # of the log, one per epoch


def train(task: Task, plan: Plan, folder: Path | None = None, progress: bool = True) -> list[dict[str, float]]:
    """Trains `task.module` in place.

    Args:
        task: data, module and perturbation.
        plan: method, radius and rate.
        folder: where `checkpoint.pt` and `log.csv` go; a checkpoint that is there is continued.
        progress: whether a bar on standard error shows where it is.

    Returns:
        The rows of the log.
    """
    state = State(torch.optim.Adam(task.module.parameters(), plan.rate))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        restore(folder / "checkpoint.pt", task, state)
    with Bar(plan.epochs, state.epoch) if progress else nullcontext(lambda row: None) as show:
        while state.epoch < plan.epochs:
            state.rows.append(train_epoch(task, plan, state))
            show(state.rows[-1])
            if folder is not None:
                save(folder / "checkpoint.pt", task, state)
                write_log(folder / "log.csv", state.rows)
    return state.rows


def train_epoch(task: Task, plan: Plan, state: State) -> dict[str, float]:
    """One pass over the data: a row of the log."""
    task.module.train()
    for group in state.optimiser.param_groups:
        group["lr"] = plan.rate * 0.1 ** sum(state.epoch >= epoch for epoch in plan.decay)
    sums: dict[str, float] = dict.fromkeys(COLUMNS[3:], 0.0)
    examples = 0
    for x, y in task.batches(state.epoch):
        state.radius = plan.schedule.next(state.radius, state.step, state.running)
        measured = train_step(task, plan, state, x, y)
        remembered = measured["robust_loss"] if math.isinf(state.running) else state.running
        state.running = MEMORY * remembered + (1 - MEMORY) * measured["robust_loss"]
        state.step += 1
        examples += len(y)
        for name, value in measured.items():
            sums[name] += value * len(y)
    state.epoch += 1
    row: dict[str, float] = {"epoch": state.epoch, "step": state.step, "radius": state.radius}
    return row | {name: value / max(1, examples) for name, value in sums.items()}


def train_step(task: Task, plan: Plan, state: State, x: Tensor, y: Tensor) -> dict[str, float]:
    """Bounds a batch and moves the parameters."""
    grown = state.radius / plan.schedule.final if plan.schedule.final else 1.0
    clean_share = 1 - grown * (1 - plan.clean_share)
    backward_share = 1 - grown * (1 - plan.backward_share)
    logits, statistics = clean_pass(bounded_module(task), lambda: task.bounded.function(task.embed(x)))
    clean = cross_entropy(logits, y)
    robust = clean
    if state.radius > 0:
        perturbed = task.perturb_parameters(state.radius)
        inputs = task.perturb(x, state.radius)
        robust = robust_loss(task.bounded, inputs, y, plan.method, backward_share, perturbed, statistics).mean()
    loss = clean_share * clean + (1 - clean_share) * robust
    state.optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(task.module.parameters(), plan.clip)
    state.optimiser.step()
    right = (logits.argmax(1) == y).double().mean()
    names = ("loss", "clean_loss", "robust_loss", "clean_accuracy")
    return {name: float(value.detach()) for name, value in zip(names, (loss, clean, robust, right), strict=True)}


def bounded_module(task: Task) -> nn.Module:
    assert isinstance(task.bounded.function, nn.Module)
    return task.bounded.function


def shuffled(
    x: Tensor, y: Tensor, size: int, seed: int = 0, prepare: Callable[[Tensor], Tensor] = lambda x: x
) -> Batches:
    """Batches of tensors in memory, in an order that depends on the seed and the epoch alone.

    Args:
        x: inputs, ``(examples, *input)``.
        y: labels, ``(examples,)``.
        size: of a batch.
        seed: of the order.
        prepare: what is done to the inputs of a batch (bytes to numbers, say).
    """

    def batches(epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
        return ((prepare(x[part]), y[part]) for part in order.to(x.device).split(size))

    return batches


# -- checkpoints, log and progress -------------------------------------------------------------------------------------


def save(path: Path, task: Task, state: State) -> None:
    """Writes a checkpoint in one step: what is there is never half of one."""
    kept = {name: getattr(state, name) for name in ("epoch", "step", "radius", "running", "rows")}
    content = {
        "module": task.module.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "state": kept,
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all(),
    }
    scratch = path.with_suffix(".part")
    torch.save(content, scratch)
    os.replace(scratch, path)


def restore(path: Path, task: Task, state: State) -> None:
    """Continues from a checkpoint, if there is one."""
    if not path.exists():
        return
    content = torch.load(path, map_location=next(task.module.parameters()).device, weights_only=True)
    task.module.load_state_dict(content["module"])
    state.optimiser.load_state_dict(content["optimiser"])
    torch.set_rng_state(content["random"].cpu())
    torch.cuda.set_rng_state_all([state.cpu() for state in content.get("cuda_random", [])[: torch.cuda.device_count()]])
    for name, value in content["state"].items():
        setattr(state, name, value)


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """A row per epoch, with a header: for any program that plots."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


class Bar:
    """A progress bar over epochs; inside, call it with each row of the log."""

    def __init__(self, epochs: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        self._bar = self._progress.add_task("training", total=epochs, completed=done)

    def __enter__(self) -> Callable[[dict[str, float]], None]:
        self._progress.start()
        return self._show

    def _show(self, row: dict[str, float]) -> None:
        news = f"radius {row['radius']:.3g}, clean {row['clean_loss']:.3f}, robust {row['robust_loss']:.3f}"
        self._progress.update(self._bar, advance=1, description=news)

    def __exit__(self, *error: Any) -> None:
        self._progress.stop()
