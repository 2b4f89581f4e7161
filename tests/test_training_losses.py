"""Bounds of the cross-entropy: above the loss at points, fused against class by class, with the right gradients."""

from __future__ import annotations

import math

import pytest
import torch
from perturbation_examples import make, numbers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lirpa_verify.library.bounded import Bounded, Query
from lirpa_verify.library.passes import rows_backward
from lirpa_verify.operators.base import Interval
from lirpa_verify.perturbations.base import Perturbation
from lirpa_verify.perturbations.box import linf
from lirpa_verify.training.losses import (
    backward_margins,
    cross_entropy_of_margins,
    differences,
    fused_loss,
    interval_loss,
    interval_margins,
    robust_loss,
)


def class_by_class_loss(query: Query, labels: Tensor) -> Tensor:
    return cross_entropy_of_margins(backward_margins(query, labels))


def interval_margin_loss(query: Query, labels: Tensor) -> Tensor:
    return cross_entropy_of_margins(interval_margins(query, labels))


def network(classes: int, seed: int = 0) -> Bounded:
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, classes)]
    return Bounded(nn.Sequential(*layers).double(), torch.zeros(1, 3, 2, dtype=torch.float64))


LABELS = torch.tensor([1, 0])


@pytest.mark.parametrize("kind", ["box", "l2", "words"])
@pytest.mark.parametrize("loss", [interval_loss, interval_margin_loss, class_by_class_loss, fused_loss])
def test_bounds_are_above_the_loss_at_points(kind, loss):
    for seed in range(5):
        bounded, set_ = network(4, seed), make(kind)
        bound = loss(bounded.query(set_, "crown-ibp"), LABELS)
        points = set_.sample(300, torch.Generator().manual_seed(seed))
        logits = bounded.function(points.flatten(0, 1))
        losses = cross_entropy(logits, LABELS.repeat(300), reduction="none").unflatten(0, (300, 2))
        assert bound.shape == (2,)
        assert (losses <= bound + 1e-9).all()


def backward_differences(query: Query, labels: Tensor) -> Interval:
    """Intervals of ``z_j - z_label`` with a backward row for each end, as class by class has them: (batch, classes)."""
    classes = torch.eye(query.graph.n_outputs, dtype=torch.float64)
    rows = query.rows(classes[labels].unsqueeze(1) - classes)
    return Interval(query.lower(-rows), -query.lower(rows))


@pytest.mark.parametrize("kind", ["box", "l2", "words"])
def test_fused_is_between_the_largest_loss_and_class_by_class(kind):
    """Theorem 2 of arXiv:2002.12920: with the same bounds of the differences, fused is at least as tight."""
    for seed in range(10):
        bounded, set_ = network(5, seed), make(kind)
        query = bounded.query(set_, "crown")
        fused = fused_loss(query, LABELS, backward_differences(query, LABELS))
        points = set_.sample(300, torch.Generator().manual_seed(seed))
        losses = cross_entropy(bounded.function(points.flatten(0, 1)), LABELS.repeat(300), reduction="none")
        assert (losses.unflatten(0, (300, 2)) <= fused + 1e-9).all()
        assert (fused <= class_by_class_loss(query, LABELS) + 1e-9).all()


@pytest.mark.parametrize("kind", ["box", "l2", "words"])
def test_fused_is_class_by_class_where_differences_are_multiples_of_each_other(kind):
    """All rows take the same line at every neuron then, and are least at the same point: nothing is gained as one."""
    for seed in range(5):
        bounded, labels = network(5, seed), torch.tensor([0, 0])
        last = bounded.function[-1].weight.data
        last[2:] = torch.tensor([[0.5], [2.0], [3.0]], dtype=torch.float64) * last[1]
        last[0] = 0
        query = bounded.query(make(kind), "crown")
        fused = fused_loss(query, labels, backward_differences(query, labels))
        torch.testing.assert_close(fused, class_by_class_loss(query, labels))


def test_fused_of_two_classes():
    """One difference: the fused bound is at least that by class, and equal if its interval is the backward one."""
    for seed in range(10):
        bounded, set_ = network(2, seed), make("box")
        query = bounded.query(set_, "crown-ibp")
        by_class = class_by_class_loss(query, LABELS)
        tight = backward_differences(query, LABELS)
        torch.testing.assert_close(fused_loss(query, LABELS, tight), by_class)
        loose = differences(query.logits, LABELS)
        narrowed = Interval(torch.minimum(loose.lower, tight.lower), torch.maximum(loose.upper, tight.upper))
        assert (fused_loss(query, LABELS, narrowed) >= by_class - 1e-9).all()


def linear(*rows: list[float]) -> Bounded:
    """Logits that are linear functions of the input, without a constant part."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return Bounded(lambda x: x @ matrix.T, torch.zeros(1, matrix.shape[1], dtype=torch.float64))


def around_zero(size: int) -> Perturbation:
    return linf(torch.zeros(1, size, dtype=torch.float64), 1.0)


def test_fused_may_be_less_than_class_by_class():
    """Differences x and -x: exp(x) + exp(-x) is at most 2 cosh 1, though each of the two reaches e."""
    bounded, label = linear([0.0], [1.0], [-1.0]), torch.tensor([0])
    for method in ("crown-ibp", "crown"):
        query = bounded.query(around_zero(1), method)
        assert fused_loss(query, label).item() == pytest.approx(math.log(1 + 2 * math.cosh(1)))
        assert class_by_class_loss(query, label).item() == pytest.approx(math.log(1 + 2 * math.e))


def test_fused_may_be_more_than_class_by_class():
    """Two equal logits: their difference is 0, which interval arithmetic takes for something in [-2, 2]."""
    query, label = linear([1.0], [1.0]).query(around_zero(1), "crown-ibp"), torch.tensor([0])
    assert fused_loss(query, label).item() == pytest.approx(math.log(1 + math.cosh(2)))
    assert class_by_class_loss(query, label).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_fused_pushes_one_row_per_example(classes, monkeypatch):
    pushed = []

    def counted(graph, rows, values):
        pushed.append(rows.shape[1])
        return rows_backward(graph, rows, values)

    monkeypatch.setattr("lirpa_verify.training.losses.rows_backward", counted)
    robust_loss(network(classes), make("box"), LABELS, "fused")
    assert pushed == [1]


def test_interval_arithmetic_fused_or_not_is_the_same():
    """No row is shared or spent: the sum of the largest exponentials is what both add up."""
    query = network(5).query(make("box"), "ibp")
    upper = differences(query.logits, LABELS).upper
    others = torch.stack([row[torch.arange(5) != label] for row, label in zip(upper, LABELS, strict=True)])
    torch.testing.assert_close(interval_loss(query, LABELS), cross_entropy_of_margins(-others))


def test_without_perturbation_all_are_the_loss():
    bounded, x = network(4), numbers(2, 3, 2)
    expected = cross_entropy(bounded.function(x), LABELS, reduction="none")
    for method in ("ibp", "crown-ibp", "fused"):
        for share in (0.0, 0.5, 1.0):
            torch.testing.assert_close(robust_loss(bounded, x, LABELS, method, share), expected)


def test_losses_do_not_overflow():
    bounded = network(4)
    for p in bounded.function.parameters():
        p.data = p.data.float() * 30
    set_ = linf(numbers(2, 3, 2).float(), 1.0)
    for method in ("ibp", "crown-ibp", "fused"):
        loss = robust_loss(bounded, set_, LABELS, method)
        loss.sum().backward()
        assert torch.isfinite(loss).all() and (loss > 100).all()
        assert all(torch.isfinite(p.grad).all() for p in bounded.function.parameters())


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "fused"])
def test_gradients(method):
    bounded = network(3, 3)
    names = [name for name, _ in bounded.function.named_parameters()][-2:]
    tensors = [dict(bounded.function.named_parameters())[name].detach().clone().requires_grad_() for name in names]
    set_: Perturbation = linf(numbers(2, 3, 2), 0.2)

    def loss(*values: Tensor) -> Tensor:
        return robust_loss(bounded, set_, LABELS, method, 0.7, values=dict(zip(names, values, strict=True)))

    # What scales the exponentials is not differentiated, and does not have to be.
    assert torch.autograd.gradcheck(loss, tensors, atol=1e-5)


def test_margins_to_loss():
    margins = torch.tensor([[0.0, 0.0], [1e4, 1e4], [-1e4, 0.0]])
    expected = torch.tensor([3.0]).log().item()
    torch.testing.assert_close(cross_entropy_of_margins(margins), torch.tensor([expected, 0.0, 1e4]))


def test_mixing_is_between_its_parts():
    bounded, set_ = network(4), make("box")
    whole = [robust_loss(bounded, set_, LABELS, "fused", share) for share in (0.0, 0.25, 1.0)]
    torch.testing.assert_close(whole[1], 0.75 * whole[0] + 0.25 * whole[2])
    assert not torch.allclose(whole[0], whole[2])
    query = bounded.query(set_, "crown-ibp")
    margins = 0.25 * backward_margins(query, LABELS) + 0.75 * interval_margins(query, LABELS)
    published = cross_entropy_of_margins(margins)
    torch.testing.assert_close(robust_loss(bounded, set_, LABELS, "crown-ibp", 0.25), published)
    with pytest.raises(ValueError, match="unknown training method"):
        robust_loss(bounded, set_, LABELS, "magic")


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "fused"])
@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_none(method, label):
    with pytest.raises(ValueError, match="a label outside 0 to 3"):
        robust_loss(network(4), make("box"), torch.tensor([0, label]), method)
