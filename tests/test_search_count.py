"""Networks that see their inputs only rounded: every combination of rounded values, against brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from deciders import judge, restricted
from random_networks import generator, graph_of, make_property, normal
from torch import Tensor

from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.rounded import rounded
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.discrete import Scatter
from lirpa_verify.search.count import Pace, count_combinations
from lirpa_verify.verdict import Progress, Result, Witness

ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": lambda x: x.long().double(),
}
LOWER, UPPER = torch.tensor([-2.3, -1.5, 2.0]), torch.tensor([1.7, 2.5, 2.0])


def network(kind: str, factor: float) -> Callable[[Tensor], Tensor]:
    g = generator(0)
    first, second = normal(g, 3, 8), normal(g, 8, 1)
    return lambda x: torch.relu(ROUNDINGS[kind](x[:, [1, 0, 2]] * factor) @ first) @ second


def decide(f: Callable[[Tensor], Tensor], rhs: float) -> tuple[Result | None, list[Progress]]:
    prop = make_property(3, 1, [(LOWER.tolist(), UPPER.tolist())], [(0, [({3: 1.0}, rhs)])])
    whole = graph_of(f, (1, 3))
    graph, problem = restricted(whole, prop)
    news: list[Progress] = []
    confirm = judge(whole, prop, problem)
    return count_combinations(graph, problem, Deadline.after(20.0), confirm, graph.forward, news.append), news


@pytest.mark.parametrize("kind", ROUNDINGS)
@pytest.mark.parametrize("factor", [1.0, -0.5, 2.0])
def test_the_least_value_over_all_combinations_decides(kind: str, factor: float) -> None:
    f = network(kind, factor)
    axes = [torch.linspace(low, high, 161, dtype=torch.float64) for low, high in zip(LOWER, UPPER)]
    least = float(f(torch.cartesian_prod(*axes)).min())
    above, news = decide(f, least - 1e-6)
    assert above is not None and above.verdict == "unsat" and news[-1].open == 0
    below, _ = decide(f, least + 1e-6)
    assert below is not None and below.verdict == "sat" and below.witness is not None
    assert float(f(torch.from_numpy(below.witness.x).double().unsqueeze(0))) <= least + 1e-5


def test_a_rounded_value_that_is_clipped_is_still_a_whole_number() -> None:
    table = torch.tensor([-5.0, 0.0, 1.0, 2.0], dtype=torch.float64)  # its first entry is not reached

    def f(x: Tensor) -> Tensor:
        return table[torch.floor(x[:, :1]).clamp(1, 3).long()]

    result, _ = decide(f, -1.0)
    assert result is not None and result.verdict == "unsat"


@pytest.mark.parametrize("kind", ROUNDINGS)
def test_points_have_their_rounded_values_and_lie_in_the_box(kind: str) -> None:
    graph = graph_of(network(kind, 2.0), (1, 3))
    found = rounded(graph)
    assert found is not None
    lower, upper = LOWER.double(), UPPER.double()
    first, last = found.ends(Interval(lower.unsqueeze(0), upper.unsqueeze(0)))
    axes = [torch.arange(int(a), int(b) + 1, dtype=torch.float64) for a, b in zip(first[0], last[0])]
    values = torch.cartesian_prod(*axes)
    points = found.points(values, lower, upper)
    assert len(values) > 20
    assert bool(((points >= lower) & (points <= upper)).all())
    assert torch.equal(found.values(points), values)
    assert torch.allclose(found.graph.forward(values), graph.forward(points))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: torch.floor(x) + 0.01 * x,
        lambda x: torch.floor(x[:, :1] + x[:, 1:2]),
        lambda x: torch.floor(0.1 * x),  # 0.1 is no power of two: where the steps are depends on rounding
        lambda x: torch.floor(x + 1e-3),
        lambda x: torch.floor(x) + torch.ceil(x),
        lambda x: torch.floor(torch.relu(x)),
    ],
)
def test_networks_that_see_more_are_left_to_others(f: Callable[[Tensor], Tensor]) -> None:
    assert rounded(graph_of(f, (1, 3))) is None


def test_an_input_without_use_does_not_matter() -> None:
    result, _ = decide(lambda x: torch.floor(x[:, :1]), -3.5)
    assert result is not None and result.verdict == "unsat"


def test_too_many_combinations_are_not_tried() -> None:
    prop = make_property(3, 1, [([0.0] * 3, [1e3] * 3)], [(0, [({3: 1.0}, -1.0)])])
    graph, problem = restricted(graph_of(network("floor", 1.0), (1, 3)), prop)
    result = count_combinations(graph, problem, Deadline.after(20.0), lambda x: None, graph.forward, lambda news: None)
    assert result is None


@pytest.mark.parametrize(
    ("outside", "believed", "verdict"),
    [(1.0, False, "unsat"), (1e-4, False, None), (-1.0, False, None), (-1.0, True, "sat")],
)
def test_where_the_graph_is_not_defined_the_model_decides(outside: float, believed: bool, verdict: str | None) -> None:
    """A table of three rows, looked up with numbers up to 4."""
    table = torch.tensor([[0.5], [0.7], [0.6]], dtype=torch.float64)
    prop = make_property(1, 1, [([0.2], [4.9])], [(0, [({1: 1.0}, 0.0)])])
    graph, problem = restricted(graph_of(lambda x: table[x.reshape(1).long()].reshape(1, 1), (1, 1)), prop)
    asked: list[Tensor] = []

    def evaluate(points: Tensor) -> Tensor:
        asked.append(points)
        return torch.full_like(points, outside)

    def confirm(points: Tensor) -> Witness | None:
        assert bool((points > 3).all())
        return Witness(points[0].numpy(), np.array([outside])) if believed else None

    result = count_combinations(graph, problem, Deadline.after(20.0), confirm, evaluate, lambda news: None)
    assert (result.verdict if result else None) == verdict
    assert bool((torch.cat(asked).trunc() > 2).all())


def test_writing_at_places_in_intervals_encloses_every_order() -> None:
    g = generator(3)
    operator = Scatter(normal(g, 6), normal(g, 4))
    places = torch.randint(0, 6, (200, 4), generator=g).double()
    spread = torch.randint(0, 2, (200, 4), generator=g) * (torch.rand(200, 4, generator=g) < 0.3)
    box = Interval((places - spread).clamp(min=0), (places + spread).clamp(max=5))
    lower, upper = operator.interval(box)
    for _ in range(20):
        share = torch.rand(200, 4, generator=g, dtype=torch.float64)
        y = operator.forward((box.lower + share * (box.upper - box.lower)).round())
        assert bool(((lower <= y) & (y <= upper)).all())
    exact = (box.lower == box.upper).all(1)
    assert torch.equal(lower[exact], upper[exact]) and bool(exact.any())
    assert torch.equal(operator.interval(Interval(places, places)).lower, operator.forward(places))


def test_a_proof_goes_on_for_as_long_as_it_may_end_in_time() -> None:
    late = replace(Pace.of(Deadline.after(5.0), 100), given=10.0)  # half of the time is gone
    assert late.in_time(60) and not late.in_time(40)
    assert replace(late, given=5.1).in_time(1)  # too early to tell
    assert not Pace.of(Deadline.after(-1.0), 100).in_time(99)
