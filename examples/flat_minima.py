"""Training against perturbed weights, which prefers flat minima, with a picture of the loss around them.

    python examples/flat_minima.py --out FOLDER

Two networks are trained on digits, one plainly and one with the largest cross-entropy over a box around
its weights (arXiv:2002.12920, section 4). `landscape.svg` shows the loss around each: weights are
moved along two random directions, scaled to the size of each matrix (arXiv:1712.09913).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from datasets import Images, digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lirpa_verify import Bounded, Perturbation, Plan, Smoothed, Task, linf, robust_loss, shuffled, train

BATCH, HIDDEN = 64, 24


def network(data: Images) -> nn.Module:
    inputs = data.train[0][0].numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, data.classes))


def around_weights(module: nn.Module, radius: float) -> dict[str, Perturbation]:
    """Every matrix within `radius` times its mean absolute entry."""
    matrices = {name: p for name, p in module.named_parameters() if p.dim() > 1}
    return {name: linf(p.unsqueeze(0), radius * p.detach().abs().mean()) for name, p in matrices.items()}


def train_network(data: Images, radius: float, epochs: int, seed: int) -> tuple[nn.Module, Bounded]:
    torch.manual_seed(seed)
    module = network(data)
    bounded = Bounded(module, data.floats(data.train[0][:1]))
    task = Task(
        module, bounded, shuffled(*data.train, BATCH, seed, data.floats), lambda x, r: x,
        perturb_parameters=lambda r: around_weights(module, r),
    )  # fmt: skip
    steps = epochs * -(-len(data.train[1]) // BATCH)
    share = 0.5 if radius else 1.0
    plan = Plan(epochs, Smoothed(radius, steps // 4, 3 * steps // 4), "fused", share, backward_share=1.0, rate=3e-3)
    train(task, plan)
    return module.eval(), bounded


@torch.no_grad()
def worst_loss(bounded: Bounded, data: Images, radius: float) -> float:
    """Certified: the mean over test images of the largest loss over the weights."""
    x, y = data.floats(data.test[0]), data.test[1]
    sets = around_weights(bounded.function, radius)
    parts = [robust_loss(bounded, a, b, "fused", parameters=sets) for a, b in zip(x.split(100), y.split(100))]
    return float(torch.cat(parts).mean())


@torch.no_grad()
def landscape(module: nn.Module, data: Images, reach: float, points: int, seed: int) -> Tensor:
    """Test losses ``(points, points)`` on a grid of weights around the trained ones."""
    generator = torch.Generator().manual_seed(seed)
    trained = {name: p.detach().clone() for name, p in module.named_parameters()}
    directions = [{name: random_direction(p, generator) for name, p in trained.items()} for _ in range(2)]
    steps = torch.linspace(-reach, reach, points)
    x, y = data.floats(data.test[0]), data.test[1]

    def loss(a: Tensor, b: Tensor) -> float:
        moved = {name: p + a * directions[0][name] + b * directions[1][name] for name, p in trained.items()}
        return float(cross_entropy(torch.func.functional_call(module, moved, (x,)), y))

    return torch.tensor([[loss(a, b) for b in steps] for a in steps])


def random_direction(p: Tensor, generator: torch.Generator) -> Tensor:
    """As large as the matrix; biases stay."""
    if p.dim() < 2:
        return torch.zeros_like(p)
    d = torch.randn(p.shape, generator=generator)
    return d * p.norm() / d.norm()


def picture(grids: Mapping[str, Tensor], cell: int = 8) -> str:
    """The landscapes side by side in one scale: the darker, the larger the loss."""
    top, gap = max(float(grid.max()) for grid in grids.values()), 20
    side = cell * len(next(iter(grids.values())))
    parts = []
    for k, (name, grid) in enumerate(grids.items()):
        left = k * (side + gap)
        parts.append(f'<text x="{left}" y="14" font-family="sans-serif" font-size="12">{name}</text>')
        for i, row in enumerate(grid.tolist()):
            for j, value in enumerate(row):
                shade = round(255 * (1 - min(1.0, value / top)))
                parts.append(f'<rect x="{left + cell * j}" y="{gap + cell * i}" width="{cell}" height="{cell}" '
                             f'fill="rgb({shade},{shade},255)"/>')  # fmt: skip
    width = len(grids) * (side + gap)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{side + gap}">'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--radius", type=float, default=0.1, help="of weights, relative to their mean size")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", type=int, default=25)
    parser.add_argument("--out", type=Path, default=Path("flat_minima"))
    given = parser.parse_args(arguments)
    data = digits()
    grids, found = {}, {}
    for name, radius in (("plain training", 0.0), ("training against perturbed weights", given.radius)):
        module, bounded = train_network(data, radius, given.epochs, given.seed)
        grids[name] = landscape(module, data, 1.0, given.points, given.seed)
        worst = worst_loss(bounded, data, given.radius)
        found[name] = (worst, float(grids[name].mean()))
        print(f"{name}: loss at most {worst:.3f} over the weights, {found[name][1]:.3f} on average around them")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "landscape.svg").write_text(picture(grids))
    print(f"picture: {given.out / 'landscape.svg'}")
    return found


if __name__ == "__main__":
    main()
