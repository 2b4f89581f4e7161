"""From torch functions to graphs: the same values, and bounds of every method that enclose them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.load.record import record
from lirpa_verify.load.replay import replay
from lirpa_verify.operators.base import Interval

Function = Callable[[Tensor], Tensor]


def constant(*shape: int, seed: int = 0) -> Tensor:
    """Something irregular that is no random call, which a recording would refuse."""
    return torch.sin(torch.arange(math.prod(shape)) * 1.7 + 0.4 + seed).reshape(shape)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


W = constant(4, 4)
TABLE = constant(3, 5)
IMAGE = (1, 2, 6, 6)
ELEMENTWISE: dict[str, Function] = {
    "relu": torch.relu,
    "relu of the negative": lambda x: torch.relu(x) - 0.3 * torch.relu(-x),
    "relu6": F.relu6,
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "leaky above 1": lambda x: F.leaky_relu(x, 1.5),
    "sigmoid": torch.sigmoid,
    "leaky below 0": lambda x: F.leaky_relu(x, -0.5),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 2.0, -1.0, 0.5])),
    "tanh": torch.tanh,
    "atan": torch.atan,
    "asin": lambda x: torch.asin(x / 9),
    "acos": lambda x: torch.acos(x / 9),
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "acosh": lambda x: torch.acosh(x * x + 1.1),
    "atanh": lambda x: torch.atanh(x / 9),
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": lambda x: torch.tan(x / 6),
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": lambda x: torch.log(x + 9),
    "sqrt": lambda x: (x + 9).sqrt(),
    "log1p": lambda x: torch.log1p(x.abs()),
    "log2": lambda x: torch.log2(x + 9),
    "rsqrt": lambda x: torch.rsqrt(x * x + 1),
    "over a root": lambda x: x / torch.sqrt(x * x + 1),
    "reciprocal": lambda x: torch.reciprocal(x + 9),
    "over": lambda x: 2 / (x - 9),
    "square": lambda x: x * x,
    "cube": lambda x: x**3,
    "power": lambda x: (x + 9) ** 1.5,
    "power -2": lambda x: (x + 9) ** -2,
    "power 1": lambda x: x**1.0,
    "power of": lambda x: 2.0**x,
    "abs": torch.abs,
    "varying power": lambda x: (x + 9) ** (x / 9),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "silu": F.silu,
    "mish": F.mish,
    "silu by hand": lambda x: 3 * x * torch.sigmoid(1.7 * x),
    "mish by hand": lambda x: x * torch.tanh(F.softplus(x)),
    "hardswish": F.hardswish,
    "hardswish by hand": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
    "hardsigmoid": F.hardsigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "softplus 2": lambda x: F.softplus(x, beta=2),
    "softsign": F.softsign,
    "hardtanh": F.hardtanh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "clamp": lambda x: x.clamp(-0.5, 1),
    "threshold": lambda x: F.threshold(x, 0.5, -1.0),
    "clamp below": lambda x: x.clamp(min=-0.3),
    "hardshrink": F.hardshrink,
    "clamp above": lambda x: x.clamp(max=0.3),
    "clamp by tensors": lambda x: torch.clamp(x, W[0] - 1, W[0] + 1),
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": torch.trunc,
    "sign": torch.sign,
    "round 1": lambda x: torch.round(x, decimals=1),
    "frac": lambda x: x - torch.floor(x),
    "remainder": lambda x: x % 1.5,
    "fmod": lambda x: torch.fmod(x, 1.5),
    "floor divide": lambda x: torch.div(x, 0.7, rounding_mode="floor"),
    "cast": lambda x: x.to(torch.int64).to(torch.float32),
    "cast to bool": lambda x: (x > 0).to(torch.float32) * x,
    "maximum": lambda x: torch.maximum(x, x.flip(-1)),
    "minimum with constant": lambda x: torch.minimum(x, W[1]),
    "where": lambda x: torch.where(x > 0.2, x, 0.1 * x - 1),
    "where constant": lambda x: torch.where(W[2] > 0, x, -x),
    "threshold by where": lambda x: torch.where(x > 0.4, x, torch.zeros_like(x)),
    "masked": lambda x: x.masked_fill(W[0] > 0, 2.0),
    "logic": lambda x: ((x > 0) & (x < 1) | ~(x < 2)).float() + torch.logical_xor(x > 0, x > 1),
    "equal": lambda x: (x == x).float(),
    "not equal": lambda x: (x.round() != 1).float(),
    "product": lambda x: x * x.flip(-1),
    "quotient": lambda x: x / (x.flip(-1) + 9),
    "broadcast product": lambda x: x * x[..., :1],
    "scalar times": lambda x: x * x.sum(),
    "scalar relu": lambda x: torch.relu(x.sum()) + x,
    "add and subtract": lambda x: 1 - (x - 2 * x.flip(-1)) * 3,
    "rsub": lambda x: torch.rsub(x, 1.0, alpha=2.0),
}
VECTOR: dict[str, Function] = {
    "softmax": lambda x: torch.softmax(x, -1),
    "softmax 0": lambda x: torch.softmax(x, 0),
    "logsoftmax": lambda x: F.log_softmax(x, 1),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "amax": lambda x: x.amax(0),
    "amin": lambda x: x.amin(1, keepdim=True),
    "max all": lambda x: x.max(),
    "max dim": lambda x: x.max(1).values,
    "min dim": lambda x: x.min(0, keepdim=True).values,
    "argmax": lambda x: x.argmax(1).float(),
    "argmin all": lambda x: x.argmin().float(),
    "sort": lambda x: x.sort(-1).values,
    "max index": lambda x: x.max(1).indices.float(),
    "topk": lambda x: x.topk(2, -1).values,
    "topk 1": lambda x: x.topk(1, 0).values,
    "prod": lambda x: x.prod(1),
    "prod all": lambda x: x[:2, :2].prod(),
    "norm 1": lambda x: x.norm(1, dim=1),
    "norm 2": lambda x: torch.linalg.vector_norm(x, 2, dim=0),
    "norm inf": lambda x: torch.linalg.vector_norm(x, math.inf),
    "norm 3": lambda x: torch.linalg.vector_norm(x, 3, dim=1),
    "mean": lambda x: x.mean(1),
    "sum": lambda x: x.sum((0, 1)),
    "cumsum": lambda x: x.cumsum(0),
    "var": lambda x: x.var(1),
    "std": lambda x: x.std(0, unbiased=False),
    "layer norm": lambda x: F.layer_norm(x, (4,), W[0], W[1]),
    "rms": lambda x: x * torch.rsqrt((x * x).mean(1, True) + 1e-5),
    "matmul": lambda x: x @ x.mT,
    "matmul constant": lambda x: W[:3, :3] @ x @ W,
    "attention": lambda x: torch.softmax(x @ x.mT / 2, -1) @ x,
    "vector": lambda x: x @ x[0],
    "dot": lambda x: x[0] @ x[1],
    "outer": lambda x: x[0].outer(x[1]),
    "scaled attention": lambda x: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
    "einsum": lambda x: torch.einsum("ij,jk,lk->il", x, W, x),
    "linear": lambda x: F.linear(x, W, W[0]),
    "normalize": lambda x: F.normalize(x + 3, dim=1),
    "any": lambda x: (x > 0).any(1).float(),
    "all": lambda x: (x > -1).all().float(),
    "gather": lambda x: x.gather(1, torch.tensor([[0, 1], [2, 2], [3, 0]])),
    "index": lambda x: x[:, [0, 2, 2]],
    "index select": lambda x: x.index_select(0, torch.tensor([2, 0])),
    "look up": lambda x: TABLE.index_select(0, x.argmax(0) % 3),
    "look up 1": lambda x: TABLE.index_select(1, x.argmax(0)),
    "scatter": lambda x: torch.zeros(3, 5).scatter(1, torch.tensor([[0], [1], [4]]), x[:, :1]),
    "varying scatter": lambda x: torch.zeros(3, 5).scatter(1, x.argmax(1, keepdim=True), torch.ones(3, 1)),
    "comparing truth": lambda x: torch.where((x > 0).float() == W[:3].round(), 2.0, W[0]) + ((x > 1).int() < 1).float(),
    "equal to truth": lambda x: ((x > 0).int() == x.flip(0).int()).float(),
    "class map": lambda x: (x[:, :2].argmax(1, keepdim=True) == torch.arange(2)).int().float(),
    "softmax of two": lambda x: torch.softmax(x[:, :2], 1),
    "argmax of two": lambda x: x[:, :2].argmax(1).float() + x[1:3, :3].min(0).indices,
    "order": lambda x: (x < x.flip(0)).float() + (x >= W[0]).float() + torch.lt(x, 1.0).float(),
    "order of integers": lambda x: (x.floor() <= x.flip(0).floor()).float(),
    "scatter of constants": lambda x: torch.zeros(6, 1).scatter(0, x.argmax(1, keepdim=True), W[:3, :1]),
    "write": lambda x: torch.slice_scatter(x, x[:, :2] * 2, 1, 2, 4),
    "select write": lambda x: torch.select_scatter(x, W[0], 0, 1),
    "put": lambda x: x.index_put((torch.tensor([0, 2]),), W[:2]),
    "stack": lambda x: torch.stack([x, -x, W[:3]], 1),
    "cat": lambda x: torch.cat([x, W, x.relu()]),
    "tile": lambda x: x.tile(2, 2),
    "repeat": lambda x: x.repeat_interleave(2, 1),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 1),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=3.0),
    "triu": lambda x: x.triu(),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "split": lambda x: x.split([1, 3], 1)[1],
    "chunk": lambda x: x.chunk(2, 1)[0],
    "unbind": lambda x: x.unbind(0)[1] * 2,
    "expand": lambda x: x[:, :1].expand(3, 4) + x,
    "one hot": lambda x: (x.argmax(1, keepdim=True) == torch.arange(4)).float(),
    "diagonal": lambda x: x.diagonal(),
    "movedim": lambda x: x.movedim(0, 1),
    "scalar": lambda x: x.sum().sigmoid() * x.max(),
}
SPATIAL: dict[str, Function] = {
    "conv": lambda x: F.conv2d(x, constant(3, 2, 3, 3), constant(3), 2, 1),
    "conv dilated": lambda x: F.conv2d(x, constant(2, 2, 2, 2), dilation=2),
    "conv groups": lambda x: F.conv2d(x, constant(4, 1, 3, 3), groups=2),
    "conv 1d": lambda x: F.conv1d(x[0], constant(3, 6, 2)),
    "transposed": lambda x: F.conv_transpose2d(x, constant(2, 3, 3, 3), constant(3), 2, 1, 1),
    "transposed 1d": lambda x: F.conv_transpose1d(x[0], constant(6, 2, 3), stride=2),
    "transposed 3d": lambda x: F.conv_transpose3d(x[None], constant(1, 1, 2, 2, 2)),
    "conv 3d": lambda x: F.conv3d(x[None], constant(2, 1, 2, 3, 3)),
    "max pool": lambda x: F.max_pool2d(x, 2),
    "max pool padded": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 2),
    "max pool ceil": lambda x: F.max_pool2d(x, 4, 4, ceil_mode=True),
    "max pool 1d": lambda x: F.max_pool1d(x[0], 2),
    "max pool 3d": lambda x: F.max_pool3d(x, 2),
    "adaptive max": lambda x: F.adaptive_max_pool2d(x, 4),
    "average": lambda x: F.avg_pool2d(x, 2),
    "average padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average without padding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average ceil": lambda x: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True),
    "average ceil without padding": lambda x: F.avg_pool2d(x, 4, 3, 1, True, False),
    "average divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "average 1d": lambda x: F.avg_pool1d(x[0], 3, 1, 1),
    "average 3d": lambda x: F.avg_pool3d(x, 2),
    "adaptive average": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "global average": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive average 1d": lambda x: F.adaptive_avg_pool1d(x[0], 4),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest exact": lambda x: F.interpolate(x, (9, 4), mode="nearest-exact"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    "bilinear aligned": lambda x: F.interpolate(x, (4, 9), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, (9, 7), mode="bicubic"),
    "linear": lambda x: F.interpolate(x[0], 9, mode="linear"),
    "trilinear": lambda x: F.interpolate(x[None], (3, 7, 7), mode="trilinear"),
    "reflect": lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect"),
    "replicate": lambda x: F.pad(x, (1, 2, 1, 0), mode="replicate"),
    "circular": lambda x: F.pad(x, (1, 2, 1, 0), mode="circular"),
    "batch norm": lambda x: F.batch_norm(
        x, constant(2), constant(2).abs() + 1, constant(2, seed=1), constant(2, seed=2)
    ),
    "instance norm": lambda x: F.instance_norm(x),
    "group norm": lambda x: F.group_norm(x, 2, constant(2), constant(2, seed=1)),
    "pixel shuffle": lambda x: F.pixel_shuffle(torch.cat([x, x], 1), 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "unfold": lambda x: F.unfold(x, 2),
    "softmax over channels": lambda x: torch.softmax(x, 1),
}
MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "lstm": (seeded(lambda: nn.LSTM(3, 4, batch_first=True)), (1, 3, 3)),
    "gru": (seeded(lambda: nn.GRU(3, 4, batch_first=True)), (1, 3, 3)),
    "encoder": (seeded(lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), (1, 3, 4)),
    "mlp": (seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))), (2, 4)),
}
CASES: list[tuple[str, Function, tuple[int, ...]]] = [
    *((f"elementwise {k}", f, (3, 4)) for k, f in ELEMENTWISE.items()),
    *((f"vector {k}", f, (3, 4)) for k, f in VECTOR.items()),
    *((f"spatial {k}", f, IMAGE) for k, f in SPATIAL.items()),
    *((f"module {k}", m, shape) for k, (m, shape) in MODULES.items()),
]


def methods(graph: Graph, box: Interval) -> dict[str, Interval]:
    """Bounds of the outputs by every method."""
    found = {}
    rows = torch.eye(graph.n_outputs, dtype=box.lower.dtype).unsqueeze(0)
    rows = torch.cat([rows, -rows], 1)
    for method in ("ibp", "forward", "crown"):
        values = bound_nodes(graph, box, method)  # type: ignore[arg-type]
        found[method] = values[-1]
        bound = backward(graph, {graph.output: rows}, dict(enumerate(values))).lower(box)
        found[f"{method} and backward"] = Interval(bound[:, : graph.n_outputs], -bound[:, graph.n_outputs :])
    return found


@pytest.mark.parametrize("name, function, shape", CASES, ids=[c[0] for c in CASES])
def test_values_and_bounds(name: str, function: Function, shape: tuple[int, ...]) -> None:
    recording = record(function, [constant(*shape)])
    graph = simplify(lower(recording, RULES))
    generator = torch.Generator().manual_seed(1)
    n = math.prod(shape)
    centre = torch.randn(3, n, generator=generator, dtype=torch.float64)
    radius = torch.tensor([[0.01], [0.3], [1.2]], dtype=torch.float64)
    box = Interval(centre - radius, centre + radius)
    share = torch.rand(3, 30, n, generator=generator, dtype=torch.float64)
    share[:, :10] = share[:, :10].round()
    points = box.lower.unsqueeze(1) + share * (2 * radius).unsqueeze(1)
    values = graph.forward(points.flatten(0, 1)).unflatten(0, (3, 30))
    for k in range(3):
        outputs = replay(recording, [points[k, 15].reshape(shape)], torch.float64)
        expected = torch.cat([output.reshape(-1).double() for output in outputs])
        assert torch.allclose(values[k, 15], expected, 1e-10, 1e-10), name
    for method, found in methods(graph, box).items():
        low, high = (end.unsqueeze(1) for end in found)
        slack = 1e-8 * (1 + values.abs())
        assert not (torch.isnan(low).any() or torch.isnan(high).any()), f"{name}: {method}"
        assert bool(((values >= low - slack) & (values <= high + slack)).all()), f"{name}: {method}"


def test_a_result_that_no_rule_makes_is_reported() -> None:
    """The places that max pooling returns are not bounded: whoever uses them is told which node that is."""
    with pytest.raises(UnsupportedOperator, match="max_pool2d_with_indices.*result number 2"):
        lower(record(lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float(), [constant(1, 4, 4)]), RULES)
