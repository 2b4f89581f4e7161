"""One pass of bounds over the input set, without search: what a chosen bound method alone can prove."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lirpa_verify.bounds.intermediate import Method, bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.bound_boxes import bound_rows, interval_rows, still_open
from lirpa_verify.search.input_split import initial_boxes
from lirpa_verify.search.roots import Task, root_domains
from lirpa_verify.search.specification import Problem
from lirpa_verify.verdict import Progress, Result

BATCH = 256


def single_pass(
    graph: Graph,
    problem: Problem,
    deadline: Deadline,
    method: Method,
    optimised: bool,
    report: Callable[[Progress], None],
) -> Result:
    """`unsat` where one pass proves every disjunct impossible, else `unknown`.

    Args:
        graph: the network over its varying inputs.
        problem: boxes and rows, in the graph's precision.
        deadline: when to stop.
        method: bounds of intermediate nodes; with ibp the rows are bounded by intervals too.
        optimised: whether slopes are optimised for what is then still open.
        report: takes news for the user.
    """
    boxes = initial_boxes(problem)
    for start in range(0, len(boxes), BATCH):
        if deadline.passed():
            return Result("timeout", reason="time is up")
        batch = boxes[slice(start, start + BATCH)]
        with torch.no_grad():
            values = bound_nodes(graph, batch.interval, method)
            bounds = (interval_rows if method == "ibp" else bound_rows)(graph, problem.specification, batch, values)
        open_ = still_open(batch, bounds)
        report(Progress(method, int(open_.sum()), 0, float(bounds.margin.amax(2).min())))
        for b in open_.any(1).nonzero().flatten().tolist():
            if not optimised:
                return Result("unknown", reason=f"{method} bounds do not prove the property")
            disjuncts = bounds.disjuncts[open_[b]]
            one = [Interval(v.lower[b : b + 1], v.upper[b : b + 1]) if len(v.lower) > 1 else v for v in values]
            domains = root_domains(Task.of(graph, problem, int(batch.origin[b]), disjuncts, one), deadline)
            if not bool((domains.margin > 0).all()):
                return Result("unknown", reason="alpha-CROWN bounds do not prove the property")
    return Result("unsat", reason=f"{'alpha-CROWN' if optimised else method} bounds")
