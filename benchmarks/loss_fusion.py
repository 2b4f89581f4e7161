"""Time and memory of one training step with and without loss fusion, for 10, 200 and 1,000 classes.

    PYTHONPATH=. python benchmarks/loss_fusion.py [--device cuda]

A step bounds the loss of a batch of 16 images of 16 x 16 with CROWN-IBP and differentiates it; the best of five
steps counts, on a CPU in processor seconds of one thread. Memory is the peak above what was there before: on a CPU
of the process (measured in a process of its own), on CUDA of the allocator.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from torch import nn

from lirpa_verify import Bounded, linf, robust_loss

BATCH, REPEATS = 16, 5


def network(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, classes),
    )  # fmt: skip


def measure(method: str, classes: int, device: str) -> tuple[float, float]:
    """Seconds and MiB."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = network(classes).to(device)
    x, y = torch.rand(BATCH, 3, 16, 16, device=device), torch.randint(classes, (BATCH,), device=device)
    bounded = Bounded(module, x)

    def step() -> None:
        module.zero_grad()
        robust_loss(bounded, linf(x, 0.01, 0, 1), y, method).mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    robust_loss(bounded, linf(x[:1], 0.01, 0, 1), y[:1], "fused").mean().backward()  # what is loaded on first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated() / 2**20
    step()
    times, clock = [], time.perf_counter if device == "cuda" else time.process_time
    for _ in range(REPEATS):
        started = clock()
        step()
        times.append(clock() - started)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device == "cuda":
        after = torch.cuda.max_memory_allocated() / 2**20
    return min(times), after - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "CLASSES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(*measure(given.one[0], int(given.one[1]), given.device))
        return
    print(
        "| classes | fused, s | fused, MiB | class by class, s | class by class, MiB |\n| --- | --- | --- | --- | --- |"
    )
    for classes in (10, 200, 1000):
        cells = [f"{classes:,}"]
        for method in ("fused", "crown-ibp"):
            command = [sys.executable, __file__, "--device", given.device, "--one", method, str(classes)]
            seconds, memory = map(float, subprocess.check_output(command, text=True).split())
            cells += [f"{seconds:.3f}", f"{memory:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
