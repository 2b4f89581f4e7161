"""Schedules, batch norm, the trainer with its checkpoints, and certified accuracy."""

from __future__ import annotations

import csv
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from lirpa_verify.library.bounded import Bounded
from lirpa_verify.perturbations.box import linf
from lirpa_verify.training.batch_norm import clean_pass
from lirpa_verify.training.evaluate import certified_accuracy
from lirpa_verify.training.schedules import Adaptive, Linear, Smoothed
from lirpa_verify.training.trainer import COLUMNS, Plan, Task, shuffled, train

# -- schedules ---------------------------------------------------------------------------------------------------------


def radii(schedule, steps: int, losses=lambda step: 0.0) -> list[float]:
    found, radius = [], 0.0
    for step in range(steps):
        radius = schedule.next(radius, step, losses(step))
        found.append(radius)
    return found


@pytest.mark.parametrize("schedule", [Linear(0.3, 5, 25), Smoothed(0.3, 5, 25), Adaptive(0.3, 5, 0.05, 1.0)])
def test_schedules_grow_from_zero_to_the_end(schedule):
    found = radii(schedule, 40)
    assert found[:5] == [0.0] * 5
    assert found[-1] == pytest.approx(0.3)
    assert all(a <= b <= 0.3 + 1e-12 for a, b in pairwise(found))


def test_linear_halfway():
    assert Linear(1.0, 10, 20).next(0.0, 15, 0.0) == 0.5


def test_smoothed_is_gentle_and_smooth():
    found = radii(Smoothed(1.0, 0, 1000), 1001)
    assert found[100] < 0.01 < found[250]
    steps = [b - a for a, b in pairwise(found)]
    assert max(abs(b - a) for a, b in pairwise(steps)) < 2e-5  # no kink
    assert steps[300] == pytest.approx(steps[900])


def test_adaptive_waits_while_the_loss_is_high():
    found = radii(Adaptive(1.0, 0, 0.1, 0.5), 30, lambda step: 1.0 if 3 <= step < 10 else 0.1)
    assert found[2] == found[9] == pytest.approx(0.3)
    assert found[10] == pytest.approx(0.4) and found[-1] == 1.0


# -- batch norm --------------------------------------------------------------------------------------------------------


def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4),
        nn.Linear(4, 2)
    ).double()  # fmt: skip


def test_bounds_in_training_have_the_statistics_of_the_batch():
    module = normed().train()
    x = torch.rand(8, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bounded = Bounded(module, x)
    logits, statistics = clean_pass(module, lambda: module(x))
    assert set(statistics) == {f"{i}.running_{kind}" for i in (1, 5) for kind in ("mean", "var")}
    torch.testing.assert_close(bounded.bounds(x, "crown", values=statistics).lower, logits)
    module.eval()
    assert not torch.allclose(bounded.bounds(x, "crown").lower, logits)
    torch.testing.assert_close(bounded.bounds(x, "crown").lower, module(x))


def test_gradients_flow_through_the_statistics():
    module = normed().train()
    x = torch.rand(4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    bounded = Bounded(module, x)
    weight = module[0].weight.detach().clone().requires_grad_()

    def loss(weight: Tensor) -> Tensor:
        module[0].weight.data = weight.detach()
        features = nn.functional.conv2d(x, weight, module[0].bias)
        values = {
            "0.weight": weight,
            "1.running_mean": features.mean((0, 2, 3)),
            "1.running_var": features.var((0, 2, 3), unbiased=False),
        }
        return bounded.bounds(linf(x, 0.05), "crown-ibp", values=values).lower.sum()

    assert torch.autograd.gradcheck(loss, (weight,), atol=1e-5)


def test_evaluation_mode_gathers_no_statistics():
    module = normed().eval()
    assert clean_pass(module, lambda: module(torch.zeros(2, 1, 3, 3, dtype=torch.float64)))[1] == {}


# -- the trainer -------------------------------------------------------------------------------------------------------


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two classes told apart well by the first entry, within a small radius better by the second."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=generator)
    x = torch.randn(count, 2, generator=generator) * torch.tensor([0.02, 0.2])
    return x + torch.stack([0.1 * (2 * y - 1), 1.0 * (2 * y - 1)], 1), y


def task(seed: int = 0) -> Task:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
    return Task(module, Bounded(module, torch.zeros(1, 2)), shuffled(*blobs(256, 1), 32), linf)


def certified(made: Task, radius: float) -> float:
    made.module.eval()
    return certified_accuracy(made.bounded, [blobs(200, 2)], lambda x: linf(x, radius)).certified


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "fused"])
def test_training_certifies_what_plain_training_does_not(method):
    plain, robust = task(), task()
    train(plain, Plan(8, Linear(0.0, 0, 1), method, rate=1e-2), progress=False)
    rows = train(robust, Plan(8, Linear(0.5, 8, 40), method, rate=1e-2), progress=False)
    assert certified(robust, 0.5) > 0.9 > certified(plain, 0.5)
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["radius"] == 0.5 and rows[-1]["clean_accuracy"] > 0.95
    assert rows[-1]["robust_loss"] >= rows[-1]["clean_loss"]


def test_a_run_that_is_continued_is_the_run_that_was_not_interrupted(tmp_path):
    plan = Plan(4, Smoothed(0.3, 4, 20), "fused", decay=(3,))
    whole, first, second = task(), task(), task(seed=5)
    torch.manual_seed(7)
    rows = train(whole, plan, tmp_path / "whole", progress=False)
    torch.manual_seed(7)
    train(first, Plan(2, plan.schedule, "fused", decay=(3,)), tmp_path / "parts", progress=False)
    torch.manual_seed(99)  # the checkpoint knows better
    continued = train(second, plan, tmp_path / "parts", progress=False)
    assert continued == rows
    for a, b in zip(whole.module.state_dict().values(), second.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert train(second, plan, tmp_path / "parts", progress=False) == rows  # nothing is left to do


def test_the_log_can_be_plotted(tmp_path):
    rows = train(task(), Plan(2, Linear(0.1, 0, 8), "ibp"), tmp_path, progress=False)
    with (tmp_path / "log.csv").open() as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0]) == COLUMNS
    assert [float(r["robust_loss"]) for r in read] == [r["robust_loss"] for r in rows]
    assert all(math.isfinite(float(v)) for r in read for v in r.values())


def test_progress_is_shown_on_standard_error(capsys):
    train(task(), Plan(1, Linear(0.1, 0, 8), "ibp"))
    captured = capsys.readouterr()
    assert captured.out == ""


def test_training_against_perturbed_weights():
    """Flat minima: the loss over a ball of weights is bounded, inputs stay as they are."""
    made = task()
    names = [name for name, p in made.module.named_parameters() if p.dim() == 2]

    def perturbed(radius: float):
        weights = dict(made.module.named_parameters())
        return {name: linf(weights[name].unsqueeze(0), radius) for name in names}

    flat = Task(made.module, made.bounded, made.batches, lambda x, radius: x, perturb_parameters=perturbed)
    rows = train(flat, Plan(4, Linear(0.02, 0, 16), "fused", backward_share=1.0, rate=1e-2), progress=False)
    assert rows[-1]["robust_loss"] < rows[0]["clean_loss"]
    made.module.eval()
    x, y = blobs(50, 3)
    margins = made.bounded.margins(x, y, parameters=perturbed(0.02))
    assert (margins > 0).double().mean() > 0.9


def test_a_method_that_is_not_there_is_refused_at_once():
    with pytest.raises(ValueError, match="unknown training method 'fussed'; there are ibp, crown-ibp, fused"):
        Plan(1, Linear(0.1, 0, 8), "fussed")


def test_order_of_batches_depends_on_seed_and_epoch_alone():
    x, y = torch.arange(10.0), torch.arange(10)
    batches = shuffled(x, y, 4, seed=1)
    first = [b.tolist() for b, _ in batches(0)]
    assert first == [b.tolist() for b, _ in batches(0)] != [b.tolist() for b, _ in batches(1)]
    assert sorted(v for b in first for v in b) == list(range(10))


# -- certified accuracy ------------------------------------------------------------------------------------------------


def test_certified_accuracy_counts_what_it_says():
    """The sign of a number is certain while the number is larger than the radius."""
    module = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    x = torch.tensor([[-2.0], [-0.5], [0.5], [2.0], [3.0]])
    y = torch.tensor([0, 0, 1, 0, 1])  # the fourth is wrong
    found = certified_accuracy(Bounded(module, x), [(x[:3], y[:3]), (x[3:], y[3:])], lambda x: linf(x, 1.0))
    assert (found.examples, found.clean, found.certified) == (5, 0.8, 0.4)
