"""Parts of a batch bounded side by side give what the whole batch gives, in its order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from random_networks import dense_graph, generator, make_property, problem_of, random_boxes

from lirpa_verify.search.bound_boxes import RowBounds, bound_boxes
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.input_split import initial_boxes
from lirpa_verify.search.parallel import Workers


def test_parts_are_joined_in_order() -> None:
    graph = dense_graph(1, (3, 8, 8, 2))
    box = random_boxes(generator(1), 130, 3)
    disjuncts = [
        (b, [({3: 1.0}, -0.1 * k), ({4: 1.0, 0: 0.5}, 0.3)][: 1 + b % 2]) for b in range(130) for k in range(1 + b % 3)
    ]
    ends = [(low.tolist(), high.tolist()) for low, high in zip(*box, strict=True)]
    problem = problem_of(make_property(3, 2, ends, disjuncts))
    boxes = initial_boxes(problem)
    alive = boxes.alive.any(0).nonzero().flatten()

    def bound(part: Boxes) -> RowBounds:
        return bound_boxes(graph, problem.specification, part, "crown", disjuncts=alive)

    whole = bound(boxes)
    with ThreadPoolExecutor(3) as pool:
        parts = Workers(3, pool).bound(boxes, bound)
    assert torch.equal(whole.disjuncts, parts.disjuncts)
    assert torch.equal(whole.closed(), parts.closed())
    assert torch.allclose(whole.linear.weight, parts.linear.weight, atol=1e-6)
    finite = torch.isfinite(whole.margin)
    assert torch.equal(finite, torch.isfinite(parts.margin))
    assert torch.allclose(whole.margin[finite], parts.margin[finite], atol=1e-6)
