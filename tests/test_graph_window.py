"""Graphs cut to the field of a window: the same values there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from function_checks import Function, constant

from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.graph.simplify import simplify
from lirpa_verify.graph.window import cropped, cut, fields, of_used_inputs
from lirpa_verify.load.record import record

K = constant(3, 2, 3, 3)
NETWORKS: dict[str, Function] = {
    "plain": lambda x: F.conv2d(torch.relu(F.conv2d(x, K, constant(3), 1, 1)), constant(2, 3, 3, 3), padding=1),
    "strides": lambda x: F.conv2d(torch.tanh(F.conv2d(x, K, None, 2, 1)), constant(2, 3, 2, 2), dilation=2),
    "transposed": lambda x: F.conv_transpose2d(torch.relu(F.conv2d(x, K)), constant(3, 2, 3, 3), constant(2), 2, 1, 1),
    "gaps": lambda x: F.conv_transpose2d(F.relu(x), constant(2, 3, 1, 1), constant(3), 3),
    "residual": lambda x: F.relu(F.conv2d(x, constant(2, 2, 3, 3), padding=1)) * 2 + x,
    "two paths": lambda x: F.relu(F.conv2d(F.relu(x), constant(2, 2, 5, 5), padding=2)) + F.relu(x) * constant(9, 8),
    "joined": lambda x: F.conv2d(torch.cat([F.relu(x), F.conv2d(x, K, padding=1)], 1), constant(2, 5, 3, 3), padding=1),
    "pooled": lambda x: F.conv2d(F.max_pool2d(F.relu(x), 3, 2, 1), constant(2, 2, 2, 2)),
    "resized": lambda x: F.conv2d(F.interpolate(F.avg_pool2d(x, 2), scale_factor=2), constant(2, 2, 3, 3), padding=1),
    "mixed inside": lambda x: F.conv2d(torch.softmax(x.flatten(1), 1).reshape(x.shape).relu(), constant(1, 2, 3, 3)),
    "one dimension": lambda x: F.conv1d(F.relu(F.conv1d(x[0], constant(3, 9, 3))), constant(2, 3, 2), padding=1),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_have_the_same_values(name: str) -> None:
    graph = simplify(lower(record(NETWORKS[name], [constant(1, 2, 9, 8)]), RULES))
    x = torch.randn(3, graph.n_inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = graph.evaluate(x)
    last = max(i for i, node in enumerate(graph.nodes) if len(node.shape) > 2 or name == "one dimension")
    while len(graph.nodes[last].shape) < 3:
        last -= 1
    space, checked = graph.nodes[last].shape[2:], 0
    for start in range(min(space)):
        window = tuple((min(start, n - 2), min(min(start, n - 2) + 2 + start % 3, n)) for n in space)
        windows = fields(graph, last, window)
        assert windows is not None
        part = cut(graph, last, windows)
        found = part.graph.evaluate(x)
        for node, source, value in zip(part.graph.nodes, part.source, found, strict=True):
            assert value.shape[1:] == node.shape
            if source is not None:
                whole = values[source].expand(len(x), *graph.nodes[source].shape)
                assert torch.allclose(value, part.take(source, whole).expand_as(value), atol=1e-12)
                checked += source in windows
        assert torch.equal(part.take(last, values[last]), cropped(values[last], window, 1))
    assert checked > 2


@pytest.mark.parametrize("name", ["plain", "residual", "joined"])
def test_a_window_is_a_function_of_few_inputs(name: str) -> None:
    graph = simplify(lower(record(NETWORKS[name], [constant(1, 2, 9, 8)]), RULES))
    x = torch.randn(3, graph.n_inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = graph.evaluate(x)
    last = max(i for i, node in enumerate(graph.nodes) if len(node.shape) > 2)
    window = tuple((1, 3) for _ in graph.nodes[last].shape[2:])
    windows = fields(graph, last, window)
    assert windows is not None
    small, inputs = of_used_inputs(cut(graph, last, windows).graph)
    assert small.n_inputs == len(inputs) < graph.n_inputs
    assert torch.allclose(small.forward(x[:, inputs]), cropped(values[last], window, 1), atol=1e-12)


def test_an_input_that_is_used_otherwise_stays_whole() -> None:
    graph = simplify(lower(record(lambda x: torch.relu(x) @ constant(4, 2), [constant(1, 4)]), RULES))
    small, inputs = of_used_inputs(graph)
    assert small is graph and torch.equal(inputs, torch.arange(4))
