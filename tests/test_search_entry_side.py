"""On which side of a jump an entry is: proved under the assumption that it is on the other one."""

from __future__ import annotations

import pytest
from random_networks import generator, samples
from test_search_jumps import LATER, setting

from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.costliest import costliest
from lirpa_verify.search.entry_side import Side, assumed, task_of
from lirpa_verify.search.jumps import jump, nearest
from lirpa_verify.search.output_constraint import propagated
from lirpa_verify.search.roots import Task, root_domains
from lirpa_verify.search.shared_slopes import assume_with_slopes


def sides_of(radius: float) -> tuple[Graph, Interval, list[Interval], int, list[Side]]:
    graph, box, values = setting("one map", radius)
    i, point = jump(graph) or (0, 0.0)
    return graph, box, values, i, nearest(graph, i, point, values)


def tasks(radius: float, count: int = 40) -> list[Task]:
    graph, _, values, i, sides = sides_of(radius)
    found = [task_of(graph, i, values, side) for side in sides[:count]]
    return [task for task in found if task is not None]


def test_entries_are_decided_without_a_split() -> None:
    decided = 0
    for task in tasks(0.08, 16):
        domain = root_domains(task, LATER, 30)
        decided += float(domain.margin) <= 0 and assumed(task, domain, LATER) is None
    assert decided >= 6


@pytest.mark.parametrize("radius", [0.06, 0.2])
def test_no_side_is_proved_that_points_contradict(radius: float) -> None:
    graph, box, _, i, sides = sides_of(radius)
    points = graph.evaluate(samples(generator(2), box, 5000)[:, 0])[i].flatten(1)
    contradicted = 0
    for side, task in zip(sides, tasks(radius), strict=False):
        below = points[:, side.entry] * side.sign <= side.limit
        if bool(below.any()):
            contradicted += 1
            assert assumed(task, root_domains(task, LATER, 5), LATER) is not None
    assert contradicted or radius < 0.1


def test_bounds_hold_where_the_entry_is_on_the_other_side() -> None:
    tried = 0
    for task in tasks(0.2):
        found = assumed(task, root_domains(task, LATER, 5), LATER)
        points = task.graph.evaluate(samples(generator(3), task.nodes[0], 5000)[:, 0])
        (row,), rhs = task.roots.start[task.graph.output][0], float(task.roots.rhs)
        there = (points[-1] @ row) <= rhs
        if found is None or not bool(there.any()):
            continue
        tried += 1
        for interval, point in zip(found[0].nodes, points, strict=True):
            inside = (interval.lower <= point[there] + 1e-9) & (point[there] <= interval.upper + 1e-9)
            assert bool(inside.all())
    assert tried


def test_only_the_costliest_neurons_are_bounded_again() -> None:
    changed = 0
    for task in tasks(0.1, 12):
        domain = root_domains(task, LATER, 5)
        entries = costliest(task, domain, 3)
        for z, chosen in entries.items():
            lower, upper = (end.flatten() for end in task.nodes[z])
            assert len(chosen) <= 3 and bool(((lower < 0) & (upper > 0))[chosen].all())
        last = max(entries, key=lambda z: (len(entries[z]) > 0, z))
        alone = {last: entries[last]}  # narrower bounds further down would narrow other entries too
        values = assume_with_slopes(task, domain, alone) if float(domain.margin) <= 0 else None
        if values is None:
            continue
        before = propagated(task.graph, task.nodes)[last]
        narrower = (values[last].lower > before.lower) | (values[last].upper < before.upper)
        assert set(narrower.flatten().nonzero().flatten().tolist()) <= set(entries[last].tolist())
        changed += bool(narrower.any())
    assert changed
