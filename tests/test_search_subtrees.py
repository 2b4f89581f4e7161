"""Subtrees of an activation split: they cover its open domains, and what is said of one holds in all its domains."""

from __future__ import annotations

import pytest
import torch
from random_networks import generator, graph_of, make_property, network, normal, problem_of
from torch import Tensor

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.search.activation_split import ActivationSplit
from lirpa_verify.search.domains import Domains, join
from lirpa_verify.search.in_turn import InTurn
from lirpa_verify.search.roots import Task, root_domains
from lirpa_verify.search.split_domains import feasible, split
from lirpa_verify.search.subtrees import common_splits, hull, subtrees

LATER = Deadline.after(1e6)


def searched(kind: str, activation: str, limits: list[float]) -> tuple[Task, Domains]:
    """A task with one root per limit on the first output, over a random box."""
    graph = graph_of(*network(kind, activation, 71))
    middle = normal(generator(71), graph.n_inputs)
    box = ((middle - 0.8).tolist(), (middle + 0.8).tolist())
    cases = [(0, [({graph.n_inputs: 1.0}, limit)]) for limit in limits]
    problem = problem_of(make_property(graph.n_inputs, graph.n_outputs, [box], cases))
    task = Task.of(graph, problem, 0, torch.arange(len(limits)), bound_nodes(graph, problem.box))
    return task, root_domains(task, LATER, 5)


def divided(task: Task, domains: Domains, levels: int) -> Domains:
    """What is left of a tree after random splits and random proofs."""
    g = generator(72)
    for _ in range(levels):
        entry = torch.randint(sum(task.layout.size), (len(domains),), generator=g)
        domains = split(task.graph, task.layout, domains, entry)
        domains = domains[(feasible(domains) & (torch.rand(len(domains), generator=g) < 0.8)).nonzero().flatten()]
    return domains


@pytest.mark.parametrize(("kind", "activation"), [("dense", "relu"), ("residual", "leaky"), ("dense", "tanh")])
def test_what_holds_in_a_subtree_holds_in_all_its_domains(kind: str, activation: str) -> None:
    task, root = searched(kind, activation, [-1e3])
    left = divided(task, root, 7)
    groups = subtrees(task.layout, left, 4)
    assert len(groups) > 1
    assert torch.cat(groups).sort().values.tolist() == list(range(len(left)))
    lower, upper = task.nodes[0]
    points = lower + (upper - lower) * torch.rand(3000, lower.shape[1], generator=generator(73), dtype=torch.float64)
    values, met = task.graph.evaluate(points), 0
    for index in groups:
        mine = left[index]
        inside = inside_any(mine, values)
        around, splits = hull(mine, task.nodes), common_splits(task.layout, mine)
        for i, bounds in enumerate(around):
            held = ((values[i] >= bounds.lower - 1e-9) & (values[i] <= bounds.upper + 1e-9)).flatten(1).all(1)
            assert bool(held[inside].all())
        for z, sign in splits.sign.items():
            assert bool((sign * (values[z] - splits.point[z]) <= 1e-9)[inside].all())
        assert any(bool(sign.any()) for sign in splits.sign.values())
        met += int(inside.sum())
    assert met > 0


def inside_any(domains: Domains, values: list[Tensor]) -> Tensor:
    """(points,) whether each lies in one of the domains."""
    found = torch.zeros(len(values[0]), dtype=torch.bool)
    for k in range(len(domains)):
        fits = [
            ((values[i] >= lower[k]) & (values[i] <= upper[k])).flatten(1).all(1)
            for i, (lower, upper) in domains.intervals().items()
        ]
        found |= torch.stack(fits).all(0)
    return found


def test_a_search_goes_on_root_by_root_with_what_is_left() -> None:
    task, root = searched("dense", "relu", [-1e3, -2e3, -1e2])
    root = root.updated({("margin", 0): torch.tensor([-2.0, -1.0, -3.0], dtype=torch.float64)})
    search = ActivationSplit(task, lambda x: None, lambda progress: None, lambda: None)
    search.start(root)
    search.bounded, search.spent = 6, 3.0
    left = join(search.stack.parts)
    parts = search.apart()
    assert [part.open_roots().tolist() for part in parts] == [[1], [0], [2]], "the nearest to a proof first"
    assert sum(part.spent for part in parts) == pytest.approx(3.0)
    assert sum(part.stack.count for part in parts) == len(left)
    assert search.stack.count == len(left), "the whole is as it was"


def test_near_roots_are_closed_before_the_others_are_judged() -> None:
    """A root that no search closes does not end those that need a little longer than the budget."""
    task, root = searched("dense", "relu", [-1e3, -1e3, -1e3])
    least = float(root.margin.min())
    task, root = searched("dense", "relu", [-1e3 + least + 0.05, -1e3 + least + 0.1, 1e3])
    search = ActivationSplit(task, lambda x: None, lambda progress: None, lambda: None)
    search.start(root)
    turns = InTurn([search])
    assert turns.roots == [0, 1, 2]
    assert turns.run(0.02, 20.0, LATER).verdict == "timeout"
    assert turns.roots == [2]
