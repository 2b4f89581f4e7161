"""The attack finds planted violations, and claims nothing that is not confirmed."""

from __future__ import annotations

import pytest
import torch
from deciders import judge, restricted
from random_networks import dense_graph, generator, graph_of, make_property

from lirpa_verify.attack import gradient
from lirpa_verify.attack.diversified import diversified
from lirpa_verify.attack.gradient import Attack, Starts
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.split_activations import split_activations
from lirpa_verify.verdict import Witness
from vnnlib import Property


def attack_on(graph: Graph, prop: Property, seed: int = 0) -> Attack:
    small, problem = restricted(graph, prop)
    confirm = judge(graph, prop, problem)
    return Attack(small.to(torch.float32), problem.to(torch.float32), confirm, generator(seed))


def search(attack: Attack, runs: int = 6) -> Witness | None:
    for _ in range(runs):
        witness = attack.advance(Deadline.after(60))
        if witness is not None:
            return witness
    return None


def test_planted_violations_are_found() -> None:
    for seed in range(6):
        graph = dense_graph(seed, (5, 20, 20, 3), "relu" if seed % 2 else "tanh")
        planted = torch.rand(1, 5, generator=generator(seed), dtype=torch.float64) * 2 - 1
        y = graph.forward(planted)[0].tolist()
        rows = [({5: 1.0}, y[0] + 0.05), ({6: -1.0}, -y[1] + 0.05)]  # as at the planted point, or further
        prop = make_property(5, 3, [([-1.0] * 5, [1.0] * 5)], [(0, rows)])
        witness = search(attack_on(graph, prop))
        assert witness is not None and prop.evaluate(witness.x, witness.y), seed


def test_descent_goes_on_where_gradients_are_switched_off() -> None:
    """As in an input split; a single point of a box of 60 inputs is not found by looking."""
    graph = graph_of(lambda x: (x - 0.3).abs().sum(1, keepdim=True), (1, 60))
    prop = make_property(60, 1, [([0.0] * 60, [1.0] * 60)], [(0, [({60: 1.0}, 1.0)])])
    attack = attack_on(graph, prop)
    with torch.no_grad():
        assert search(attack) is not None


def test_violations_in_one_of_many_boxes_and_disjuncts() -> None:
    graph = graph_of(lambda x: torch.relu(x) - torch.relu(-x), (1, 2))
    boxes = [([float(k), 0.0], [k + 0.5, 1.0]) for k in range(300)]
    disjuncts = [(k, [({2: 1.0}, k - 1.0)]) for k in range(300)]
    disjuncts[217] = (217, [({2: 1.0}, 217.1), ({3: -1.0}, -0.5)])
    witness = search(attack_on(graph, make_property(2, 2, boxes, disjuncts)), 40)
    assert witness is not None and 217 <= witness.x[0] <= 217.1


def test_violations_that_descent_from_random_points_runs_away_from() -> None:
    def valley(x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)  # near 0 at random points and corners, where the first output falls to the right
        return torch.cat([1 - 0.1 * mean - 5 * torch.relu(-0.3 - mean), mean], 1)

    graph = graph_of(valley, (1, 400))
    prop = make_property(400, 2, [([-1.0] * 400, [1.0] * 400)], [(0, [({400: 1.0}, -1.0)]), (0, [({401: -1.0}, -2.0)])])
    attack = attack_on(graph, prop)
    box = torch.zeros(32, dtype=torch.int64)
    points, ends = attack.random_points(box), Interval(*(end.expand(32, -1) for end in attack.problem.box))
    apart = diversified(attack.graph, points, ends, generator(0), Deadline.after(60))
    assert float(points.mean(1).std()) < 0.1 < 0.5 < float(apart.mean(1).std())
    assert bool((apart >= ends.lower).all()) and bool((apart <= ends.upper).all())
    assert attack.begin(Deadline.after(60)) is not None and attack.runs == 2


def hidden_corner(n: int) -> tuple[Graph, Property]:
    """A violation at one corner of a box; where it cannot be seen from, the network is flat."""
    signs = torch.ones(n, dtype=torch.float64)
    signs[::2] = -1
    graph = graph_of(lambda x: 1 - 2 * torch.relu(x @ signs - (n - 1)).unsqueeze(1), (1, n))
    return graph, make_property(n, 1, [([2.0] * n, [3.0] * n), ([-1.0] * n, [1.0] * n)], [(1, [({n: 1.0}, 0.0)])])


def test_starts_that_a_proof_gives_lead_to_what_descent_does_not_see() -> None:
    graph, prop = hidden_corner(30)
    attack = attack_on(graph, prop)
    assert search(attack) is None
    small, problem = restricted(graph, prop)
    given: list[tuple[torch.Tensor, int, torch.Tensor]] = []

    def watched(points: torch.Tensor, box: int, disjunct: torch.Tensor) -> None:
        given.append((points, box, disjunct))
        attack.guide(points, box, disjunct)

    result = split_activations(
        small, problem, Deadline.after(60), lambda x: None, lambda p: None, lambda: None, guide=watched
    )
    assert result.verdict != "unsat" and given
    for points, box, disjunct in given:
        assert box == 1 and disjunct.tolist() == [0] * len(points)
        assert bool((points.abs() == 1).all())
    witness = search(attack, 2)
    assert witness is not None and prop.evaluate(witness.x, witness.y)
    assert attack.given is None


def test_given_starts_are_half_of_all_at_most() -> None:
    def starts(count: int, value: int) -> Starts:
        number = torch.full((count,), value)
        return Starts(number.float().unsqueeze(1), number, number)

    for count, expected in ((1, [1, 0, 0, 0, 0]), (7, [1, 1, 1, 0, 0])):
        mixed = starts(5, 0).replaced(starts(count, 1))
        for column in (mixed.points.flatten(), mixed.box, mixed.disjunct):
            assert column.tolist() == expected
    assert starts(1, 0).replaced(starts(1, 1)).box.tolist() == [1]


def test_candidates_that_are_not_confirmed_count_for_nothing() -> None:
    graph = dense_graph(1, (2, 6, 1))
    prop = make_property(2, 1, [([-1.0, -1.0], [1.0, 1.0])], [(0, [({2: 1.0}, 1e6)])])
    attack = attack_on(graph, prop)
    seen: list[torch.Tensor] = []
    attack.confirm = lambda points: seen.append(points)  # type: ignore[assignment,func-returns-value]
    assert search(attack, 2) is None
    assert seen and all(bool((points.abs() <= 1).all()) for points in seen)


def test_the_same_seed_takes_the_same_way() -> None:
    graph = dense_graph(2, (4, 10, 2), "tanh")
    prop = make_property(4, 2, [([-1.0] * 4, [1.0] * 4)], [(0, [({4: 1.0}, 1e6)])])
    found = [search(attack_on(graph, prop, seed)) for seed in (3, 3, 4)]
    assert all(witness is not None for witness in found)
    assert torch.equal(torch.from_numpy(found[0].x), torch.from_numpy(found[1].x))  # type: ignore[union-attr]


def test_networks_without_gradients() -> None:
    for function in (torch.sign, lambda x: x * 0.0, lambda x: x * float("nan")):
        graph = graph_of(function, (1, 2))
        prop = make_property(2, 2, [([-1.0, -1.0], [1.0, 1.0])], [(0, [({2: 1.0}, -3.0)])])
        assert search(attack_on(graph, prop), 2) is None


def test_points_stay_in_pinned_and_tiny_boxes() -> None:
    graph = dense_graph(3, (3, 6, 1))
    prop = make_property(3, 1, [([0.1, -1.0, 5.0], [0.1, -1.0 + 1e-9, 6.0])], [(0, [({3: 1.0}, -1e6)])])
    attack = attack_on(graph, prop)
    lower, upper = attack.problem.box
    box = torch.zeros(50, dtype=torch.int64)
    start, _ = attack.start_points(box, torch.zeros_like(box), Deadline.after(60))
    assert bool((start >= lower).all()) and bool((start <= upper).all())
    assert search(attack, 2) is None


def test_a_passed_deadline_stops_the_attack() -> None:
    graph = dense_graph(4, (2, 6, 1))
    prop = make_property(2, 1, [([-1.0, -1.0], [1.0, 1.0])], [(0, [({2: 1.0}, -1e6)])])
    assert attack_on(graph, prop).advance(Deadline.after(-1)) is None


def test_a_run_on_a_slow_network_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof waits for it: one start and one step, where even these take longer than a run may."""
    prop = make_property(4, 2, [([-1.0] * 4, [1.0] * 4)], [(0, [({4: 1.0}, -1e6)])])
    attack = attack_on(dense_graph(5, (4, 10, 2)), prop)
    monkeypatch.setattr(gradient, "LONGEST_RUN", 1e-9)
    sizes: list[int] = []
    losses = attack.losses

    def counted(points: torch.Tensor, box: torch.Tensor, disjunct: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(points))
        return losses(points, box, disjunct)

    attack.losses = counted  # type: ignore[method-assign]
    assert attack.advance(Deadline.after(60)) is None
    assert sizes == [1, 1]


def test_half_of_the_starts_aim_at_the_nearest_of_many_disjuncts() -> None:
    graph = graph_of(lambda x: x, (1, 2))
    disjuncts = [(0, [({2: 1.0}, -5.0 - k)]) for k in range(100)]
    attack = attack_on(graph, make_property(2, 2, [([0.0, 0.0], [1.0, 1.0])], disjuncts))
    points = torch.rand(6, 2, generator=generator(0))
    box, disjunct = torch.zeros(6, dtype=torch.int64), torch.arange(10, 16)
    assert attack.aimed(points, box, disjunct).tolist() == [0, 11, 0, 13, 0, 15]
    attack.starts = 100
    assert torch.equal(attack.aimed(points, box, disjunct), disjunct)
