"""What runs beside a proof has its turns while long bounds are made, and ends them when it decides."""

from __future__ import annotations

import pytest
import torch
from deciders import judge, restricted
from random_networks import dense_graph, make_property

from lirpa_verify.deadline import Deadline
from lirpa_verify.search import turns
from lirpa_verify.search.cubes import Cubes
from lirpa_verify.search.split_activations import split_activations
from lirpa_verify.search.turns import SharedDeadline, Turns
from lirpa_verify.verdict import Progress, Result


class Deciding:
    """Decides in its `number`-th turn."""

    def __init__(self, number: int) -> None:
        self.left, self.with_gradients = number, [True]

    def __call__(self) -> Result | None:
        self.left -= 1
        self.with_gradients.append(torch.is_grad_enabled())
        return Result("unknown", reason="the one beside") if self.left == 0 else None


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PAUSE", 0.0)


def test_a_deadline_passes_when_it_is_decided(at_once: None) -> None:
    beside = Turns(Deciding(3))
    deadline = SharedDeadline(Deadline.after(60).at, beside)
    part = deadline.within(30)
    assert part.remaining() <= 30 < deadline.remaining()
    assert [deadline.passed(), part.passed(), deadline.passed(), part.passed()] == [False, False, True, True]
    assert beside.decided is not None and beside.decided.reason == "the one beside"


def test_turns_are_not_taken_all_the_time() -> None:
    deciding = Deciding(3)
    deadline = SharedDeadline(Deadline.after(60).at, Turns(deciding))
    assert not any(deadline.passed() for _ in range(10))
    assert deciding.left >= 1


def test_a_deadline_passes_when_it_is_time() -> None:
    deciding = Deciding(1)
    assert SharedDeadline(Deadline.after(-1).at, Turns(deciding)).passed()
    assert deciding.left == 1


def test_first_bounds_are_left_when_it_is_decided(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one of the steps of the search is needed."""
    monkeypatch.setattr(Cubes, "solve", lambda self, root: pytest.fail("the search has begun"))
    graph = dense_graph(0, (6, 40, 40, 40, 2), "relu")
    y = graph.forward(torch.zeros(1, 6, dtype=torch.float64))[0].tolist()
    prop = make_property(6, 2, [([-1.0] * 6, [1.0] * 6)], [(0, [({6: 1.0}, y[0] - 0.01)])])
    small, problem = restricted(graph, prop)
    deciding, news = Deciding(4), list[Progress]()
    result = split_activations(small, problem, Deadline.after(60), judge(graph, prop, problem), news.append, deciding)
    assert result.reason == "the one beside" and deciding.left == 0
    assert all(deciding.with_gradients)
