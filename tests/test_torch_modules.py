"""Networks as torch modules, without a model file: recorded, bounded by every method, checked against samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from function_checks import check_function, seeded
from torch import Tensor, nn


class Residual(nn.Module):
    """A basic or bottleneck block of a ResNet (arXiv:1512.03385); with groups, of a ResNeXt (arXiv:1611.05431)."""

    def __init__(self, channels: int, out: int, stride: int, width: int | None = None, groups: int = 1) -> None:
        super().__init__()
        if width is None:
            steps = [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            steps += [nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)]
        else:
            steps = [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            steps += [nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(width)]
            steps += [nn.ReLU(), nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.body = nn.Sequential(*steps)
        same = channels == out and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out))
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        identity = self.shortcut(x)
        y = self.body(x)
        y += identity
        return self.relu(y)


class Residuals(nn.Module):
    def __init__(self, *blocks: Residual) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(*blocks)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.pool(self.stem(x)))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class DenseLayer(nn.Module):
    """Of a DenseNet (arXiv:1608.06993): what it makes is joined to what it was given."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, parts: list[Tensor]) -> Tensor:
        x = self.conv1(torch.relu(self.norm1(torch.cat(parts, 1))))
        return self.conv2(torch.relu(self.norm2(x)))


class DenseNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, 1, 1, bias=False)
        self.block = nn.ModuleList([DenseLayer(4 + 2 * i, 2) for i in range(3)])
        self.transition = nn.Sequential(nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 5, 1, bias=False), nn.AvgPool2d(2))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.stem(x)]
        for layer in self.block:
            parts.append(layer(parts))
        x = torch.relu(self.transition(torch.cat(parts, 1)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class Recurrent(nn.Module):
    """The last state of a recurrent layer, classified."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.layer, self.head = kind(3, 5, batch_first=True, num_layers=2), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    """A Transformer encoder with positions and a mean over them (arXiv:1706.03762)."""

    def __init__(self, norm_first: bool, activation: str) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, activation, batch_first=True, norm_first=norm_first)
        self.position = nn.Parameter(torch.randn(1, 4, 8))
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x + self.position).mean(1))


class VisionTransformer(nn.Module):
    """Patches, a class token, attention blocks (arXiv:2010.11929)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 3, 3)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token, self.patches(x).flatten(2).transpose(1, 2)], 1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x[:, 0])


def statistics(module: nn.Module) -> nn.Module:
    """Batch norms that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            n = part.num_features
            part.running_mean, part.running_var = torch.linspace(-0.2, 0.3, n), torch.linspace(0.5, 1.5, n)
    return module


IMAGE, SEQUENCE = (1, 2, 8, 8), (1, 4, 3)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (lambda: Residuals(Residual(4, 4, 1), Residual(4, 8, 2)), IMAGE),
    "resnet bottleneck": (lambda: Residuals(Residual(4, 8, 2, width=2), Residual(8, 8, 1, width=4)), IMAGE),
    "resnext": (lambda: Residuals(Residual(4, 8, 2, width=4, groups=2), Residual(8, 8, 1, 4, 4)), IMAGE),
    "densenet": (DenseNetwork, IMAGE),
    "lstm": (lambda: Recurrent(nn.LSTM), SEQUENCE),
    "gru": (lambda: Recurrent(nn.GRU), SEQUENCE),
    "rnn": (lambda: Recurrent(nn.RNN), SEQUENCE),
    "encoder": (lambda: Encoder(False, "relu"), (1, 4, 8)),
    "encoder, norm first": (lambda: Encoder(True, "gelu"), (1, 4, 8)),
    "vision transformer": (VisionTransformer, (1, 2, 6, 6)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_modules(name: str) -> None:
    make, shape = NETWORKS[name]
    check_function(name, statistics(seeded(make)), shape)
