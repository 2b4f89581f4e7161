"""Whatever is closed, cut away or left covers the input box, exactly."""

from __future__ import annotations

import pytest
import torch
from random_networks import dense_graph, generator, make_property, problem_of, samples
from torch import Tensor

from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import batch_size, input_split
from lirpa_verify.search.bound_boxes import RowBounds, still_open
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Result

N = 3


def scene(seed: int) -> tuple[Graph, Problem]:
    """Two boxes with two disjuncts each that no point satisfies, though bounds of the whole boxes do not show it."""
    graph = dense_graph(seed, (N, 12, 12, 2), "relu", scale=1.4)
    ends = [([-0.8] * N, [0.7] * N), ([0.1, -1.0, 0.4], [0.9, 0.6, 1.3])]
    rows = []
    for b, (low, high) in enumerate(ends):
        box = Interval(torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64))
        values = graph.forward(samples(generator(seed), box, 4000)[:, 0])
        for k, sign in ((0, 1.0), (1, -1.0)):
            rows.append((b, [({N + k: sign}, float((sign * values[:, k]).min()) - 0.15)]))
    return graph, problem_of(make_property(N, 2, ends, rows))


def search(graph: Graph, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> tuple[Result, list[Boxes]]:
    """The result, and the boxes that were closed."""
    closed: list[Boxes] = []
    reduce = input_split.reduce

    def watched(boxes: Boxes, bounds: RowBounds) -> tuple[Boxes, Tensor]:
        closed.append(boxes[~still_open(boxes, bounds).any(1)])
        return reduce(boxes, bounds)

    monkeypatch.setattr(input_split, "reduce", watched)
    latest = Deadline.after(60)
    begun = input_split.InputSplit.of(graph, problem, latest, lambda x: None, lambda p: None, "crown", lambda: None)
    return begun.run(latest), closed


def shrink_nothing(box: Interval, weight: Tensor, offset: Tensor, open_disjuncts: Tensor) -> Interval:
    return box


@pytest.mark.parametrize("seed", range(4))
def test_closed_boxes_cover_the_box_exactly(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shrinking: volumes add up, and every sampled point lies in a closed box."""
    graph, problem = scene(seed)
    monkeypatch.setattr(input_split, "shrink", shrink_nothing)
    result, closed = search(graph, problem, monkeypatch)
    assert result.verdict == "unsat" and sum(map(len, closed)) > 8
    points = samples(generator(7), problem.box, 500)  # (samples, boxes, N)
    for b in range(2):
        mine = [part[part.origin == b] for part in closed]
        lower, upper = torch.cat([p.lower for p in mine]), torch.cat([p.upper for p in mine])
        whole = (problem.box.upper[b] - problem.box.lower[b]).prod()
        assert torch.allclose((upper - lower).prod(1).sum(), whole, rtol=1e-12)
        x = points[:, b].unsqueeze(1)
        assert bool(((x >= lower) & (x <= upper)).all(2).any(1).all())


@pytest.mark.parametrize("seed", range(4))
def test_what_shrinking_cuts_away_holds_no_violation(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point in no closed box was cut away: its margins must be above 0 for some row of every disjunct."""
    graph, problem = scene(seed)
    result, closed = search(graph, problem, monkeypatch)
    assert result.verdict == "unsat"
    points = samples(generator(8), problem.box, 2000)
    outside = 0
    for b in range(2):
        x = points[:, b]
        mine = [part[part.origin == b] for part in closed]
        lower, upper = torch.cat([p.lower for p in mine]), torch.cat([p.upper for p in mine])
        inside = ((x.unsqueeze(1) >= lower) & (x.unsqueeze(1) <= upper)).all(2).any(1)
        margins = problem.specification.margins(x, graph.forward(x), torch.full((len(x),), b))
        assert bool((margins > 0).any(2).all(1)[~inside].all())
        outside += int((~inside).sum())
    assert outside > 0


def test_the_boxes_needed_do_not_depend_on_the_batch() -> None:
    """One halving at a time, the tree is the same whatever is bounded together."""
    graph, problem = scene(1)
    found = []
    for first in (1, 3, 64, 4096):
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(batch_size, "FIRST_BATCH", first)
            monkeypatch.setattr(input_split, "FILL", 1)
            result, closed = search(graph, problem, monkeypatch)
        assert result.verdict == "unsat"
        found.append((result.statistics["boxes"], torch.cat([part.lower for part in closed]).sum(0)))
    for boxes, corners in found[1:]:
        assert boxes == found[0][0]
        assert torch.allclose(corners, found[0][1])
