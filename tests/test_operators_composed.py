"""Functions that reach the graph in parts, masks, and further layers of torch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from function_checks import Function, check_function, constant, seeded
from torch import Tensor, nn

from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.load.record import record
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.sigmoid import Sigmoid
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.standardise import Standardise

W = constant(4, 4)
HIDDEN = torch.ones(3, 3).triu(1) > 0
FUNCTIONS: dict[str, Function] = {
    "heaviside": lambda x: torch.heaviside(x, torch.tensor(0.5)),
    "glu": lambda x: F.glu(x, -1),
    "logaddexp": lambda x: torch.logaddexp(x, x.flip(0)),
    "addcmul": lambda x: torch.addcmul(x, x, x.flip(0), value=2),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.flip(0) + 60),
    "lerp": lambda x: torch.lerp(x, x.flip(0), 0.3) + torch.lerp(x, x.flip(0), x.sigmoid()),
    "frac": torch.frac,
    "logit": lambda x: torch.logit(x.sigmoid() * 0.9 + 0.05),
    "xlogy": lambda x: torch.xlogy(x, x + 60),
    "trace": lambda x: x[:3, :3].trace() + x[:3, :3].diag(),
    "cross": lambda x: torch.linalg.cross(x[:, :3], x[:, 1:]),
    "rot90": lambda x: x.rot90(),
    "block diagonal": lambda x: torch.block_diag(x, x),
    "degrees": lambda x: torch.deg2rad(x) + torch.rad2deg(x),
    "variance and mean": lambda x: torch.stack([*torch.var_mean(x, dim=1), *torch.std_mean(x + x**2, dim=1)]),
    "covariance": torch.cov,
    "distances": lambda x: F.pairwise_distance(x, x.flip(0)) + torch.dist(x, W[:3]),
    "distances of rows": lambda x: torch.cdist(x, W),
    "distances of rows by sums": lambda x: torch.cdist(W[:2], x, p=1),
    "largest distances of rows": lambda x: torch.cdist(x, x.flip(1), p=math.inf),
    "distances in batches": lambda x: torch.cdist(x.reshape(3, 2, 2), W.reshape(1, 8, 2)),
    "distances among rows": lambda x: F.pdist(x) + F.pdist(x, 1),
    "angle": lambda x: torch.atan2(x, x.flip(1)),
    "angle of a constant": lambda x: torch.atan2(W[:3], x + 3) + torch.atan2(x, torch.tensor(-2.0)),
    "hypotenuse": lambda x: torch.hypot(x, x.flip(0)),
    "counts": lambda x: x.relu().count_nonzero(1) + x.nansum(1) + torch.nan_to_num(x).sum(),
    "differences": lambda x: x.diff(dim=1) + torch.trapz(x, dim=1).sum(),
    "cosine": lambda x: F.cosine_similarity(x, W[:3], 1),
    "addr": lambda x: torch.addr(x, x[:, 0], x[0]),
    "cross entropy": lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2])),
    "squared error": lambda x: F.mse_loss(x, W[:3]) + F.l1_loss(x, W[:3]),
    "robust errors": lambda x: F.smooth_l1_loss(x, W[:3]) + F.huber_loss(x, W[:3]),
    "binary cross entropy": lambda x: F.binary_cross_entropy_with_logits(x, W[:3].sigmoid()),
    "divergence": lambda x: F.kl_div(x.log_softmax(1), W[:3].softmax(1), reduction="sum"),
    "remainder of two": lambda x: torch.remainder(x, x.flip(0) + 60),
    "finite": lambda x: torch.isfinite(x).float() + torch.isnan(x).float() + x,
    "nan is replaced": lambda x: torch.where(torch.isnan(x), 0.0, x),
    "softmin": lambda x: F.softmin(x, 1),
    "masked softmax": lambda x: torch.softmax((x @ x.mT).masked_fill(HIDDEN, -math.inf), -1) @ x,
    "softmax plus mask": lambda x: torch.softmax(x + torch.where(W[:3] > 0.9, -math.inf, 0.0), 1) @ W,
    "causal attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "rms norm": lambda x: F.rms_norm(x, (4,), W[0], 1e-5),
    "norm by hand": lambda x: (x - x.mean(-1, True)) / torch.sqrt(((x - x.mean(-1, True)) ** 2).mean(-1, True) + 1e-5),
}
SPATIAL: dict[str, Function] = {
    "lp pool": lambda x: F.lp_pool2d(x, 2, 2),
    "fold": lambda x: F.fold(x.reshape(1, 8, 9), (6, 6), 2, stride=2, padding=0),
    "local response": lambda x: F.local_response_norm(x, 2),
    "grid sample": lambda x: F.grid_sample(x, constant(1, 4, 4, 2), align_corners=False),
    "adaptive max 1d": lambda x: F.adaptive_max_pool1d(x[0], 4),
    "adaptive max 3d": lambda x: F.adaptive_max_pool3d(x[None], 2),
    "adaptive average 3d": lambda x: F.adaptive_avg_pool3d(x[None], 2),
    "transposed groups": lambda x: F.conv_transpose2d(x, constant(2, 1, 3, 3), groups=2, stride=2, dilation=2),
    "transposed wide": lambda x: F.conv_transpose2d(x, constant(2, 2, 1, 1), stride=3),
    "conv 1d groups": lambda x: F.conv1d(x.reshape(1, 6, 12), constant(4, 3, 3), groups=2, padding=1, dilation=2),
    "conv same": lambda x: F.conv2d(x, constant(2, 2, 3, 3), padding="same"),
    "conv 3d groups": lambda x: F.conv3d(x[None].transpose(1, 2), constant(4, 1, 1, 3, 3), groups=2),
    "max pool ceil 3d": lambda x: F.max_pool3d(x[None], (1, 2, 4), (1, 2, 4), ceil_mode=True),
    "max pool uneven": lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 1)),
    "max pool 1d dilated": lambda x: F.max_pool1d(x[0], 2, 1, 1, 2),
    "average padded 3d": lambda x: F.avg_pool3d(x[None], (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    "average ceil 1d": lambda x: F.avg_pool1d(x[0], 4, 3, ceil_mode=True),
    "batch statistics": lambda x: F.batch_norm(x, None, None, training=True),
    "instance norm": lambda x: F.instance_norm(x, weight=constant(2), bias=constant(2)),
    "area": lambda x: F.interpolate(x, (3, 4), mode="area"),
    "nearest 1d": lambda x: F.interpolate(x[0], 9),
    "nearest 3d": lambda x: F.interpolate(x[None], (3, 7, 7)),
    "bicubic aligned": lambda x: F.interpolate(x, (9, 7), mode="bicubic", align_corners=True),
    "antialiased": lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True),
    "reflect 1d": lambda x: F.pad(x[0], (1, 2), mode="reflect"),
    "replicate 3d": lambda x: F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate"),
    "circular 1d": lambda x: F.pad(x[0], (1, 2), mode="circular"),
    "cropped": lambda x: F.pad(x, (-1, 2, 0, -1)),
    "channel shuffle": lambda x: F.channel_shuffle(torch.cat([x, x], 1), 2),
    "space to depth": lambda x: x.reshape(1, 2, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 8, 3, 3),
}


class Attention(nn.Module):
    """Cross attention of a value with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x)[0]


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerDecoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, tgt_mask=nn.Transformer.generate_square_subsequent_mask(3))


MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "rnn": (seeded(lambda: nn.RNN(3, 4, nonlinearity="relu")), (2, 1, 3)),
    "lstm cell": (seeded(lambda: nn.LSTMCell(3, 4)), (2, 3)),
    "gru cell": (seeded(lambda: nn.GRUCell(3, 4)), (2, 3)),
    "rnn cell": (seeded(lambda: nn.RNNCell(3, 4)), (2, 3)),
    "lstm with projection": (seeded(lambda: nn.LSTM(3, 4, proj_size=2)), (2, 1, 3)),
    "both ways, two layers": (seeded(lambda: nn.LSTM(3, 4, bidirectional=True, num_layers=2)), (2, 1, 3)),
    "attention": (seeded(Attention), (1, 3, 4)),
    "decoder": (seeded(Decoder), (1, 3, 4)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    check_function(name, FUNCTIONS[name], (3, 4))


@pytest.mark.parametrize("name", SPATIAL)
def test_spatial_functions(name: str) -> None:
    check_function(name, SPATIAL[name], (1, 2, 6, 6))


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    module, shape = MODULES[name]
    check_function(name, module, shape)


@pytest.mark.parametrize("name", ["rms norm", "norm by hand"])
def test_normalisations_are_recognised(name: str) -> None:
    kinds = {type(n.operator) for n in lower(record(FUNCTIONS[name], [constant(3, 4)]), RULES).nodes}
    assert Standardise in kinds and Multiply not in kinds


@pytest.mark.parametrize("width", [2, 3])
def test_the_place_of_the_largest_is_taken_before_softmax(width: int) -> None:
    def function(x: Tensor) -> Tensor:
        return torch.softmax(x[:, :width], 1).argmax(1).float()

    check_function("argmax of softmax", function, (3, 4))
    kinds = {type(n.operator) for n in lower(record(function, [constant(3, 4)]), RULES).nodes}
    assert not kinds & {Softmax, Sigmoid}
