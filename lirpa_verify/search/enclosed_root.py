"""The root of a search on the network enclosed between its activations, where that loses little."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import slopes_at
from lirpa_verify.bounds.collapse import collapsible
from lirpa_verify.bounds.enclose import enclose
from lirpa_verify.bounds.optimised_nodes import Effort, optimise_nodes
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Slopes
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.cube import Cube
from lirpa_verify.search.cubes import STEPS
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.roots import Roots, Task, root_domains
from lirpa_verify.search.split_domains import images

TOLERATED = 0.1  # share of what the bounds lack that enclosing may add to it; splits cost a tenth afterwards


def enclosed(task: Task, disjuncts: Tensor, domains: Domains, deadline: Deadline) -> Cube | None:
    """The open roots on the enclosed network, or None where enclosing loses too much or nothing can be gained.

    Args:
        task: in double precision.
        disjuncts: of the problem, one per root of the task.
        domains: one bounded domain per root of the task.
        deadline: when to stop optimising.
    """
    if collapsible(task.graph):
        return None  # nothing would be relaxed
    if any(several_operands(task.graph, i) for z in task.layout.nodes for i, _ in images(task.graph, z)):
        return None  # splits that make factors narrower gain most where products are relaxed anew
    started = time.monotonic()
    open_ = domains.open_index
    domains = domains[open_]
    roots = Roots({i: rows[open_] for i, rows in task.roots.start.items()}, task.roots.rhs[open_])
    small = enclosed_task(task, roots, domains)
    if small is None:
        return None
    lacking = domains.margin.clamp(max=0).sum()
    if root_domains(small, deadline, STEPS).margin.clamp(max=0).sum() < (1 + TOLERATED) * lacking:
        return None
    tighter = optimise_nodes(small.graph, small.nodes[0], list(small.nodes), Effort(STEPS, deadline))
    small = Task(small.graph, small.roots, small.layout, tuple(tighter), sizes(small.graph, tighter))
    return Cube(small, disjuncts[open_], root_domains(small, deadline), time.monotonic() - started)


def several_operands(graph: Graph, i: int) -> bool:
    """Whether the node is one of several operands of a nonlinear operator."""
    return any(graph.nodes[u].operator.bounded and len(graph.nodes[u].arguments) > 1 for u in graph.users[i])


def enclosed_task(task: Task, roots: Roots, domains: Domains) -> Task | None:
    """The task on the enclosed network, whose outputs are the rows of the roots."""
    graph, (count, conjuncts) = task.graph, roots.rhs.shape
    found = slopes_at(graph, domains.intervals(), domains.parameters().positions)
    slopes = {i: Slopes(*(per_row(t, conjuncts) for t in pair)) for i, pair in found.items()}
    targets = {i: rows.flatten(0, 1).unsqueeze(0) for i, rows in roots.start.items()}
    small = enclose(graph, task.nodes, targets, slopes)
    if small is None:
        return None
    picked = torch.eye(count * conjuncts, dtype=roots.rhs.dtype, device=roots.rhs.device)
    rows = Roots({small.graph.output: picked.unflatten(0, (count, conjuncts))}, roots.rhs)
    return Task(small.graph, rows, splittable(small.graph), tuple(small.values), sizes(small.graph, small.values))


def per_row(slopes: Tensor, conjuncts: int) -> Tensor:
    """Slopes (roots, 1, ...) as those of the rows of all roots: (1, roots * conjuncts, ...)."""
    return slopes[:1] if slopes.shape[1] == 0 else slopes.repeat_interleave(conjuncts, 0).transpose(0, 1)
