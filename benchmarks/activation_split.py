"""Domains bounded per second by an activation split: python benchmarks/activation_split.py

Networks of random weights: 6 dense layers of 256, a small convolutional and a residual network, on a box
around a random image. Given are the time to bound the whole box, steps of gradient ascent per second and
domain, children per second with branching and certification, peak memory, and how much of the
machine's arithmetic (a large matrix product at the same moment) the products of the collapsed network take.
"""

from __future__ import annotations

import resource
import time
from itertools import pairwise

import click
import torch
from torch import Tensor, nn

from lirpa_verify.bounds.alpha_crown import Parameters, optimise
from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.graph.supported import RULES
from lirpa_verify.load.record import record
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.joint_dense import JointDense
from lirpa_verify.search.activation_split import CHILD_STEPS, ActivationSplit, open_domains
from lirpa_verify.search.branching import splittable
from lirpa_verify.search.domains import Domains
from lirpa_verify.search.look_ahead import choose
from lirpa_verify.search.roots import Roots, Task, root_domains

LATER = Deadline.after(1e9)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.two(torch.relu(self.one(x))))


def dense() -> nn.Sequential:
    widths = [784, *[256] * 6, 10]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


def residual() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), Block(8), Block(8), nn.Flatten(), nn.Linear(8 * 14 * 14, 10)
    )


NETWORKS = {"6 x 256 dense": (dense, 0.01), "convolutional": (convolutional, 0.03), "residual": (residual, 0.03)}


def task_of(name: str) -> tuple[Task, float]:
    """A disjunct that the middle of the box satisfies, so that a search never ends; and seconds for the bounds."""
    torch.manual_seed(0)
    make, radius = NETWORKS[name]
    module = make().double()
    graph = simplify(lower(record(module, [torch.zeros(1, 1, 28, 28, dtype=torch.float64)]), RULES))
    middle = torch.rand(1, graph.n_inputs, dtype=torch.float64)
    box = Interval(middle - radius, middle + radius)
    started = time.perf_counter()
    values = bound_nodes(graph, box)
    small = collapse(graph, values)
    assert small is not None
    spent = time.perf_counter() - started
    rows = torch.zeros(1, 1, 10, dtype=torch.float64)
    rows[..., 0], rows[..., 1] = 1, -1
    rhs = (small.graph.forward(middle)[0] @ rows[0, 0]).reshape(1, 1)
    roots = Roots({small.graph.output: rows}, rhs)
    known = sizes(small.graph, small.values)
    return Task(small.graph, roots, splittable(small.graph), tuple(small.values), known), spent


def peak() -> float:
    a = torch.randn(2048, 2048)
    started = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2048**3 / (time.perf_counter() - started)


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--domains", default=256, show_default=True, help="Sub-problems in a batch.")
def main(domains: int) -> None:
    print("| network | undecided | bounds s | ascent steps per s | children per s | share of peak | peak memory MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in NETWORKS:
        with torch.no_grad():
            task, spent = task_of(name)
        search = ActivationSplit(task, lambda points: None, lambda progress: None, lambda: None)
        search.start(root_domains(task, LATER))
        batch = grown(search, domains)
        entry = choose(search.fast, batch)
        parameters = Parameters(batch.parameters().positions, {}, None)
        started = time.perf_counter()
        optimise(search.fast.graph, search.fast.target(batch), parameters, CHILD_STEPS, goal=False)
        ascent = CHILD_STEPS * len(batch) / (time.perf_counter() - started)
        started = time.perf_counter()
        children = search.bound_children(batch, entry, LATER)
        rate = len(children) / (time.perf_counter() - started)
        weights = sum(n.operator.weight.numel() for n in task.graph.nodes if isinstance(n.operator, JointDense))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        share = 100 * 2 * ascent * weights / peak()
        print(
            f"| {name} | {sum(task.layout.size)} | {spent:.2f} | {ascent:,.0f} | {rate:,.0f} | {share:.0f} %"
            f" | {memory:,.0f} |"
        )


def grown(search: ActivationSplit, count: int) -> Domains:
    """That many open domains."""
    while 0 < search.stack.count < count:
        batch = search.stack.pop(count)
        children = search.bound_children(batch, choose(search.fast, batch), LATER)
        search.stack.push(open_domains(children))
    return search.stack.pop(count)


if __name__ == "__main__":
    main()
