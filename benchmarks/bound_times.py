"""Time per bound on the same modules and perturbation, on CPU, and on CUDA if there is one.

    PYTHONPATH=.:examples python benchmarks/bound_times.py

Margins of a batch of 32 examples, without gradients, best of three; beside them one forward pass, and the
mean margin found.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from models import cnn, densenet, wide_resnet
from torch import Tensor, nn

from lirpa_verify import Bounded, linf

BATCH, REPEATS = 32, 3
METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")


def modules() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    matrices = [nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)]
    return {
        "two hidden layers of 100": (nn.Sequential(*matrices), (1, 8, 8)),
        "cnn": (cnn(1, 8, 10), (1, 8, 8)),
        "densenet": (densenet(1, 8, 10), (1, 8, 8)),
        "wide-resnet": (wide_resnet(1, 8, 10), (1, 8, 8)),
    }


def seconds(function: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        result = function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times), result


@torch.no_grad()
def main() -> None:
    print("| device | module | forward, ms | " + " | ".join(f"{m}, ms (margin)" for m in METHODS) + " |")
    print("| --- " * (3 + len(METHODS)) + "|")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name, (module, shape) in modules().items():
            torch.manual_seed(0)
            module = module.to(device).eval()
            x = torch.rand(BATCH, *shape, device=device)
            labels = module(x).argmax(1)
            bounded = Bounded(module, x)
            set_ = linf(x, 0.01, 0, 1)
            cells = [f"{1000 * seconds(lambda m=module, x=x: m(x), device)[0]:.1f}"]
            for method in METHODS:
                best, margins = seconds(
                    lambda b=bounded, s=set_, y=labels, m=method: b.margins(s, y, m), device
                )  # fmt: skip
                cells.append(f"{1000 * best:.1f} ({float(margins.mean()):.3f})")
            print(f"| {device} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
