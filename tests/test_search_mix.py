"""Mixtures of the rows of a conjunction prove what no row does alone, and exclude no violation."""

from __future__ import annotations

import torch
from random_networks import generator, graph_of, make_property, normal, problem_of, random_boxes, samples

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.bound_boxes import bound_rows
from lirpa_verify.search.input_split import initial_boxes, reduce
from lirpa_verify.search.mix import minima, with_mixture


def test_mixtures_are_positive_only_where_no_point_satisfies_all_rows() -> None:
    for seed in range(40):
        g = generator(seed)
        box = random_boxes(g, 6, 3)
        weight = normal(g, 6, 2, 3, 3)
        points = samples(g, box, 300)
        values = (weight * points[:, :, None, None, :]).sum(4)  # (points, boxes, disjuncts, rows)
        offset = -values[torch.randint(0, 300, (1,), generator=g)][0] + 0.3 * torch.rand(6, 2, 3, generator=g)
        offset[:, :, 2] = offset[:, :, 2].masked_fill(torch.rand(6, 2, generator=g) < 0.3, -torch.inf)
        mixed_weight, mixed_offset = with_mixture(box, weight, offset)
        assert torch.equal(mixed_weight[:, :, :3], weight) and torch.equal(mixed_offset[:, :, :3], offset)
        mixture = (mixed_weight[:, :, 3] * points[:, :, None, :]).sum(3) + mixed_offset[:, :, 3]
        hold = (values + offset <= 0).all(3)
        assert bool((mixture[hold] <= 1e-9).all()), seed


def test_mixtures_come_near_the_best_one() -> None:
    g = generator(1)
    box = random_boxes(g, 200, 3)
    weight, offset = normal(g, 200, 1, 3, 3), normal(g, 200, 1, 3)
    lower, upper = box.lower[:, None, None], box.upper[:, None, None]
    mixed = minima(*with_mixture(box, weight, offset), lower, upper)
    shares = torch.rand(1000, 3, generator=g, dtype=torch.float64) ** 3
    shares = shares / shares.sum(1, keepdim=True)
    sampled = minima(shares @ weight, (shares @ offset.unsqueeze(3)).squeeze(3), lower, upper)
    alone, gained = mixed[..., :3].amax(2), mixed[..., 3]
    gainable = float((sampled.amax(2) - alone).clamp(min=0).sum())
    assert gainable > 10 and float((gained - alone).clamp(min=0).sum()) >= 0.9 * gainable


def test_rows_without_meaning_make_mixtures_without_meaning() -> None:
    box = Interval(torch.zeros(1, 2), torch.ones(1, 2))
    _, offset = with_mixture(box, torch.ones(1, 1, 2, 2), torch.full((1, 1, 2), -torch.inf))
    assert float(offset[0, 0, 2]) == -torch.inf
    weight, offset = with_mixture(box, torch.ones(1, 1, 2, 2), torch.tensor([[[-torch.inf, 0.5]]]))
    assert weight[0, 0, 2].tolist() == [1.0, 1.0] and abs(float(offset[0, 0, 2]) - 0.5) < 1e-3


def test_a_box_closes_where_each_row_has_a_point_of_its_own() -> None:
    """x0 - x1 <= -0.1 and x1 - x0 <= -0.1."""
    graph = graph_of(lambda x: 1.0 * x, (2,), simplified=False)
    rows = [({2: 1.0, 3: -1.0}, -0.1), ({2: -1.0, 3: 1.0}, -0.1)]
    problem = problem_of(make_property(2, 2, [([0.0, 0.0], [1.0, 1.0])], [(0, rows)]))
    start = initial_boxes(problem)
    bounds = bound_rows(graph, problem.specification, start, bound_nodes(graph, start.interval))
    assert not bool(bounds.closed().any())
    left, _ = reduce(start, bounds)
    assert len(left) == 0
