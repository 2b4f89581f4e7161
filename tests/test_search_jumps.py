"""Arguments of jumps are decided one by one, as far as a property of many of them needs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from function_checks import constant
from random_networks import generator, make_property, problem_of, samples

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load.record import record
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.jumps import decide_jumps, jump, nearest, one_sided
from lirpa_verify.search.split_activations import split_activations
from lirpa_verify.threads import torch_threads

K1, K2, K3 = constant(6, 2, 3, 3), constant(6, 6, 3, 3, seed=1) / 4, constant(1, 6, 1, 1, seed=2)
LATER = Deadline.after(1e6)


def maps(x: torch.Tensor, channels: int) -> torch.Tensor:
    kernel = torch.cat([K3, -K3])[:channels]
    return F.conv2d(F.relu(F.conv2d(F.relu(F.conv2d(x, K1, padding=1)), K2, padding=1)), kernel, constant(channels) / 2)


NETWORKS = {
    "one map": lambda x: (maps(x, 1) > 0).to(x.dtype).sum((1, 2, 3)),
    "two maps": lambda x: (maps(x, 2) >= 0).to(x.dtype).sum((1, 2, 3)),
    "sign": lambda x: torch.sign(maps(x, 1)).reshape(1, -1).sum(1),
}


def setting(name: str, radius: float = 0.045) -> tuple[Graph, Interval, list[Interval]]:
    graph = simplify(lower(record(NETWORKS[name], [constant(1, 2, 12, 12)]), RULES))
    centre = torch.randn(1, graph.n_inputs, generator=generator(0), dtype=torch.float64)
    box = Interval(centre - radius, centre + radius)
    with torch.no_grad():
        return graph, box, bound_nodes(graph, box)


def wider_than(width: float) -> Callable[[list[Interval]], torch.Tensor]:
    """A property that is proved once the range of the output is no wider."""
    return lambda values: (values[-1].upper - values[-1].lower).flatten() > width


def width(values: list[Interval]) -> float:
    return float(values[-1].upper - values[-1].lower)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_decided_sides_hold_and_prove_what_bounds_did_not(name: str, threads: int) -> None:
    graph, box, values = setting(name)
    goal = width(values) - 5.5
    with torch_threads(threads), torch.no_grad():
        found = decide_jumps(graph, values, wider_than(goal), LATER)
    assert width(found) <= goal
    points = graph.evaluate(samples(generator(1), box, 2000)[:, 0])
    for interval, point, before in zip(found, points, values, strict=True):
        assert bool(((interval.lower <= point + 1e-9) & (point <= interval.upper + 1e-9)).all())
        assert bool(((before.lower <= interval.lower) & (interval.upper <= before.upper)).all())
    i, _ = jump(graph) or (0, 0.0)
    changed = (found[i].lower != values[i].lower) | (found[i].upper != values[i].upper)
    assert bool((points[i] != 0)[:, changed[0]].all())  # on one side of the jump throughout


def test_no_more_entries_are_decided_than_needed() -> None:
    graph, _, values = setting("one map")
    with torch.no_grad():
        few = decide_jumps(graph, values, wider_than(width(values) - 1.5), LATER)
        none = decide_jumps(graph, values, wider_than(-1), LATER)  # cannot be reached
    assert width(few) == pytest.approx(width(values) - 2)
    assert none is values


def test_time_is_up() -> None:
    graph, _, values = setting("one map")
    with torch.no_grad():
        assert decide_jumps(graph, values, wider_than(width(values) - 2), Deadline.after(-1)) is values


def test_nearest_entries_come_first() -> None:
    graph, _, values = setting("one map")
    i, point = jump(graph) or (0, 0.0)
    sides = nearest(graph, i, point, values)
    lower, upper = (end.flatten() for end in values[i])
    lack = [float((-lower if s.sign > 0 else upper)[s.entry] / (upper - lower)[s.entry]) for s in sides]
    assert lack == sorted(lack) and len(sides) == int(((lower < 0) & (upper > 0)).sum())


def test_nodes_that_lead_to_jumps_alone_are_bounded_on_one_side() -> None:
    graph, box, both = setting("one map", 0.2)
    nodes = one_sided(graph)
    i, _ = jump(graph) or (0, 0.0)
    assert nodes and nodes < graph.ancestors[i] & graph.tightened
    with torch.no_grad():
        values = bound_nodes(graph, box, signs_first=True, one_sided=nodes)
    points = graph.evaluate(samples(generator(4), box, 2000)[:, 0])
    for interval, point in zip(values, points, strict=True):
        assert bool(((interval.lower <= point + 1e-9) & (point <= interval.upper + 1e-9)).all())
    wider = [float((v.upper - v.lower - b.upper + b.lower).sum()) for v, b in zip(values, both, strict=True)]
    assert max(wider[z] for z in nodes) > 1e-3


def test_nodes_that_lead_elsewhere_too_are_bounded_on_both_sides() -> None:
    def both(x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(F.conv2d(F.relu(F.conv2d(x, K1, padding=1)), K2, padding=1))
        return (F.conv2d(hidden, K3) > 0).to(x.dtype).sum((1, 2, 3)) + hidden.sum((1, 2, 3))

    graph = simplify(lower(record(both, [constant(1, 2, 12, 12)]), RULES))
    assert jump(graph) is not None and not one_sided(graph)


def test_networks_whose_jumps_depend_on_everything_are_left_alone() -> None:
    dense = simplify(lower(record(lambda x: torch.sign(F.relu(x @ constant(8, 8))), [constant(1, 8)]), RULES))
    assert jump(dense) is None


def test_a_count_is_proved_without_a_search_over_the_whole_network() -> None:
    graph, box, values = setting("one map")
    least = float(values[-1].lower) + 2.5
    row = ({graph.n_inputs: 1.0}, least)
    ends = (box.lower[0].tolist(), box.upper[0].tolist())
    problem = problem_of(make_property(graph.n_inputs, 1, [ends], [(0, [row])]))
    phases: list[str] = []
    result = split_activations(
        graph, problem, Deadline.after(60), lambda x: None, lambda progress: phases.append(progress.phase), lambda: None
    )
    assert result.verdict == "unsat" and phases == ["bounds", "jumps"]
