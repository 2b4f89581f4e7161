"""Activation splits, round by round: children cover their parents, and every margin holds on its domain."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from random_networks import generator, graph_of, make_property, network, normal, problem_of, samples

from lirpa_verify.bounds.alpha_crown import Splits, bound
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.search import milp
from lirpa_verify.search.activation_split import ActivationSplit, least_points
from lirpa_verify.search.domains import Domains, join
from lirpa_verify.search.look_ahead import choose
from lirpa_verify.search.roots import Task, make_roots, root_domains
from lirpa_verify.search.specification import Problem
from lirpa_verify.search.split_domains import feasible, images, split
from lirpa_verify.verdict import Witness

LATER = Deadline.after(1e6)
KINDS = [
    ("dense", "relu"),
    ("residual", "leaky"),
    ("concat", "relu"),
    ("dense", "tanh"),
    ("residual", "sin"),
    ("product", "relu"),
    ("shares", "relu"),
]


def search_of(task: Task) -> ActivationSplit:
    return ActivationSplit(task, lambda points: None, lambda progress: None, lambda: None)


def members(domains: Domains, values: list[torch.Tensor]) -> torch.Tensor:
    """(points, domains): which points lie in which domain, by its intervals and its splits."""
    inside = torch.ones(len(values[0]), len(domains), dtype=torch.bool)
    for i, (lower, upper) in domains.intervals().items():
        slack = 1e-9 * (1 + values[i].abs()).unsqueeze(1)
        value = values[i].unsqueeze(1)
        inside &= ((value >= lower - slack) & (value <= upper + slack)).flatten(2).all(2)
    splits = domains.splits()
    for z, sign in splits.sign.items():
        beyond = sign * (values[z].unsqueeze(1) - splits.point[z])
        inside &= (beyond <= 1e-9 * (1 + values[z].abs()).unsqueeze(1)).flatten(2).all(2)
    return inside


def setting(kind: str, activation: str, seed: int) -> tuple[Graph, Problem, torch.Tensor]:
    """A network, two disjuncts of different lengths on one box, and sampled points."""
    graph = graph_of(*network(kind, activation, seed))
    n, m = graph.n_inputs, graph.n_outputs
    g = generator(seed)
    middle = normal(g, n)
    box = ((middle - 0.7).tolist(), (middle + 0.7).tolist())
    rows = [({n + j: float(c) for j, c in enumerate(normal(g, m))}, float(normal(g, 1))) for _ in range(4)]
    problem = problem_of(make_property(n, m, [box], [(0, rows[:1]), (0, rows[1:3]), (0, rows[3:])]))
    return graph, problem, samples(g, problem.box, 1500)[:, 0]


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_children_cover_their_parents_and_margins_hold(kind: str, activation: str) -> None:
    graph, problem, points = setting(kind, activation, 31)
    values = [v.expand(len(points), *v.shape[1:]) for v in graph.evaluate(points)]
    margins = problem.specification.margins(points, values[-1], torch.zeros(len(points), dtype=torch.int64))
    task = Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box))
    search = search_of(task)
    search.start(root_domains(task, LATER))
    domains = search.stack.pop(3)
    assert bool(members(domains, values).all())
    for _ in range(4):
        inside = members(domains, values)
        value = margins.amax(2)[:, domains.root]  # a conjunction holds as far as its largest row allows
        least = value.masked_fill(~inside, torch.inf).amin(0)
        assert bool((least[domains.margin > 0] > 0).all()), "what is closed is proved"
        assert bool((domains.margin <= least + 1e-4 * (1 + domains.margin.abs())).all())
        for d in domains.root.unique().tolist():
            assert bool(inside[:, domains.root == d].any(1).all()), "points are lost"
        entry = choose(search.fast, domains)
        if bool((entry < 0).any()):
            break
        domains = search.bound_children(domains, entry, LATER)[:400]
        if len(domains) == 400:
            break


def test_a_split_narrows_what_depends_on_its_entry_alone() -> None:
    """Both factors of the product are exact images of what can be split; what leads to their sum is not."""
    graph, problem, _ = setting("shares", "relu", 31)
    task = Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box))
    domains = root_domains(task, LATER)[:1]
    before = domains.intervals()
    start = dict(zip(task.layout.nodes, task.layout.start, strict=True))
    [hidden, total] = [z for z in task.layout.nodes if images(graph, z)]
    [[(value, _)], [(inverse, _)]] = images(graph, hidden), images(graph, total)
    [_, undecided] = ((before[hidden].lower < 0) & (before[hidden].upper > 0)).nonzero()[0].split([2, 1])
    below = split(graph, task.layout, domains, start[hidden] + undecided).intervals()[value]
    assert (
        abs(float(below.upper[0].flatten()[undecided]) - 0.1)
        < 1e-9
        < float(before[value].upper.flatten()[undecided]) - 0.1
    )
    halves = split(graph, task.layout, domains, torch.tensor([start[total]])).intervals()
    for end in (halves[total].upper[0], halves[total].lower[1]):
        assert bool(((halves[inverse].lower[0] * end - 1).abs() < 1e-9).all())
        assert bool(((halves[inverse].upper[1] * end - 1).abs() < 1e-9).all())


def test_images_hold_for_the_network_in_double_precision() -> None:
    """The search runs in single precision, where the constants of the network are others (0.1 is one of them)."""
    graph, problem, _ = setting("shares", "tanh", 31)
    task = Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box))
    search = search_of(task)
    search.start(root_domains(task, LATER)[:1])
    domains = search.stack.pop(1)
    start = dict(zip(task.layout.nodes, task.layout.start, strict=True))
    hidden = next(z for z in task.layout.nodes if images(graph, z))
    [(value, _)] = images(graph, hidden)
    for k in range(graph.nodes[hidden].size):
        halves = search.bound_children(domains, torch.tensor([start[hidden] + k]), LATER).double().intervals()
        point = float(halves[hidden].lower[1].flatten()[k])
        least, most = float(halves[value].lower[1].flatten()[k]), float(halves[value].upper[0].flatten()[k])
        assert least <= math.tanh(point) + 0.1 <= most


def test_rows_of_one_disjunct_are_not_those_of_another() -> None:
    """The first row of all is impossible; a shorter disjunct must not inherit it where it has none."""
    graph = graph_of(lambda x: torch.relu(x) - torch.relu(-x), (1, 2))
    disjuncts = [(0, [({2: 1.0}, -9.0), ({3: 1.0}, 5.0)]), (0, [({2: 1.0}, 0.5)]), (0, [])]
    problem = problem_of(make_property(2, 2, [([0.0, 0.0], [1.0, 1.0])], disjuncts))
    domains = root_domains(Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box)), LATER)
    assert (domains.margin > 0).tolist() == [True, False, False]
    alone = make_roots(graph, problem, 0, torch.tensor([1]))
    assert alone.rhs.tolist() == [[0.5]]


def test_gaps_that_optimised_slopes_would_not_pay_for_are_split_before_a_program_is_asked() -> None:
    """relu(x) + relu(-x) from below, with slopes of 0: no chord is used, nor is the lower line away from its end."""
    graph = graph_of(lambda x: torch.relu(x) + torch.relu(-x), (1, 2))
    problem = problem_of(make_property(2, 2, [([-1.0] * 2, [1.0] * 2)], [(0, [({2: 1.0, 3: 1.0}, 0.0)])]))
    task = Task.of(graph, problem, 0, torch.tensor([0]), bound_nodes(graph, problem.box))
    domains = root_domains(task, LATER, steps=0)
    flat = {key: torch.zeros_like(value) for key, value in domains.fields.items() if key[0] == "slope below"}
    assert flat and bool((choose(task, domains.updated(flat)) >= 0).all())


def test_a_domain_without_relaxation_error_is_settled_by_a_linear_program() -> None:
    """x0 + x1 <= -0.5 is possible for relu(x) of a box above 0 where the box reaches that low, and only there."""
    for low, expected in ((-0.2, None), (-0.3, "sat")):
        graph = graph_of(lambda x: torch.relu(x + 1) - 1, (1, 2))
        problem = problem_of(make_property(2, 2, [([low, low], [1.0, 1.0])], [(0, [({2: 1.0, 3: 1.0}, -0.5)])]))
        task = Task.of(graph, problem, 0, torch.tensor([0]), bound_nodes(graph, problem.box))
        found: list[torch.Tensor] = []

        def confirm(points: torch.Tensor, found: list[torch.Tensor] = found) -> Witness:
            found.append(points)
            return Witness(points[0].numpy(), points[0].numpy())

        search = ActivationSplit(task, confirm, lambda progress: None, lambda: None)
        search.start(root_domains(task, LATER, steps=0))
        domains = (
            root_domains(task, LATER, steps=0).updated({("share", 0): torch.ones(1, dtype=torch.float64)}).single()
        )
        result = search.settle(domains, LATER)
        assert (result and result.verdict) == expected
        assert all(float(points.sum()) <= -0.5 + 1e-6 for points in found)


def test_a_linear_program_that_runs_out_of_time_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search stops and goes on, as time for it is given out in parts: what is unfinished is not undecidable."""
    graph = graph_of(lambda x: torch.relu(x + 1) - 1, (1, 2))
    problem = problem_of(make_property(2, 2, [([-0.2] * 2, [1.0] * 2)], [(0, [({2: 1.0, 3: 1.0}, -0.5)])]))
    task = Task.of(graph, problem, 0, torch.tensor([0]), bound_nodes(graph, problem.box))
    search = search_of(task)
    bounded = root_domains(task, LATER, steps=0)
    search.start(bounded.updated({("margin", 0): torch.full_like(bounded.margin, -0.1)}))

    def stopped(*arguments: object) -> milp.Answer:
        time.sleep(0.05)
        return milp.Answer("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(milp, "solve", stopped)
        assert search.run(LATER).verdict == "timeout" and search.stack.count == 1
    assert search.spent > 0.05, "else it would seem to end soon for ever"
    assert search.run(LATER).verdict == "unsat" and search.closed == 1


def test_what_single_precision_claims_is_not_taken_for_proved() -> None:
    verdicts = set()
    for seed in range(34, 40):
        graph, problem, _ = setting("dense", "relu", seed)
        task = Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box))
        search = search_of(task)
        domains = root_domains(task, LATER)
        truth = (domains.margin > 0).tolist()
        claimed = domains.updated({("margin", 0): torch.ones_like(domains.margin)}).single()
        assert (search.certified(claimed).margin > 0).tolist() == truth
        verdicts |= set(truth)
    assert verdicts == {True, False}


def test_ends_that_are_no_numbers_exclude_nothing() -> None:
    graph, problem, _ = setting("dense", "relu", 33)
    task = Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box))
    domains = root_domains(task, LATER)
    z = task.layout.nodes[0]
    broken = domains.updated({("lower", z): torch.full_like(domains.fields["lower", z], torch.nan)})
    assert bool(feasible(broken).all())


def test_cuts_in_single_precision_leave_out_nothing() -> None:
    """Between a cut's point and its rounding there may be a violation, which no bound in double precision would see."""
    graph, problem, _ = setting("dense", "relu", 41)
    values = bound_nodes(graph, problem.box)
    task = Task.of(graph, problem, 0, torch.arange(2), values)
    z = task.layout.nodes[0]
    lower, upper = values[z]
    point = lower + (upper - lower) * torch.rand(lower.shape, generator=generator(41), dtype=torch.float64)
    for side in (1.0, -1.0):
        cut = replace(task, cuts=Splits({z: torch.full_like(point, side)}, {z: point}))
        domains = root_domains(cut, LATER, 0)
        rounded = domains.single().double().splits().point[z]
        assert bool((side * (point - rounded) <= 0).all()) and not torch.equal(rounded, point.expand_as(rounded))
        assert torch.equal(domains.single().double().single().double().splits().point[z], rounded)


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_bounds_are_least_where_attacks_start(kind: str, activation: str) -> None:
    graph, problem, _ = setting(kind, activation, 3)
    search = search_of(Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box)))
    search.start(root_domains(search.exact, LATER, 5))
    domains = join(search.stack.parts)
    points = least_points(search.fast, domains)
    margin, linear = bound(search.fast.graph, search.fast.target(domains), domains.parameters())
    value = (linear.weight[:, 0] * points).sum(1) + linear.offset[:, 0]
    assert torch.allclose(value, margin[:, 0], rtol=1e-3, atol=1e-3)
    lower, upper = search.fast.nodes[0]
    assert bool(((points == lower) | (points == upper)).all())
