"""The networks of the examples, small enough for a CPU; widths and depths are parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def cnn(channels: int, size: int, classes: int, width: int = 16) -> nn.Module:
    """Two convolutions and two matrices."""
    inner = 2 * width * ((size + 1) // 2) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(inner, 64), nn.ReLU(), nn.Linear(64, classes),
    )  # fmt: skip


class DenseLayer(nn.Module):
    """Adds channels to what it is given (arXiv:1608.06993)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


def densenet(channels: int, size: int, classes: int, width: int = 16, depth: int = 3) -> nn.Module:
    layers = [DenseLayer(width + i * width // 2, width // 2) for i in range(depth)]
    wide = width + depth * width // 2
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1), *layers, nn.BatchNorm2d(wide), nn.ReLU(),
        nn.Flatten(), nn.Linear(wide * ((size + 1) // 2) ** 2, classes),
    )  # fmt: skip


class ResidualBlock(nn.Module):
    """Two convolutions, the second one grouped or not, and a way around them (arXiv:1611.05431, arXiv:1605.07146)."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


def residual(channels: int, size: int, classes: int, width: int, groups: int, blocks: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU(),
        *[ResidualBlock(width, groups) for _ in range(blocks)],
        nn.Flatten(), nn.Linear(width * ((size + 1) // 2) ** 2, classes),
    )  # fmt: skip


def resnext(channels: int, size: int, classes: int, width: int = 16) -> nn.Module:
    return residual(channels, size, classes, width, groups=4, blocks=2)


def wide_resnet(channels: int, size: int, classes: int, width: int = 32) -> nn.Module:
    return residual(channels, size, classes, width, groups=1, blocks=1)


IMAGE_MODELS = {"cnn": cnn, "densenet": densenet, "resnext": resnext, "wide-resnet": wide_resnet}


class RecurrentBody(nn.Module):
    """An LSTM over embedded words and a matrix on its mean state."""

    def __init__(self, size: int, length: int, classes: int, hidden: int = 16) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(size, hidden, batch_first=True), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].mean(1))


class TransformerBody(nn.Module):
    """One layer of attention over embedded words; layer norms without division, as in arXiv:2002.06622."""

    def __init__(self, size: int, length: int, classes: int, heads: int = 2) -> None:
        super().__init__()
        self.places = nn.Parameter(0.1 * torch.randn(length, size))
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.inner, self.outer = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        self.head = nn.Linear(size, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.places
        x = centred(x + self.attention(x, x, x, need_weights=False)[0])
        x = centred(x + self.outer(torch.relu(self.inner(x))))
        return self.head(x.mean(1))


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


class TextClassifier(nn.Module):
    """An embedding and a body behind it; words are perturbed between the two."""

    def __init__(self, body: nn.Module, words: int, size: int) -> None:
        super().__init__()
        self.embedding, self.body = nn.Embedding(words, size), body

    def forward(self, tokens: Tensor) -> Tensor:
        return self.body(self.embedding(tokens))


TEXT_MODELS = {"lstm": RecurrentBody, "transformer": TransformerBody}
