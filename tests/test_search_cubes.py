"""Cube and conquer: verdicts on both sides of the true minimum, whichever part does the work."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from random_networks import generator, graph_of, make_property, network, normal, problem_of

from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search import cubes
from lirpa_verify.search.activation_split import ActivationSplit, Outlook
from lirpa_verify.search.cube import Cube, Growing, even_gain, growable, with_roots, worth_starting_anew
from lirpa_verify.search.cubes import FIRST_SPLITS, MORE_SPLITS, Cubes
from lirpa_verify.search.halves import halved
from lirpa_verify.search.in_turn import InTurn
from lirpa_verify.search.roots import Task, mixed_alone, root_domains
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Result

LATER = Deadline.after(1e6)


def setting(kind: str, activation: str, seed: int, below: float) -> Problem:
    graph = graph_of(*network(kind, activation, seed))
    g = generator(seed)
    middle = normal(g, graph.n_inputs)
    points = middle + 0.8 * (2 * torch.rand(4000, graph.n_inputs, generator=g, dtype=torch.float64) - 1)
    values = graph.forward(points)[:, 0]
    spread = float(values.max() - values.min())
    box = ((middle - 0.8).tolist(), (middle + 0.8).tolist())
    limit = float(values.min()) - below * spread
    return problem_of(make_property(graph.n_inputs, graph.n_outputs, [box], [(0, [({graph.n_inputs: 1.0}, limit)])]))


def root_of(graph: Graph, problem: Problem) -> Cube:
    small = collapse(graph, bound_nodes(graph, problem.box))
    assert small is not None
    task = Task.of(small.graph, problem, 0, torch.tensor([0]), small.values)
    return Cube(task, torch.tensor([0]), root_domains(task, LATER, 20), 0.01)


def solved(kind: str, activation: str, seed: int, below: float) -> Result:
    graph = graph_of(*network(kind, activation, seed))
    problem = setting(kind, activation, seed, below)
    search = Cubes(problem, 0, Deadline.after(60), lambda points: None, lambda progress: None, lambda: None)
    return search.solve(root_of(graph, problem))


@pytest.mark.parametrize(
    ("kind", "activation"), [("dense", "relu"), ("residual", "leaky"), ("concat", "relu"), ("dense", "tanh")]
)
@pytest.mark.parametrize("budget", [1.0, 0.0])
def test_what_is_impossible_is_proved(
    kind: str, activation: str, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below what 4,000 points reach; without a budget for the search, cuts have to do more of the work."""
    monkeypatch.setattr(cubes, "LEAST_BUDGET", budget)
    assert solved(kind, activation, 61, 0.4).verdict == "unsat"


def test_a_search_that_gains_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubes, "LEAST_BUDGET", 0.0)
    monkeypatch.setattr(ActivationSplit, "outlook", lambda self: Outlook(1e9, 0.0, -10.0))
    assert solved("dense", "relu", 61, 0.4).verdict == "unsat"


def test_cuts_are_tried_once_the_search_takes_longer_than_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much time is left, of which ten seconds are next to nothing here."""
    graph = graph_of(*network("dense", "relu", 61))
    answers = [Result("timeout"), Result("timeout"), Result("unsat")]
    tried: list[Cube] = []
    monkeypatch.setattr(ActivationSplit, "run", lambda self, deadline: answers.pop(0))
    monkeypatch.setattr(ActivationSplit, "outlook", lambda self: Outlook(10.0, 1.0, -10.0))
    problem = setting("dense", "relu", 61, 0.4)
    found = Cubes(problem, 0, LATER, lambda points: None, lambda progress: None, lambda: None)

    def children(self: Cubes, cube: Cube) -> list[Cube]:
        tried.append(cube)
        self.gains.append(0.0)
        return []

    monkeypatch.setattr(Cubes, "children", children)
    root = replace(root_of(graph, problem), narrowed=True, trees=Growing(pays=False))
    found.search(replace(root, seconds=6.0))
    assert not tried, "two halves would take twelve seconds"
    answers[:] = [Result("timeout"), Result("timeout"), Result("unsat")]
    found.search(replace(root, seconds=4.0))
    assert len(tried) == 1


@pytest.mark.parametrize(("gained", "taken"), [(3.5, True), (1.0, False)])
def test_halves_that_are_much_nearer_to_a_proof_are_taken_at_once(
    gained: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In levels of splits, of which one is no gain: there are two halves."""
    graph = graph_of(*network("dense", "relu", 61))
    problem = setting("dense", "relu", 61, 0.4)
    root = replace(root_of(graph, problem), narrowed=True, trees=Growing(pays=False), seconds=1.0)
    rate = -root.margin / 10
    nearer = replace(root, domains=root.domains.updated({("margin", 0): root.domains.margin + gained * rate}))
    found = Cubes(problem, 0, LATER, lambda points: None, lambda progress: None, lambda: None)

    def children(self: Cubes, cube: Cube) -> list[Cube]:
        self.gains.append(gained * rate)
        return [nearer, nearer]

    monkeypatch.setattr(Cubes, "children", children)
    monkeypatch.setattr(Cubes, "partable", lambda self, cube, search, seconds: False)
    answers = [Result("timeout"), Result("unsat")]
    monkeypatch.setattr(ActivationSplit, "run", lambda self, deadline: answers.pop(0))
    monkeypatch.setattr(ActivationSplit, "outlook", lambda self: Outlook(4.0, rate, -10.0))
    result, replaced, _ = found.search(root)
    assert (replaced == [nearer, nearer]) == taken and (result is None) == taken


@pytest.mark.parametrize(("one", "other"), [(1.0, 1.0), (0.3, 0.9), (0.02, 1.0)])
def test_the_even_gain_predicts_the_tree_of_uneven_halves(one: float, other: float) -> None:
    """The leaves of the tree itself, counted; the mean of both gains promises fewer."""

    leaves = [1] * 200  # up to where nothing is lacking, then for every hundredth more
    for lacking in range(1, 1201):
        leaves.append(sum(leaves[199 + lacking - round(100 * gain)] for gain in (one, other)))
    growth = math.log2(leaves[-1] / leaves[-601]) / 6  # levels per unit of distance
    assert 1 / even_gain(one, other) == pytest.approx(growth, rel=0.03)
    assert even_gain(one, other) == even_gain(other, one) <= (one + other) / 2 + 1e-12
    assert even_gain(0.0, other) == 0.0


def test_a_search_starts_anew_where_that_saves_more_than_was_done() -> None:
    """Half as large a tree: half of what was done is done again, half of the rest is saved."""
    assert worth_starting_anew(1.0, Outlook(11.0, 1.0, 0.0), 10.0)
    assert not worth_starting_anew(1.0, Outlook(9.0, 1.0, 0.0), 10.0)
    assert worth_starting_anew(2.0, Outlook(9.0, 1.0, 0.0), 10.0)
    assert not worth_starting_anew(0.0, Outlook(1e9, 1.0, 0.0), 10.0)


def test_a_long_search_waits_for_trees_of_the_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees are larger each time, for as long as they bring a proof nearer."""
    graph = graph_of(*network("dense", "relu", 61))
    monkeypatch.setattr(ActivationSplit, "run", lambda self, deadline: Result("timeout"))
    monkeypatch.setattr(ActivationSplit, "outlook", lambda self: Outlook(1e4, 1.0, -10.0))
    found = Cubes(
        setting("dense", "relu", 61, 0.05), 0, LATER, lambda points: None, lambda progress: None, lambda: None
    )
    cube, margins, splits = root_of(graph, found.problem), [], []
    while growable(cube):
        margins.append(cube.margin)
        _, replaced, _ = found.search(cube)
        assert replaced is not None
        [cube] = replaced
        splits.append(cube.trees.splits)
    assert margins[1] > margins[0] and sorted(margins) == margins
    assert splits == [FIRST_SPLITS * MORE_SPLITS**k for k in range(len(splits))]


def test_a_cube_whose_bound_is_zero_is_narrowed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sweep takes off what a bound lacks is relative; a bound of 0 lacks nothing, and is open."""
    graph = graph_of(*network("dense", "relu", 61))
    problem = setting("dense", "relu", 61, 0.4)
    root = root_of(graph, problem)
    cube = replace(root, domains=root.domains.updated({("margin", 0): torch.zeros_like(root.domains.margin)}))
    found = Cubes(problem, 0, LATER, lambda points: None, lambda progress: None, lambda: None)
    monkeypatch.setattr(cubes, "assume_violation", lambda task, lacking, effort: list(task.nodes))
    assert found.narrow_root(cube) is cube


def test_neurons_without_trees_are_bounded_from_those_with_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees that had time for the first layer only narrow the last one as well."""
    graph = graph_of(*network("residual", "relu", 61))
    problem = setting("residual", "relu", 61, 0.05)
    cube = root_of(graph, problem)
    first, *_, last = sorted(cube.task.graph.tightened)
    values = list(cube.task.nodes)
    lower, upper = values[first]
    values[first] = Interval(0.9 * lower + 0.1 * upper, 0.1 * lower + 0.9 * upper)
    seen: list[list[Interval]] = []

    def bounded(self: Cubes, cube: Cube, values: list[Interval], *others: object) -> Cube:
        seen.append(values)
        return cube

    monkeypatch.setattr(cubes, "grown", lambda *arguments: values)
    monkeypatch.setattr(Cubes, "bounded", bounded)
    Cubes(problem, 0, LATER, lambda points: None, lambda progress: None, lambda: None).grow(cube, 1.0)
    width = [float((v[last].upper - v[last].lower).sum()) for v in (seen[0], values)]
    assert width[0] < 0.99 * width[1]


@pytest.mark.parametrize(
    ("kind", "activation", "below", "narrows"),
    [
        ("dense", "relu", 0.3, True),
        ("dense", "relu", 0.3, False),
        ("dense", "tanh", 0.1, False),
        ("dense", "relu", -0.02, True),
        ("residual", "leaky", -0.02, False),
    ],
)
def test_parts_of_a_search_prove_what_it_would(
    kind: str, activation: str, below: float, narrows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether bounds within the parts are worth a new search of each or the one that is going resumes."""
    monkeypatch.setattr(cubes, "LEAST_BUDGET", 0.02)
    monkeypatch.setattr(cubes, "worth_starting_anew", lambda gained, outlook, spent: narrows)
    monkeypatch.setattr(Cubes, "grows", lambda self, cube, seconds: False)
    monkeypatch.setattr(Cubes, "partable", lambda self, cube, search, seconds: True)
    made: list[Cube] = []
    parts = Cubes.parts

    def noted(self: Cubes, cube: Cube, search: InTurn) -> list[Cube]:
        found = parts(self, cube, search)
        made.extend(found)
        return found

    monkeypatch.setattr(Cubes, "parts", noted)
    graph = graph_of(*network(kind, activation, 61))
    problem = setting(kind, activation, 61, below)
    found = Cubes(
        problem, 0, Deadline.after(20 if below > 0 else 3), lambda points: None, lambda progress: None, lambda: None
    )
    root = replace(root_of(graph, problem), seconds=1e-6, narrowed=True)
    assert (found.solve(root).verdict == "unsat") == (below > 0)
    assert all(cube.going is not None and cube.task.cuts.sign for cube in made)
    assert all(cube.going is not None and cube.task.graph is cube.going.cube.task.graph for cube in made)


@pytest.mark.parametrize("kind", ["dense", "residual"])
def test_what_is_possible_is_never_proved(kind: str) -> None:
    graph = graph_of(*network(kind, "relu", 62))
    problem = setting(kind, "relu", 62, -0.02)
    root = root_of(graph, problem)
    found = Cubes(problem, 0, Deadline.after(10), lambda points: None, lambda progress: None, lambda: None).solve(root)
    assert found.verdict != "unsat"


def test_a_disjunct_with_fewer_rows_than_the_others_stands_alone() -> None:
    graph = graph_of(*network("dense", "relu", 64))
    n = graph.n_inputs
    short, long = [({n: 1.0}, -9.0)], [({n + 1: 1.0}, -4.0), ({n + 2: 1.0}, -5.0), ({n: -1.0}, -6.0)]
    problem = problem_of(make_property(n, graph.n_outputs, [([-1.0] * n, [1.0] * n)], [(0, short), (0, long)]))
    task = Task.of(graph, problem, 0, torch.arange(2), bound_nodes(graph, problem.box))
    root = Cube(task, torch.arange(2), root_domains(task, LATER, 5), 0.01)
    search = Cubes(problem, 0, LATER, lambda points: None, lambda progress: None, lambda: None)
    for k, rows in enumerate((short, long)):
        alone = with_roots(root, [k])
        part = search.bounded(alone, list(alone.task.nodes), alone.task.cuts, 0.0)
        assert part.task.roots.rhs.shape == (1, len(rows)) and part.margin >= alone.margin
    weights = torch.tensor([[[0.2, 0.3, 0.5]]])
    fewer = mixed_alone(weights, 2)
    assert fewer is not None and torch.allclose(fewer, torch.tensor([[[0.7, 0.3]]]))  # the third repeated the first


@pytest.mark.parametrize(("kind", "activation"), [("dense", "relu"), ("residual", "sin"), ("dense", "tanh")])
def test_halves_cover_the_cube(kind: str, activation: str) -> None:
    graph = graph_of(*network(kind, activation, 63))
    problem = setting(kind, activation, 63, 0.1)
    task = Task.of(graph, problem, 0, torch.tensor([0]), bound_nodes(graph, problem.box))
    g = generator(63)
    lower, upper = problem.box.lower[0], problem.box.upper[0]
    points = lower + (upper - lower) * torch.rand(800, graph.n_inputs, generator=g, dtype=torch.float64)
    values = graph.evaluate(points)
    for entry in range(0, sum(task.layout.size), 3):
        inside = []
        for half in halved(task, torch.tensor(entry)):
            fits = [
                ((v >= h.lower - 1e-9) & (v <= h.upper + 1e-9)).flatten(1).all(1)
                for v, h in zip(values, half.values, strict=True)
            ]
            inside.append(torch.stack(fits).all(0))
        assert bool((inside[0] | inside[1]).all())
