"""The root of a search whose first activations are bounded over the box, where that gains much.

A sub-problem then costs some twenty times as much, and a search has to be that much shorter: bounds that lack a share
less make trees that have so much fewer levels, which is worth it where they are deep.
"""

from __future__ import annotations

from lirpa_verify.bounds.over_box import over_box
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.roots import Task, root_domains

GAINED = 0.25  # share of what the bounds lack: of the 20 levels of a tree of a million domains it saves 5


def over_box_root(task: Task, domains: Domains, deadline: Deadline) -> tuple[Task, Domains]:
    """The task and its bounded roots with such bounds, or as they are.

    Args:
        task: in double precision.
        domains: one bounded domain per root of the task.
        deadline: when to stop optimising.
    """
    graph = over_box(task.graph, task.nodes)
    if graph is None:
        return task, domains
    tighter = Task(graph, task.roots, splittable(graph), task.nodes, sizes(graph, task.nodes), task.cuts)
    bounded = root_domains(tighter, deadline)
    lacking, before = (float(d.margin.clamp(max=0).sum()) for d in (bounded, domains))
    return (tighter, bounded) if lacking > (1 - GAINED) * before else (task, domains)
