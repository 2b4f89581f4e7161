"""What halving an input is expected to gain: it must see errors of relaxations, which coefficients do not show."""

from __future__ import annotations

import pytest
import torch
from random_networks import dense_graph, generator, graph_of, make_property, problem_of, random_boxes
from torch import Tensor

from lirpa_verify.graph.graph import Graph
from lirpa_verify.search import gain as module
from lirpa_verify.search.bound_boxes import bound_boxes
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.gain import expected_gain
from lirpa_verify.search.halving import halve, split
from lirpa_verify.search.input_split import initial_boxes
from lirpa_verify.search.specification import Problem

BOXES, INPUTS = 6, 4


def random_problem(seed: int, activation: str) -> tuple[Graph, Problem]:
    graph = dense_graph(seed, (INPUTS, 16, 16, 16, 1), activation, scale=1.5)
    box = random_boxes(generator(seed), BOXES, INPUTS)
    ends = [(low.tolist(), high.tolist()) for low, high in zip(*box, strict=True)]
    rows = [(b, [({INPUTS: 1.0}, 1e3)]) for b in range(BOXES)]
    return graph, problem_of(make_property(INPUTS, 1, ends, rows))


def halved_margins(graph: Graph, problem: Problem, boxes: Boxes) -> Tensor:
    """(inputs, batch): the bounds of both halves added up, for every input that could be halved."""
    found = []
    for j in range(INPUTS):
        halves = halve(boxes, torch.full((BOXES,), j))
        margin = bound_boxes(graph, problem.specification, halves, "crown").margin
        found.append(margin.reshape(2, BOXES).sum(0))
    return torch.stack(found)


@pytest.mark.parametrize(("activation", "share_taken"), [("relu", 0.93), ("sigmoid", 0.85), ("sin", 0.75)])
def test_the_largest_gain_is_nearly_the_best_choice(activation: str, share_taken: float) -> None:
    """Of what there is between the worst and the best input, most is taken; with ReLUs more than by coefficients."""
    by_gain, by_coefficient = [], []
    for seed in range(8):
        graph, problem = random_problem(seed, activation)
        boxes = initial_boxes(problem)
        every = halved_margins(graph, problem, boxes)
        low, high = every.amin(0), every.amax(0)
        matters = high - low > 1e-6
        share = (every - low) / (high - low).clamp(min=1e-6)
        weight = bound_boxes(graph, problem.specification, boxes, "crown").linear.weight[:, 0]
        sensitivity = weight.abs() * (boxes.upper - boxes.lower)
        gain = expected_gain(graph, problem.specification, boxes, "crown")
        by_gain.append(share.gather(0, gain.argmax(1)[None])[0][matters])
        by_coefficient.append(share.gather(0, sensitivity.argmax(1)[None])[0][matters])
    assert float(torch.cat(by_gain).mean()) > share_taken
    assert activation != "relu" or float(torch.cat(by_gain).mean()) > float(torch.cat(by_coefficient).mean())


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, problem = random_problem(3, "relu")
    boxes = initial_boxes(problem)
    whole = expected_gain(graph, problem.specification, boxes, "crown")
    assert whole.shape == (BOXES, INPUTS)
    assert bool((whole >= 0).all()) and bool((whole > 0).any(1).all())
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    assert torch.allclose(whole, expected_gain(graph, problem.specification, boxes, "crown"), atol=1e-9)


def test_a_fixed_input_gains_nothing() -> None:
    graph, problem = random_problem(4, "relu")
    boxes = initial_boxes(problem)
    boxes.upper[:, 1] = boxes.lower[:, 1]
    assert bool((expected_gain(graph, problem.specification, boxes, "crown")[:, 1] == 0).all())


def test_where_no_gain_is_known_every_input_is_halved_in_turn() -> None:
    problem = problem_of(make_property(2, 1, [([-4.3, -2.2], [3.9, 2.7])], [(0, [({2: 1.0}, -20.0)])]))
    boxes = initial_boxes(problem)
    parts = split(boxes, torch.zeros_like(boxes.lower), room=64)
    assert len(parts) == 64
    assert bool((parts.upper - parts.lower < 1.1).all())


def test_the_row_that_can_close_a_box_counts() -> None:
    """Of a conjunction one row is nearer to 0, but negative somewhere in the box: only the other can close it."""

    def rows(x: Tensor) -> Tensor:
        return torch.stack([x[..., 0] + x[..., 2] + 1.9, torch.relu(x[..., 1]) - 0.5 * x[..., 1] + 0.2], -1)

    graph = graph_of(rows, (1, 3))
    conjunction = [({3: 1.0}, 0.0), ({4: 1.0}, 0.0)]
    problem = problem_of(make_property(3, 2, [([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])], [(0, conjunction)]))
    boxes = initial_boxes(problem)
    margin = bound_boxes(graph, problem.specification, boxes, "crown").margin[0, 0]
    assert margin[1] < margin[0] < 0
    gain = expected_gain(graph, problem.specification, boxes, "crown")
    assert gain[0].argmax() == 1 and gain[0, 1] > 0
