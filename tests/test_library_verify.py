"""Verdicts about modules: never against a point, with witnesses that hold, and the same as from exported files."""

from __future__ import annotations

import pytest
import torch
from perturbation_examples import KINDS, inside, make, numbers
from torch import nn

import vnnlib
from lirpa_verify.deadline import Deadline
from lirpa_verify.library.bounded import Bounded
from lirpa_verify.library.export import export_instance
from lirpa_verify.network import load_network
from lirpa_verify.perturbations.ball import ball
from lirpa_verify.perturbations.box import Box, linf
from lirpa_verify.perturbations.polytope import ConstrainedBox
from lirpa_verify.perturbations.words import Words, words
from lirpa_verify.perturbations.zonotope import Zonotope
from lirpa_verify.strategy import Options, verify
from lirpa_verify.witness import replay


def classifier(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    return layers.double()


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_agree_with_points(kind):
    set_, seen = make(kind), []
    for seed in range(6):
        net = classifier(seed)
        bounded = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64))
        points = set_.sample(500, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            outputs = net(points.flatten(0, 1)).unflatten(0, (500, 2))
        labels = outputs.mean(0).argmax(1)
        with torch.no_grad():
            if kind != "words":  # so that some labels hold
                net[-1].bias += 0.7 * (torch.eye(3)[labels[0]] - 0.5)
            outputs = net(points.flatten(0, 1)).unflatten(0, (500, 2))
        for i, result in enumerate(bounded.verify(set_, labels=labels, timeout=20)):
            seen.append(result.verdict)
            broken = bool((outputs[:, i].argmax(1) != labels[i]).any())
            if result.verdict == "unsat":
                assert not broken
            if result.verdict == "sat":
                x = torch.from_numpy(result.witness.x).reshape(1, 1, 3, 2)
                assert inside(set_.example(i), x).all()
                y = net(x[0])[0]
                torch.testing.assert_close(torch.from_numpy(result.witness.y), y.detach())
                assert y[labels[i]] <= y[torch.arange(3) != labels[i]].max()
            if set_.is_box or isinstance(set_, ConstrainedBox | Words | Zonotope):
                assert result.verdict in ("sat", "unsat")  # a complete search over a few inputs
    assert len(set(seen)) > 1, seen


def test_constraints_can_make_it_hold():
    """x0 - x1 >= 0 fails on the square, but not where x0 >= x1 + 0.1."""
    net = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.eye(2))
    zero = torch.zeros(1, 2, dtype=torch.float64)
    bounded, label = Bounded(net, zero), torch.tensor([0])
    assert bounded.verify(Box(zero, zero + 1), labels=label)[0].verdict == "sat"
    matrix = torch.tensor([[[-1.0, 1.0]]], dtype=torch.float64)
    cut = ConstrainedBox(zero, zero + 1, matrix, torch.tensor([[-0.1]], dtype=torch.float64))
    assert bounded.verify(cut, labels=label)[0].verdict == "unsat"
    touching = ConstrainedBox(zero, zero + 1, matrix, torch.tensor([[0.0]], dtype=torch.float64))
    assert bounded.verify(touching, labels=label)[0].verdict == "sat"  # x0 = x1


def test_a_ball_at_its_exact_radius():
    """The distance of a point to the boundary of a linear classifier decides."""
    net = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.eye(2))
    x = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    bounded, label = Bounded(net, x), torch.tensor([0])
    distance = 2**0.5
    for radius, expected in ((distance - 1e-6, "unsat"), (distance + 1e-6, "sat")):
        assert bounded.verify(ball(x, radius), labels=label)[0].verdict == expected
    assert bounded.verify(ball(x, distance), labels=label)[0].verdict in ("sat", "unknown")  # too close for a proof


@pytest.mark.parametrize("p", [1.0, 2.0, 5.0])
def test_witnesses_of_float32_modules_lie_in_the_ball(p):
    found = 0
    for seed in range(12):
        torch.manual_seed(seed)
        net, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(1, 4)
        result = Bounded(net, x).verify(ball(x, 0.8, p), labels=net(x).argmax(1), timeout=10)[0]
        if result.witness is not None:
            step = torch.from_numpy(result.witness.x).double() - x[0].double()
            assert torch.linalg.vector_norm(step, p) <= torch.tensor(0.8).double()
            found += 1
    assert found > 2


def test_zonotopes_without_generators_are_points():
    net, x = classifier(0), numbers(2, 3, 2)
    set_ = Zonotope(x, torch.zeros(2, 0, 3, 2, dtype=torch.float64))
    results = Bounded(net, x).verify(set_, labels=net(x).argmax(1))
    assert [result.verdict for result in results] == ["unsat", "unsat"]


def test_few_sentences_are_decided_one_by_one():
    """A square is 1 at both words, which bounds over all between them cannot see."""
    embedding = torch.tensor([[0.0], [1.0], [-1.0]], dtype=torch.float64)

    class Squares(nn.Module):
        def forward(self, x):
            y = x[:, 0, 0] ** 2 + x[:, 1, 0] ** 2 + x[:, 2, 0] ** 2 - 1.5
            return torch.stack([y, torch.zeros_like(y)], 1)

    set_ = words(torch.tensor([[1, 1, 0]]), embedding, {1: [2], 0: [1, 2]}, 3)
    bounded = Bounded(Squares(), torch.zeros(1, 3, 1, dtype=torch.float64))
    assert len(set_.members(100)) == 2 * 2 * 3 and set_.members(11) is None
    assert float(bounded.margins(set_, torch.tensor([0]), "alpha-crown")) < 0
    result = bounded.verify(set_, labels=torch.tensor([0]))[0]
    assert (result.verdict, result.reason) == ("unsat", "enumeration")


def test_specifications_and_perturbed_parameters():
    net = classifier(0)
    bounded, x = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64)), numbers(2, 3, 2)
    label = net(x).argmax(1)
    sets = {"5.weight": linf(net[5].weight.detach().unsqueeze(0), 1e-4)}
    assert [r.verdict for r in bounded.verify(x, labels=label, parameters=sets)] == ["unsat", "unsat"]
    sets = {"5.weight": linf(net[5].weight.detach().unsqueeze(0), 2.0)}
    assert "sat" in [r.verdict for r in bounded.verify(x, labels=label, parameters=sets)]
    rows = torch.tensor([[1.0, 0.0, 0.0]])  # the first output is positive
    expected = ["unsat" if y > 0 else "sat" for y in net(x)[:, 0]]
    assert [r.verdict for r in bounded.verify(x, specification=rows)] == expected


def test_options_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="'magic' is none of auto, ibp"):
        Options(method="magic")
    with pytest.raises(ValueError, match="'gpu' is none of auto, cpu, cuda"):
        Options(device="gpu")


def test_no_time_is_a_timeout():
    net, set_ = classifier(1), make("l2")
    bounded = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64))
    assert bounded.verify(set_, labels=torch.tensor([0, 0]), timeout=0.0)[0].verdict == "timeout"


def test_exported_files_have_the_same_answer(tmp_path):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    bounded, x = Bounded(net, torch.zeros(1, 1, 2, 3)), numbers(4, 1, 2, 3).float()
    net[3] = nn.Linear(4, 3)
    bounded = Bounded(net, torch.zeros(1, 1, 2, 3))
    labels, verdicts = net(x).argmax(1), []
    for radius in (0.02, 0.5):
        for i in range(4):
            box = linf(x[i : i + 1], radius)
            model, prop = tmp_path / "net.onnx", tmp_path / f"{i}_{radius}.vnnlib"
            export_instance(net, box, int(labels[i]), model, prop)
            there = verify(load_network(model), vnnlib.read(prop), Deadline.after(20), Options(), lambda p: None)
            here = bounded.verify(box, labels=labels[i : i + 1])[0]
            assert there.verdict == here.verdict
            if here.verdict == "unsat":
                assert (bounded.margins(box, labels[i : i + 1], "alpha-crown") > -1).all()
            if bool((bounded.margins(box, labels[i : i + 1], "crown") > 1e-4).all()):
                assert there.verdict == "unsat"
            verdicts.append(there.verdict)
    assert {"sat", "unsat"} <= set(verdicts)
    with torch.no_grad():
        net[3].weight.neg_()  # the file must not be that of the network before
    export_instance(net, linf(x[:1], 0.02), 0, tmp_path / "net.onnx", tmp_path / "again.vnnlib")
    torch.testing.assert_close(
        torch.from_numpy(replay(tmp_path / "net.onnx", x[0].flatten().numpy())), net(x[:1])[0].detach()
    )
    with pytest.raises(ValueError, match="label 3 of a module with 3 outputs"):
        export_instance(net, linf(x[:1], 0.1), 3, None, tmp_path / "no.vnnlib")
    with pytest.raises(ValueError, match="boxes"):
        export_instance(net, ball(x[:1], 0.1), 0, tmp_path / "net.onnx", tmp_path / "no.vnnlib")


def test_zonotopes_among_other_inputs():
    """x0 + x1 is constant on the diagonal, however far it reaches, and y shifts it."""

    def total(x, y):
        s = x.sum(1) + y[:, 0]
        return torch.stack([s, torch.zeros_like(s)], 1)

    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    diagonal = Zonotope(x, torch.tensor([[[5.0, -5.0]]], dtype=torch.float64))
    bounded, label = Bounded(total, x, y), torch.tensor([0])
    assert bounded.verify([diagonal, linf(y, 0.9)], labels=label)[0].verdict == "unsat"
    assert bounded.verify([diagonal, y], labels=label)[0].verdict == "unsat"
    broken = bounded.verify([diagonal, linf(y, 1.1)], labels=label)[0]
    assert broken.verdict == "sat" and broken.witness.x.shape == (3,)
    assert sum(broken.witness.x) <= 0
