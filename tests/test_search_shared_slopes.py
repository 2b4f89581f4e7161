"""Bounds at violations, from the slopes of the root's own bound."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_networks import generator, samples
from test_search_entry_side import tasks
from test_search_jumps import LATER

from lirpa_verify.bounds.crown import one_hot_rows, with_negated
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.search.costliest import costliest
from lirpa_verify.search.output_constraint import with_decided
from lirpa_verify.search.roots import Task, root_domains
from lirpa_verify.search.shared_slopes import SHARES, Shared, assume_with_slopes, best_shares


def violations(task: Task) -> list[torch.Tensor]:
    """The nodes' values at points of a sample where the root is violated."""
    points = task.graph.evaluate(samples(generator(3), task.nodes[0], 5000)[:, 0])
    (row,), rhs = task.roots.start[task.graph.output][0], float(task.roots.rhs)
    there = (points[-1] @ row) <= rhs
    return [point[there] for point in points]


@pytest.mark.parametrize("radius", [0.08, 0.1])
def test_bounds_hold_at_violations_sweep_after_sweep(radius: float) -> None:
    tried = 0
    for task in tasks(radius):
        points = violations(task)
        if len(points[-1]) == 0:
            continue
        for _ in range(3):
            domain = root_domains(task, LATER, 5)
            assert float(domain.margin) <= 0
            values = assume_with_slopes(task, domain, costliest(task, domain, 50))
            assert values is not None
            for interval, point in zip(values, points, strict=True):
                assert bool(((interval.lower <= point + 1e-9) & (point <= interval.upper + 1e-9)).all())
            cuts = with_decided(task, values)
            task = replace(task, nodes=tuple(values), sizes=sizes(task.graph, values), cuts=cuts)
            tried += bool(cuts.sign)
    assert tried >= 3  # also where constraints were carried on


def test_bounds_get_narrower_and_prove_roots() -> None:
    proved = narrower = 0
    for task in tasks(0.08, 16):
        domain = root_domains(task, LATER, 30)
        if float(domain.margin) > 0:
            continue
        values = assume_with_slopes(task, domain, costliest(task, domain, 50))
        if values is None:
            proved += 1
            continue
        last = task.layout.nodes[-1]
        before, after = ((v.upper - v.lower).sum() for v in (task.nodes[last], values[last]))
        narrower += float(after) < 0.9 * float(before)
    assert proved >= 3 and proved + narrower >= 6


def test_climbing_finds_the_best_of_all_shares() -> None:
    chosen: set[int] = set()
    for task in tasks(0.1):
        domain = root_domains(task, LATER, 5)
        shared = Shared(task, domain.parameters())
        for z, index in costliest(task, domain, 50).items():
            if len(index) == 0:
                continue
            lower, upper = (end.flatten(1)[:, index] for end in task.nodes[z])
            rows = with_negated(one_hot_rows(index, task.graph.nodes[z].shape, lower))
            unit = (upper - lower).repeat(1, 2) / -float(domain.margin)
            with torch.no_grad():
                best, place = best_shares(shared, task.nodes, z, rows, unit)
                every = torch.cat([shared.margins(task.nodes, z, rows, share * unit) for share in SHARES])
            assert torch.allclose(best, every.max(0).values, rtol=0, atol=1e-8)
            assert torch.allclose(best, every.gather(0, place.unsqueeze(0))[0], rtol=0, atol=1e-8)
            chosen |= set(place.tolist())
    assert len(chosen) >= 4  # rows climb in both directions
