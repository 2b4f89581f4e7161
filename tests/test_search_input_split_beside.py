"""An input split on trial, and beside an activation split."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count, pairwise

import pytest
import torch
from deciders import judge, restricted
from random_networks import dense_graph, generator, make_property, samples

from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import input_split, input_split_beside
from lirpa_verify.search.activation_split import Outlook
from lirpa_verify.search.input_split import InputSplit
from lirpa_verify.search.input_split_beside import InputSplitBeside, input_split_trial
from lirpa_verify.search.split_activations import split_activations
from lirpa_verify.verdict import Result
from vnnlib import Property

LATER = Deadline.after(3600)


def scene(seed: int, inputs: int, gap: float, radius: float = 1.0) -> tuple[Graph, Property]:
    """The least output that was sampled, less the gap, cannot be reached."""
    graph = dense_graph(seed, (inputs, 16, 16, 1), "relu", scale=1.4)
    ends = torch.full((1, inputs), radius, dtype=torch.float64)
    least = float(graph.forward(samples(generator(seed), Interval(-ends, ends), 4000)[:, 0]).min())
    box = ([-radius] * inputs, [radius] * inputs)
    return graph, make_property(inputs, 1, [box], [(0, [({inputs: 1.0}, least - gap)])])


def begun(graph: Graph, prop: Property) -> InputSplit:
    small, problem = restricted(graph, prop)
    confirm = judge(graph, prop, problem)
    return InputSplit.of(small, problem, LATER, confirm, lambda p: None, "crown", lambda: None)


class Clock:
    """A deadline that has passed once it was asked so often."""

    def __init__(self, rounds: int) -> None:
        self.asked, self.rounds = count(), rounds

    def passed(self) -> bool:
        return next(self.asked) >= self.rounds


@pytest.mark.parametrize("seed", range(3))
def test_interrupted_after_every_round_it_searches_the_same_boxes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_split, "FILL", 1)
    monkeypatch.setattr("lirpa_verify.search.batch_size.LONGEST_ROUND", 0.0)  # else sizes of batches depend on the time
    whole, parts = (begun(*scene(seed, 3, 0.3)) for _ in range(2))
    expected = whole.run(LATER)
    for _ in range(10_000):
        result = parts.run(Clock(1))  # type: ignore[arg-type]
        if result.verdict != "timeout":
            break
    assert result.verdict == expected.verdict == "unsat"
    assert result.statistics["boxes"] == expected.statistics["boxes"]
    assert int(result.statistics["rounds"]) > 2


def test_shares_of_open_boxes_say_how_much_is_closed() -> None:
    search = begun(*scene(0, 3, 0.02, 2.0))
    shares = [1.0]
    while search.run(Clock(1)).verdict == "timeout":  # type: ignore[arg-type]
        shares.append(sum(float(part.share.sum()) for part in search.stack.parts))
    assert all(later <= earlier for earlier, later in pairwise(shares))
    assert 0 < shares[-1] < 0.5


def test_the_outlook_is_the_pace_of_the_last_half() -> None:
    search = begun(*scene(0, 3, 0.3))
    [root] = search.stack.parts
    assert search.outlook() == math.inf
    for spent, open_, expected in ((1.0, 0.6, 1.5), (4.0, 0.4, 6.0), (9.0, 0.3, 15.0), (12.0, 0.29, 0.29 * 8 / 0.11)):
        search.spent = spent
        search.stack.parts = [root[:0], type(root)(*[*vars(root).values()][:-1], root.share * open_)]
        assert search.outlook() == pytest.approx(expected)


def test_a_trial_ends_where_halving_has_no_hope() -> None:
    easy, hard = begun(*scene(1, 2, 0.5)), begun(*scene(1, 40, 0.1))
    hard.confirm = lambda x: None  # whatever it finds
    result = input_split_trial(easy, Deadline.after(60))
    assert result is not None and result.verdict == "unsat"
    assert input_split_trial(hard, Deadline.after(60)) is None
    assert hard.spent < 10 and hard.stack.count > 0


@pytest.mark.parametrize(
    ("mine", "other", "share"),
    [(1.0, None, 0.5), (1.0, 3.0, 0.75), (1e9, 1.0, 0.1), (math.inf, 1.0, 0.1), (0.0, 1.0, 0.9)],
)
def test_time_goes_to_what_promises_to_end_sooner(
    mine: float, other: float | None, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = begun(*scene(0, 3, 0.3))
    monkeypatch.setattr(InputSplit, "outlook", lambda self: mine)
    beside = InputSplitBeside(search, lambda: None, LATER)
    if other is not None:
        beside.watch(Outlook(other, 0.1, 0.0))
    assert beside.share() == pytest.approx(share)


def decided_beside(
    prop: Property, graph: Graph, attack: Callable[[], Result | None] = lambda: None
) -> tuple[Result, InputSplitBeside]:
    small, problem = restricted(graph, prop)
    beside = InputSplitBeside(begun(graph, prop), attack, Deadline.after(30))
    confirm = judge(graph, prop, problem)
    result = split_activations(small, problem, Deadline.after(30), confirm, lambda p: None, beside, beside.watch)
    return result, beside


def test_the_input_split_decides_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several boxes: what the input split has proved holds for all of them."""
    monkeypatch.setattr(input_split_beside, "LEAST_SLICE", 0.0)
    monkeypatch.setattr(InputSplitBeside, "due", lambda self: 30.0)
    graph = dense_graph(2, (3, 12, 12, 1), "relu", scale=1.4)
    boxes = [([-1.0] * 3, [1.0] * 3), ([0.0] * 3, [2.0] * 3)]
    rows = []
    for b, (low, high) in enumerate(boxes):
        box = Interval(torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64))
        least = float(graph.forward(samples(generator(0), box, 4000)[:, 0]).min())
        rows.append((b, [({3: 1.0}, least - 0.2)]))
    result, beside = decided_beside(make_property(3, 1, boxes, rows), graph)
    assert result.verdict == "unsat" and result is beside.ended
    attained = [(b, [({3: 1.0}, row[0][1] + 0.5)]) for b, row in rows]
    result, beside = decided_beside(make_property(3, 1, boxes, attained), graph)
    assert result.verdict == "sat" and result.witness is not None


def test_where_it_cannot_tell_the_attack_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InputSplit, "run", lambda self, deadline: Result("unknown"))
    monkeypatch.setattr(InputSplitBeside, "due", lambda self: 1.0)
    called = []
    graph, prop = scene(0, 3, 0.3)
    beside = InputSplitBeside(begun(graph, prop), lambda: called.append(1), LATER)  # type: ignore[func-returns-value]
    assert beside() is None and beside() is None
    assert len(called) == 2
