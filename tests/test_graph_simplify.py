"""Every rewrite of a graph, alone and with all others, leaves the function as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_networks import generator, graph_of, network, normal
from torch import Tensor, nn

from lirpa_verify.graph import simplify as module
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.simplify import RULES, rewrite_once, simplify, sparse_dense
from lirpa_verify.operators.constant import Constant
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.rearrange import Gather, Permute, Reshape
from lirpa_verify.operators.sparse_dense import SparseDense

G = generator(1)
MATRIX, VECTOR, CHANNELS = normal(G, 4, 4), normal(G, 4), normal(G, 6, 1, 1)
KERNEL, TURNED, BIAS = normal(G, 6, 1, 2, 2), normal(G, 2, 3, 2, 2), normal(G, 6)
MIXING = normal(G, 2, 6, 1, 1)
conv = nn.functional.conv2d

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "reshapes": lambda x: x.reshape(2, 8).reshape(4, 4).reshape(1, 16) * 1.0,
    "gathers": lambda x: x.flip(1)[:, 2:9].flip(0)[:, ::2].repeat(1, 3),
    "a gather that keeps the order": lambda x: x[:, torch.arange(16)].reshape(4, 4),
    "padding of padding": lambda x: nn.functional.pad(nn.functional.pad(x, (1, 0)), (0, 2))[:, 1:],
    "padding of a slice, then a slice of that": lambda x: nn.functional.pad(
        nn.functional.pad(x[:, 3:9], (0, 3)), (2, 0)
    )[:, :9],
    "only padding": lambda x: nn.functional.pad(x, (2, 2))[:, :2] + x[:, :2] * 0,
    "scales": lambda x: ((x * 2.0 + 1.0) * VECTOR.repeat(4) - 3.0) / 7.0,
    "a scale used twice": lambda x: (x * 2.0) * 3.0 + (x * 2.0).relu(),
    "dense with scale": lambda x: (x.reshape(4, 4) @ MATRIX + VECTOR) * VECTOR - 1.0,
    "dense scaled per row": lambda x: (x.reshape(4, 4) @ MATRIX) * VECTOR.reshape(4, 1) + 2.0,
    "dense with scale of leading ones": lambda x: (x.reshape(1, 4, 4) @ MATRIX) * VECTOR.reshape(1, 1, 4),
    "dense after dense": lambda x: (x.reshape(4, 4) @ MATRIX + VECTOR) @ MATRIX[:, :3] + VECTOR[:3],
    "dense after dense at once": lambda x: (x.reshape(4, 4) @ MATRIX) @ MATRIX,
    "dense after a dense of rows": lambda x: (x.reshape(4, 4) @ MATRIX + VECTOR.reshape(4, 1)) @ MATRIX,
    "dense through a narrow place": lambda x: (x @ MATRIX.reshape(16, 1)) @ MATRIX.reshape(1, 16),
    "convolution scaled per channel": lambda x: conv(x.reshape(1, 1, 4, 4), KERNEL, BIAS) * CHANNELS + CHANNELS,
    "convolution scaled per position": lambda x: conv(x.reshape(1, 1, 4, 4), KERNEL) * VECTOR[:3],
    "pointwise convolution": lambda x: conv(conv(x.reshape(1, 1, 4, 4), KERNEL, BIAS), MIXING, VECTOR[:2]),
    "grouped transposed convolution": lambda x: (
        nn.functional.conv_transpose2d(x.reshape(1, 2, 2, 4), TURNED, BIAS, groups=2) * CHANNELS - 0.5
    ),
    "permutations": lambda x: x.reshape(2, 2, 4).permute(2, 0, 1).permute(1, 0, 2) * 1.5,
    "a permutation of ones": lambda x: x.reshape(1, 16, 1).permute(2, 1, 0) + 1.0,
    "constants": lambda x: torch.relu(x * 0 + 1) + torch.cat([x, torch.ones(1, 2, dtype=x.dtype)], 1)[:, :16],
    "the input itself": lambda x: x.reshape(1, 16),
}


def agree(one: Graph, other: Graph) -> None:
    x = normal(generator(5), 30, one.n_inputs)
    assert one.nodes[-1].size == other.nodes[-1].size
    for i, node in enumerate(other.nodes):
        assert all(a < i for a in node.arguments)
    assert torch.allclose(one.forward(x), other.forward(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_rules_together(name: str) -> None:
    raw = graph_of(FUNCTIONS[name], (1, 16), simplified=False)
    expected = FUNCTIONS[name](torch.arange(16.0, dtype=torch.float64).reshape(1, 16)).flatten()
    assert torch.allclose(raw.forward(torch.arange(16.0, dtype=torch.float64).reshape(1, 16))[0], expected)
    agree(raw, simplify(raw))
    assert len(simplify(raw).nodes) <= len(raw.nodes)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_alone(rule: module.Rule) -> None:
    applied = 0
    for name in FUNCTIONS:
        raw = graph_of(FUNCTIONS[name], (1, 16), simplified=False)
        for graph in (raw, simplify(raw)):
            rewritten = rewrite_once(graph, (rule,))
            if rewritten is not None:
                agree(graph, rewritten)
                applied += 1
    assert applied or rule.__name__ in (
        "gather_embed",
        "reshape_embed",
        "merge_embeds",
        "fold_constants",
        "pad_convolution",
    )


@pytest.mark.parametrize("kind", ["dense", "residual", "concat", "product", "conv"])
def test_random_networks(kind: str) -> None:
    for seed, activation in enumerate(("relu", "leaky", "sigmoid", "tanh", "sin", "mixed")):
        function, shape = network(kind, activation, seed)
        agree(graph_of(function, shape, simplified=False), graph_of(function, shape))


def test_neighbours_are_merged() -> None:
    kinds = [type(node.operator) for node in graph_of(FUNCTIONS["dense with scale"], (1, 16)).nodes]
    assert kinds.count(Dense) == 1 and len(kinds) <= 4
    kinds = [type(node.operator) for node in graph_of(FUNCTIONS["gathers"], (1, 16)).nodes]
    assert kinds.count(Gather) == 1
    kinds = [type(node.operator) for node in graph_of(FUNCTIONS["a permutation of ones"], (1, 16)).nodes]
    assert Permute not in kinds and kinds.count(Reshape) <= 2
    assert Constant not in [type(n.operator) for n in graph_of(FUNCTIONS["scales"], (1, 16)).nodes]


def test_sparse_matrices_equal_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARSE_SIZE", 100)
    g = generator(3)
    weight = normal(g, 40, 30) * (torch.rand(40, 30, generator=g) < 0.04)
    dense = graph_of(lambda x: torch.relu(x @ weight + 1.0), (3, 40), simplified=False)
    sparse = rewrite_once(dense, (sparse_dense,)) or dense
    assert any(isinstance(n.operator, SparseDense) for n in simplify(dense).nodes)
    agree(dense, simplify(dense))
    agree(dense, sparse)
    one, other = Dense(weight, normal(g, 30)), SparseDense.of(weight, None)
    rows, x = normal(g, 2, 5, 3, 30), normal(g, 2, 3, 40)
    assert torch.allclose(one.transpose(rows)[0], other.transpose(rows)[0])
    assert torch.allclose(one.linear(x), other.linear(x))
    assert torch.allclose(one.absolute(x), other.absolute(x))
    single = other.map_tensors(lambda t: t.float())
    assert torch.allclose(single.linear(x.float()), one.linear(x).float(), atol=1e-4)


def test_matrices_are_multiplied_where_that_is_smaller() -> None:
    def matrices(name: str) -> list[int]:
        nodes = graph_of(FUNCTIONS[name], (1, 16)).nodes
        return [n.operator.weight.numel() for n in nodes if isinstance(n.operator, Dense)]

    assert matrices("dense after dense") == [12]
    assert matrices("dense through a narrow place") == [16, 16]
