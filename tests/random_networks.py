"""Random networks, boxes and properties for the tests of bounds, search and strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load.record import record
from lirpa_verify.operators.base import Interval
from lirpa_verify.search.specification import Problem, make_problem
from vnnlib import Property

Row = tuple[dict[int, float], float]  # (coefficient per variable, right-hand side)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky": lambda x: nn.functional.leaky_relu(x, 0.1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "mixed": lambda x: torch.sin(x) + torch.relu(x),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(g: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=g, dtype=torch.float64)


class Dense(nn.Module):
    """Matrix products with an activation between them."""

    def __init__(self, g: torch.Generator, sizes: Sequence[int], activation: str, scale: float = 1.0) -> None:
        super().__init__()
        self.weights = [normal(g, m, n, scale=scale * m**-0.5) for m, n in pairwise(sizes)]
        self.biases = [normal(g, n, scale=0.3 * scale) for n in sizes[1:]]
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = self.activation(x) if k else x
            x = x @ weight + bias
        return x


class Residual(Dense):
    """Equal widths, every block added to what went in."""

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.weights[0] + self.biases[0]
        for weight, bias in zip(self.weights[1:-1], self.biases[1:-1]):
            x = x + self.activation(x @ weight + bias)
        return self.activation(x) @ self.weights[-1] + self.biases[-1]


class Joined(Dense):
    """Hidden values, their negatives' activations and the input side by side."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = x @ self.weights[0] + self.biases[0]
        both = torch.cat([self.activation(hidden), self.activation(-hidden), hidden], -1)
        picked = both[..., 1 : 1 + 2 * hidden.shape[-1] : 2].flip(-1)
        return self.activation(picked @ self.weights[1] + self.biases[1]) @ self.weights[2]


class Product(Dense):
    """Two hidden layers multiplied entry by entry."""

    def forward(self, x: Tensor) -> Tensor:
        left = self.activation(x @ self.weights[0] + self.biases[0])
        right = torch.sigmoid(x @ self.weights[0].flip(0) - self.biases[0])
        return (left * right) @ self.weights[1] + self.biases[1]


class Gated(Dense):
    """Values behind activations, multiplied with linear functions of the input."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(x @ self.weights[0] + self.biases[0])
        return (hidden @ self.weights[1]) * (x @ self.weights[0].flip(0)) @ self.weights[2]


class Shares(Dense):
    """The share that each hidden value has of the sum of all: what is split is a factor's image."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(x @ self.weights[0] + self.biases[0]) + 0.1
        return (hidden * torch.reciprocal(hidden.square().sum(-1, keepdim=True) + 0.2)) @ self.weights[1]


class Attention(nn.Module):
    """Two blocks of attention between three tokens of two entries, each followed by an activation."""

    def __init__(self, g: torch.Generator, activation: str) -> None:
        super().__init__()
        self.weights = [normal(g, 2, n, scale=0.7) for n in (2, 2, 2, 5, 2, 2, 2, 5)]
        self.back = [normal(g, 5, 2, scale=0.5) for _ in range(2)]
        self.last = normal(g, 6, 3, scale=0.7)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(3, 2)
        for k, back in enumerate(self.back):
            q, key, v, up = self.weights[4 * k : 4 * k + 4]
            x = x + torch.softmax((x @ q) @ (x @ key).mT, -1) @ (x @ v)
            x = x + self.activation(x @ up) @ back
        return x.reshape(1, 6) @ self.last


class Convolutional(nn.Module):
    """Two convolutions (the second with stride), a pooling and a matrix product on a (1, 1, 4, 4) image."""

    def __init__(self, g: torch.Generator, outputs: int, activation: str) -> None:
        super().__init__()
        self.first, self.second = normal(g, 3, 1, 3, 3, scale=0.5), normal(g, 4, 3, 2, 2, scale=0.5)
        self.bias, self.last = normal(g, 3, scale=0.2), normal(g, 4, outputs, scale=0.7)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(nn.functional.conv2d(x, self.first, self.bias, padding=1))
        x = self.activation(nn.functional.conv2d(x, self.second, stride=2))
        return nn.functional.avg_pool2d(x, 2).flatten(1) @ self.last


def graph_of(module: Callable[[Tensor], Tensor], shape: Sequence[int], simplified: bool = True) -> Graph:
    graph = lower(record(module, [torch.zeros(tuple(shape), dtype=torch.float64)]), RULES)
    return simplify(graph) if simplified else graph


def dense_graph(seed: int, sizes: Sequence[int], activation: str = "relu", scale: float = 1.0) -> Graph:
    return graph_of(Dense(generator(seed), sizes, activation, scale), (1, sizes[0]))


def network(kind: str, activation: str, seed: int) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...]]:
    """A module of some kind and the shape of its input."""
    g = generator(seed)
    if kind == "conv":
        return Convolutional(g, 3, activation), (1, 1, 4, 4)
    if kind == "attention":
        return Attention(g, activation), (1, 6)
    if kind == "residual":
        return Residual(g, (3, 6, 6, 6, 2), activation), (1, 3)
    if kind == "concat":
        return Joined(g, (3, 6, 5, 2), activation), (1, 3)
    if kind == "product":
        return Product(g, (4, 6, 3), activation), (1, 4)
    if kind == "gated":
        return Gated(g, (4, 6, 6, 3), activation), (1, 4)
    if kind == "shares":
        return Shares(g, (3, 5, 3), activation), (1, 3)
    return Dense(g, (4, 8, 8, 3), activation), (1, 4)


def random_boxes(g: torch.Generator, batch: int, n: int) -> Interval:
    """Boxes of very different sizes, with some inputs pinned."""
    middle = normal(g, batch, n)
    kind = torch.randint(0, 5, (batch, 1), generator=g)
    radius = torch.tensor([1e-7, 0.05, 0.4, 1.5, 30.0], dtype=torch.float64)[kind]
    radius = radius * torch.rand(batch, n, generator=g, dtype=torch.float64)
    radius = radius * (torch.rand(batch, n, generator=g, dtype=torch.float64) > 0.15)
    return Interval(middle - radius, middle + radius)


def samples(g: torch.Generator, box: Interval, count: int) -> Tensor:
    """(count, boxes, inputs) points: uniform ones, corners, and the middle."""
    share = torch.rand(count, *box.lower.shape, generator=g, dtype=torch.float64)
    share[::3] = share[::3].round()
    share[0] = 0.5
    lower, upper = box.lower.double(), box.upper.double()
    return torch.minimum(torch.maximum(lower + share * (upper - lower), lower), upper)


def make_property(
    n_inputs: int,
    n_outputs: int,
    boxes: Sequence[tuple[Sequence[float], Sequence[float]]],
    disjuncts: Sequence[tuple[int, Sequence[Row]]],
) -> Property:
    """Disjuncts are (number of the box, rows); outputs are variables n_inputs and up."""
    rows = [row for _, conjunction in disjuncts for row in conjunction]
    terms = [term for coefficients, _ in rows for term in coefficients.items()]
    return Property(
        n_inputs=n_inputs,
        n_outputs=n_outputs,
        lower=np.array([low for low, _ in boxes], dtype=np.float64).reshape(len(boxes), n_inputs),
        upper=np.array([high for _, high in boxes], dtype=np.float64).reshape(len(boxes), n_inputs),
        box=np.array([box for box, _ in disjuncts], dtype=np.int64),
        row_start=np.cumsum([0, *(len(c) for _, c in disjuncts)]).astype(np.int64),
        term_start=np.cumsum([0, *(len(c) for c, _ in rows)]).astype(np.int64),
        variable=np.array([v for v, _ in terms], dtype=np.int64),
        coefficient=np.array([c for _, c in terms], dtype=np.float64),
        rhs=np.array([rhs for _, rhs in rows], dtype=np.float64),
        strict=np.zeros(len(rows), dtype=bool),
    )


def problem_of(prop: Property) -> Problem:
    return make_problem(prop, False)
