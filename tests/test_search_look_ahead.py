"""Halves of splits that are tried: as rows of one pass they have the margins that they have as domains of their own."""

from __future__ import annotations

import pytest
import torch
from test_search_activation_split import LATER, search_of, setting

from lirpa_verify.bounds.alpha_crown import lines_at, relaxations
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.operators.base import Interval, Slopes
from lirpa_verify.operators.relu import ReLU
from lirpa_verify.search import look_ahead
from lirpa_verify.search.costliest import scored
from lirpa_verify.search.look_ahead import choose, margins_by_domains, margins_by_rows, separate
from lirpa_verify.search.roots import Task, root_domains


def task_of(kind: str, activation: str) -> Task:
    graph, problem, _ = setting(kind, activation, 31)
    return Task.of(graph, problem, 0, torch.arange(3), bound_nodes(graph, problem.box))


@pytest.mark.parametrize(("kind", "activation"), [("dense", "relu"), ("residual", "leaky"), ("residual", "sin")])
def test_halves_as_rows_are_halves_as_domains(kind: str, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(kind, activation)
    assert separate(task)
    search = search_of(task)
    search.start(root_domains(task, LATER, 5))
    domains = search.stack.pop(3)
    for _ in range(3):
        found = scored(search.fast, domains)
        assert found is not None
        signs = torch.cat([domains.fields["sign", z].flatten(1) for z in task.layout.nodes], 1)
        entries = found[1].masked_fill(signs != 0, -1).topk(6, 1).indices
        assert not bool(signs.gather(1, entries).any()), "not those that are split already"
        own = torch.cat(list(margins_by_domains(search.fast, domains, entries)), 1)
        for most in (1, 2**22):  # one entry at a time, and all of them
            monkeypatch.setattr(look_ahead, "ROWS_ENTRIES", most)
            rows = torch.cat(list(margins_by_rows(search.fast, domains, entries)), 1)
            assert torch.allclose(rows, own, rtol=1e-4, atol=1e-4)
        assert bool((own - domains.margin[:, None, None]).abs().amax() > 1e-2), "some splits matter"
        children = search.bound_children(domains, choose(search.fast, domains), LATER)
        domains = children[children.open_index][:50]
        if len(domains) == 0:
            break


def test_splits_with_images_are_not_separate() -> None:
    assert not separate(task_of("shares", "relu"))
    assert not separate(task_of("product", "relu"))


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_relaxations_are_those_of_the_slopes_at_their_positions(leak: float) -> None:
    generator = torch.Generator().manual_seed(0)
    lower, width, share = (torch.rand(3, 40, generator=generator, dtype=torch.float64) for _ in range(3))
    interval, operator = Interval(2 * lower - 1.5, 2 * lower - 1.5 + width), ReLU(leak)
    relaxed = operator.relaxations(interval)
    assert relaxed is not None
    lines = relaxed(Slopes(share.unsqueeze(1), share.unsqueeze(1)[:, :0]))
    slopes = leak + (1 - leak) * share.unsqueeze(1)
    expected = operator.relaxation(interval, Slopes(slopes, slopes[:, :0]))
    assert expected is not None
    for mine, theirs in zip(lines[:4], expected[:4], strict=True):
        assert torch.allclose(mine.expand(3, 1, 40), theirs.expand(3, 1, 40), rtol=1e-12, atol=1e-12)
    assert operator.relaxations(Interval(interval.lower, torch.full_like(lower, torch.inf))) is None


def test_lines_are_worked_out_once_where_slopes_are_all_that_changes() -> None:
    task = task_of("residual", "leaky")
    domains = root_domains(task, LATER, 5)
    positions = domains.parameters().positions
    found = lines_at(relaxations(task.graph, domains.intervals(), positions), positions)
    assert found.keys() == positions.keys()
