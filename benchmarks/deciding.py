"""Splitting inputs, activations, or what a trial says: python benchmarks/deciding.py

Random dense networks of 5 to 60 inputs, some of which matter less than others, and thresholds below the least output
that descent finds: seconds of processor time on one thread until that is proved, for each method.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import click
import torch
from torch import Tensor, nn

from lirpa_verify import Bounded, Options, linf

METHODS = ("input-split", "activation-split", "auto")
INPUTS, WIDTHS, DEPTHS = (5, 8, 10, 12, 16, 24, 40, 60), (8, 16, 32, 64), (2, 3, 4, 6)
DECAYS, RADII = (0.0, 0.05, 0.2, 0.5), (0.1, 0.3, 0.6, 1.0)  # of the inputs' influence; of the box
GAPS = (0.05, 0.2, 0.5, 1.0)  # below the least output, in standard deviations of the output
ACTIVATIONS = (nn.ReLU, nn.ReLU, nn.ReLU, nn.Tanh, nn.Sigmoid)

T = TypeVar("T")


def question(seed: int) -> tuple[str, nn.Sequential, Tensor, float]:
    """What it is, a network whose output should be above 0 within a box, the box's middle and its radius."""
    g = torch.Generator().manual_seed(seed)

    def pick(choices: Sequence[T]) -> T:
        return choices[int(torch.randint(0, len(choices), (1,), generator=g))]

    n, width, depth, decay = pick(INPUTS), pick(WIDTHS), pick(DEPTHS), pick(DECAYS)
    activation, radius, gap = pick(ACTIVATIONS), pick(RADII), pick(GAPS)
    widths = [n, *[width] * depth, 1]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), activation())]
    network = nn.Sequential(*layers[:-1]).double()
    with torch.no_grad():
        for layer in network[::2]:
            layer.weight.normal_(0, (2 / layer.weight.shape[1]) ** 0.5, generator=g)
            layer.bias.normal_(0, 0.3, generator=g)
        network[0].weight *= torch.exp(-decay * torch.arange(n, dtype=torch.float64))
    middle = 2 * torch.rand(1, n, generator=g, dtype=torch.float64) - 1
    least, spread = output_range(network, middle, radius, g)
    with torch.no_grad():
        network[-1].bias += gap * spread - least
    kind = activation.__name__
    text = f"{n} inputs (decay {decay}), {depth} layers of {width} {kind}, radius {radius}, gap {gap}"
    return text, network, middle, radius


def output_range(network: nn.Sequential, middle: Tensor, radius: float, g: torch.Generator) -> tuple[float, float]:
    """The least output that descent from random points finds, and the standard deviation."""
    lower, upper = middle - radius, middle + radius
    x = lower + (upper - lower) * torch.rand(4000, middle.shape[1], generator=g, dtype=torch.float64)
    with torch.no_grad():
        y = network(x).flatten()
    x = x[y.topk(64, largest=False).indices]
    for step in range(200):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(network(x).sum(), x)
        x = x.detach() - 0.05 * radius * (1 - step / 200) * gradient.sign()
        x = torch.minimum(torch.maximum(x, lower), upper)
    with torch.no_grad():
        return float(network(x).min()), float(y.std())


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--count", default=32, show_default=True, help="Networks.")
@click.option("--timeout", default=20.0, show_default=True, help="Seconds for each.")
def main(count: int, timeout: float) -> None:
    torch.set_num_threads(1)
    print("| network | " + " | ".join(METHODS) + " |\n| --- |" + " --- |" * len(METHODS))
    total, proved = dict.fromkeys(METHODS, 0.0), dict.fromkeys(METHODS, 0)
    for seed in range(count):
        text, network, middle, radius = question(seed)
        bounded, box, cells = Bounded(network, middle), linf(middle, radius), []
        for method in METHODS:
            started = time.process_time()
            [result] = bounded.verify(
                box, specification=torch.ones(1, 1).double(), timeout=timeout, options=Options(method)
            )
            seconds = time.process_time() - started
            total[method] += seconds
            proved[method] += result.verdict == "unsat"
            cells.append(f"{seconds:.1f}" if result.verdict == "unsat" else result.verdict)
        print(f"| {text} | " + " | ".join(cells) + " |", flush=True)
    print("| proved (seconds) | " + " | ".join(f"{proved[m]} ({total[m]:.0f})" for m in METHODS) + " |")


if __name__ == "__main__":
    main()
