"""Boxes bounded per second by an input split: python benchmarks/input_split.py

Networks of random weights in the shapes that occur: a controller (5 inputs, 6 layers of 50 ReLUs), a
learned index (1 input, 2 layers of 64) and a system with products and sines (4 inputs). The share of peak
arithmetic relates the multiplications of the dense layers that a pass must do to what a product of two
large matrices reaches on the same machine at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import click
import torch
from torch import Tensor, nn

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import Method, bound_nodes
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.graph.supported import RULES
from lirpa_verify.load.record import record
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.dense import Dense

METHODS: tuple[Method, ...] = ("ibp", "forward", "crown")


def controller() -> tuple[Callable[[Tensor], Tensor], int]:
    widths = [5, *[50] * 6, 5]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), 5


def learned_index() -> tuple[Callable[[Tensor], Tensor], int]:
    return nn.Sequential(nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)), 1


def dynamics() -> tuple[Callable[[Tensor], Tensor], int]:
    inner = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 4))
    return lambda x: torch.sin(x) * inner(x) + x * x, 4


SYSTEMS = {"controller": controller, "learned index": learned_index, "products and sines": dynamics}


def graph_of(name: str) -> Graph:
    torch.manual_seed(0)
    module, inputs = SYSTEMS[name]()
    if isinstance(module, nn.Module):
        module = module.double()
    else:
        torch.set_default_dtype(torch.float64)
        module, inputs = SYSTEMS[name]()
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        return simplify(lower(record(module, [torch.zeros(1, inputs, dtype=torch.float64)]), RULES))


def small_boxes(graph: Graph, count: int) -> Interval:
    middle = torch.randn(count, graph.n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Interval(middle - 0.02, middle + 0.02)


def seconds(action: Callable[[], object]) -> float:
    """The least of some runs of at least a fifth of a second together."""
    best, spent = float("inf"), 0.0
    while spent < 0.5:
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
        spent += time.perf_counter() - started
    return best


def peak() -> float:
    """Multiplications per second of a large matrix product in double precision."""
    a = torch.randn(1024, 1024, dtype=torch.float64)
    return 1024**3 / seconds(lambda: a @ a)


def multiplications(graph: Graph, box: Interval, method: Method) -> float:
    """Of the dense layers, per box: rows pushed times the sizes of the matrices below them."""
    dense = [(i, n.operator.weight.numel()) for i, n in enumerate(graph.nodes) if isinstance(n.operator, Dense)]
    total = sum(size for _, size in dense)
    if method == "ibp":
        return 2 * total
    if method == "forward":
        return 2 * total * (graph.n_inputs + 1) * 2 + total * graph.n_outputs
    values = bound_nodes(graph, box, method)
    rows = 0.0
    for i in graph.bounded:
        if graph.depends_on_input[i]:
            open_ = float(((values[i].lower < 0) & (values[i].upper > 0)).flatten(1).sum(1).double().mean())
            rows += 2 * open_ * sum(size for j, size in dense if j <= i)
    return rows + total * graph.n_outputs


def measurements(graph: Graph, most: int) -> Iterator[tuple[Method, int, float, float]]:
    for method in METHODS:
        count = 16
        while count <= most:
            boxes = small_boxes(graph, count)
            rate = count / seconds(partial(bound, graph, boxes, method))
            yield method, count, rate, rate * multiplications(graph, boxes, method)
            count *= 8


def bound(graph: Graph, boxes: Interval, method: Method) -> None:
    values = bound_nodes(graph, boxes, method)
    if method != "ibp":
        rows = torch.eye(graph.n_outputs, dtype=torch.float64).unsqueeze(0)
        backward(graph, {graph.output: rows}, dict(enumerate(values)), sizes=sizes(graph, values))


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--most", default=8192, show_default=True, help="Largest batch.")
def main(most: int) -> None:
    with torch.no_grad():
        for name in SYSTEMS:
            graph = graph_of(name)
            print(f"\n{name}\n\n| method | batch | boxes per second | share of peak |\n| --- | --- | --- | --- |")
            for method, count, rate, work in measurements(graph, most):
                print(f"| {method} | {count} | {rate:,.0f} | {100 * work / peak():.1f} % |")


if __name__ == "__main__":
    main()
