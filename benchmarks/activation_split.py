"""Domains bounded per second by an activation split: python benchmarks/activation_split.py

Networks of random weights: 6 dense layers of 256, a small convolutional and a residual network, on a box
around a random image. Given are the time to bound the whole box, steps of gradient ascent per second and
domain as children take them (where inputs come in parts, those do), children per second with the choice of the split
and certification, peak memory, and how much of the machine's arithmetic (a large matrix product at the same moment)
the products of the collapsed network take. Seconds are those of the processor, so that other work on the machine counts
little; with several threads they add up (OMP_NUM_THREADS=1 gives one).
"""

from __future__ import annotations

import multiprocessing
import resource
from functools import partial
from itertools import pairwise
from time import process_time

import click
import torch
from torch import Tensor, nn

from lirpa_verify.bounds.alpha_crown import Parameters, optimise
from lirpa_verify.bounds.collapse import collapse
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.bounds.sizes import sizes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph
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
    started = process_time()
    values = bound_nodes(graph, box)
    small = collapse(graph, values)
    assert small is not None
    spent = process_time() - started
    rows = torch.zeros(1, 1, 10, dtype=torch.float64)
    rows[..., 0], rows[..., 1] = 1, -1
    rhs = (small.graph.forward(middle)[0] @ rows[0, 0]).reshape(1, 1)
    roots = Roots({small.graph.output: rows}, rhs)
    known = sizes(small.graph, small.values)
    return Task(small.graph, roots, splittable(small.graph), tuple(small.values), known), spent


def peak() -> float:
    a = torch.randn(2048, 2048)
    started = process_time()
    for _ in range(3):
        a @ a
    return 3 * 2048**3 / (process_time() - started)


def products(graph: Graph) -> int:
    """Multiplications of one backward pass over one domain in the network's matrix products."""
    used = [node.operator for i, node in enumerate(graph.nodes) if graph.users[i] or i == graph.output]
    return sum(operator.weight.numel() for operator in used if isinstance(operator, JointDense))


def ascended(search: ActivationSplit, batch: Domains) -> tuple[float, float]:
    """Steps per second and domain, and multiplications per second; a gradient has as many as its pass."""
    inherited = batch.parameters()
    active = {z: m for z, m in inherited.multipliers.items() if bool((batch.fields["sign", z] != 0).any())}
    start = Parameters(inherited.positions, active, inherited.weights)
    began = process_time()
    optimise(search.fast.graph, search.fast.target(batch), start, CHILD_STEPS, goal=False, parts=search.parts)
    seconds = process_time() - began
    # The first step sees all inputs, all others one part of them; after the last there is a pass without a gradient.
    once, often = products(search.fast.graph), products(search.glance.graph)
    multiplied = len(batch) * (2 * once + (2 * CHILD_STEPS - 1) * often)
    return CHILD_STEPS * len(batch) / seconds, multiplied / seconds


def measured(count: int, name: str) -> str:
    """A row of the table."""
    with torch.no_grad():
        task, spent = task_of(name)
    search = ActivationSplit(task, lambda points: None, lambda progress: None, lambda: None)
    search.start(root_domains(task, LATER))
    batch = grown(search, count)
    steps, multiplied = ascended(search, batch)
    began = process_time()
    children = search.bound_children(batch, choose(search.glance, batch), LATER)
    rate = len(children) / (process_time() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {name} | {sum(task.layout.size)} | {spent:.2f} | {steps:,.0f} | {rate:,.0f}"
        f" | {100 * multiplied / peak():.0f} % | {memory:,.0f} |"
    )


def grown(search: ActivationSplit, count: int) -> Domains:
    """That many open domains."""
    while 0 < search.stack.count < count:
        batch = search.stack.pop(count)
        children = search.bound_children(batch, choose(search.glance, batch), LATER)
        search.stack.push(open_domains(children))
    return search.stack.pop(count)


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--domains", default=256, show_default=True, help="Sub-problems in a batch.")
def main(domains: int) -> None:
    print("| network | undecided | bounds s | ascent steps per s | children per s | share of peak | peak memory MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    # A process for each: the peak of one would hide that of the next.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for row in pool.imap(partial(measured, domains), NETWORKS):
            print(row, flush=True)


if __name__ == "__main__":
    main()
