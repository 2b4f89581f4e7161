"""Shrinking boxes loses no violation; splitting covers what it splits."""

from __future__ import annotations

import torch
from random_networks import dense_graph, generator, make_property, normal, problem_of, random_boxes, samples

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.bound_boxes import bound_rows
from lirpa_verify.search.boxes import Boxes, join
from lirpa_verify.search.halving import halve, split
from lirpa_verify.search.input_split import initial_boxes, reduce
from lirpa_verify.search.shrink import shrink
from lirpa_verify.search.stack import Stack


def inside(points: torch.Tensor, box: Interval) -> torch.Tensor:
    """(points, boxes)"""
    return ((points >= box.lower) & (points <= box.upper)).all(2)


def test_no_point_that_satisfies_the_rows_is_cut_away() -> None:
    for seed in range(30):
        g = generator(seed)
        box = random_boxes(g, 8, 3)
        weight = normal(g, 8, 2, 2, 3) * 10.0 ** torch.randint(-13, 7, (8, 2, 2, 3), generator=g)
        weight = weight * (torch.rand(weight.shape, generator=g) < 0.8)
        open_ = torch.rand(8, 2, generator=g) < 0.7
        points = samples(g, box, 400)
        values = (weight * points[:, :, None, None, :]).sum(4)  # (points, boxes, disjuncts, rows)
        offset = -values[torch.randint(0, 400, (1,), generator=g)][0]  # attained, by one point at least
        offset[:, :, 1] = offset[:, :, 1].masked_fill(torch.rand(8, 2, generator=g) < 0.3, -torch.inf)
        offset = offset.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        hold = (values + offset <= 0).all(3) & open_
        cut = shrink(box, weight, offset, open_)
        assert bool((inside(points, cut) | ~hold.any(2)).all()), seed
        whole = ~(cut.lower > cut.upper).any(1)
        assert bool((cut.lower[whole] >= box.lower[whole]).all() and (cut.upper[whole] <= box.upper[whole]).all())


def test_reduced_boxes_keep_every_sampled_violation() -> None:
    for seed in range(15):
        graph = dense_graph(seed, (3, 6, 6, 2), "relu" if seed % 2 else "tanh")
        g = generator(seed)
        box = random_boxes(g, 3, 3)
        points = samples(g, box, 500)
        y = graph.forward(points.flatten(0, 1)).unflatten(0, points.shape[:2])
        boxes = [(a.tolist(), b.tolist()) for a, b in zip(*box, strict=True)]
        low, high = float(y[..., 0].quantile(0.05)), float(y[..., 1].quantile(0.95))
        rows = [(b, [({3: 1.0}, low), ({4: -1.0}, -high + 1.0)]) for b in range(3)] + [
            (0, [({4: -1.0, 0: 0.5}, -high)])
        ]
        problem = problem_of(make_property(3, 2, boxes, rows))
        start = initial_boxes(problem)
        bounds = bound_rows(graph, problem.specification, start, bound_nodes(graph, start.interval))
        left, sensitivity = reduce(start, bounds)
        children = split(left, sensitivity, room=64) if len(left) else left
        for b in range(3):
            margins = problem.specification.margins(points[:, b], y[:, b], torch.full((500,), b))
            violating = (margins <= 0).all(2)  # (points, disjuncts)
            for part in (left, children):
                mine = part[part.origin == b]
                covered = inside(points[:, b].unsqueeze(1), mine.interval)  # (points, boxes)
                kept = (covered.unsqueeze(2) & mine.alive.unsqueeze(0)).any(1)
                assert bool((kept | ~violating).all()), (seed, b)


def test_halves_cover_the_box() -> None:
    g = generator(4)
    box = random_boxes(g, 6, 3)
    number, alive = torch.arange(6), torch.ones(6, 1, dtype=torch.bool)
    zero = torch.zeros(6, dtype=torch.float64)
    boxes = Boxes(*box, number, alive, zero, torch.ones_like(box.lower), number, zero + 1)
    halves = halve(boxes, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert halves.origin.tolist() == [*range(6), *range(6)]
    points = samples(g, box, 200)
    for b in range(6):
        mine = halves[halves.origin == b]
        assert bool(inside(points[:, b].unsqueeze(1), mine.interval).any(1).all())


def test_the_stack_returns_everything_once() -> None:
    def boxes(numbers: range) -> Boxes:
        origin = torch.tensor(list(numbers))
        column = origin.double().unsqueeze(1)
        return Boxes(column, column, origin, origin.unsqueeze(1) >= 0, origin.double(), column, origin, column)

    stack: Stack[Boxes] = Stack(join)
    stack.push(boxes(range(5)))
    stack.push(boxes(range(0)))
    stack.push(boxes(range(5, 7)))
    assert stack.pop(1).origin.tolist() == [6]
    seen = [6]
    stack.push(boxes(range(7, 10)))
    while stack.count:
        batch = stack.pop(4)
        assert 1 <= len(batch) <= 4
        seen += batch.origin.tolist()
    assert sorted(seen) == list(range(10))
