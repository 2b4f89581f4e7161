"""Recording torch modules: what comes out of replaying is what the module computes, or recording is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.load.record import record
from lirpa_verify.load.recording import Const, Recording, Ref
from lirpa_verify.load.replay import replay


def check(function: Callable[..., Any], *shapes: tuple[int, ...], samples: int = 3) -> Recording:
    """Record on one input, replay on others."""
    generator = torch.Generator().manual_seed(3)

    def draw() -> list[torch.Tensor]:
        return [torch.randn(shape, generator=generator) for shape in shapes]

    recording = record(function, draw())
    for _ in range(samples):
        inputs = draw()
        if isinstance(function, nn.Module):
            function.eval()
        with torch.no_grad():
            expected = function(*[value.clone() for value in inputs])
        expected = expected if isinstance(expected, tuple) else (expected,)
        for got, want in zip(replay(recording, inputs), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    return recording


def ops(recording: Recording) -> list[str]:
    return [call.op.split(".")[1] for call in recording.calls]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.norm(self.conv(x)) + x)
        return self.head(self.drop(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))


def test_residual_block() -> None:
    torch.manual_seed(0)
    recording = check(Block(), (2, 3, 5, 5))
    assert ops(recording) == ["convolution", "native_batch_norm", "add", "relu", "mean", "view", "addmm"]
    assert [call.label for call in recording.calls] == ["conv", "norm", "", "", "", "", "head"]


def test_modes_and_switches_are_as_before() -> None:
    module = Block().train()
    module.norm.eval()
    before = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()
    running = module.norm.running_mean.clone()
    record(module, [torch.rand(1, 3, 4, 4)])
    assert module.training and module.drop.training and not module.norm.training
    assert torch.equal(module.norm.running_mean, running)
    assert not module.conv._forward_hooks and not module.conv._forward_pre_hooks
    after = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()
    assert before == after


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_become_primitive_calls(kind: Any, bidirectional: bool) -> None:
    torch.manual_seed(1)
    network = kind(4, 3, num_layers=2, batch_first=True, bidirectional=bidirectional)
    recording = check(lambda x: network(x)[0], (2, 3, 4))
    assert {"addmm", "tanh"} <= set(ops(recording))
    assert not any("rnn" in op or "lstm" in op or "gru" in op for op in ops(recording))


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder_layer_becomes_primitive_calls(norm_first: bool) -> None:
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=norm_first)
    recording = check(layer, (2, 5, 8))
    assert {"bmm", "_softmax", "native_layer_norm", "gelu", "addmm"} <= set(ops(recording))
    assert not any("attention" in op or "encoder" in op for op in ops(recording))
    assert "self_attn" in {call.label for call in recording.calls}


def test_several_inputs_and_outputs_constants_and_inputs_among_them() -> None:
    recording = check(lambda a, b: (a + b, torch.ones(2), b), (2,), (2,))
    assert recording.outputs == (Ref(0), Const(0), Ref(-2))
    assert [spec.shape for spec in recording.output_specs] == [(2,)] * 3


def test_names_of_inputs() -> None:
    recording = record(lambda a, b: a * b, [torch.rand(1), torch.rand(1)], names=["left", "right"])
    assert [spec.name for spec in recording.inputs] == ["left", "right"]


def test_dead_calls_and_their_constants_are_dropped() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        _ = (x * torch.tensor([3.0])).exp()
        return x + torch.tensor([4.0])

    recording = check(function, (1,))
    assert ops(recording) == ["add"]
    assert [constant.tolist() for constant in recording.constants] == [[4.0]]


def test_a_constant_is_kept_once() -> None:
    weight = torch.rand(3, 3)
    recording = check(lambda x: torch.relu(x @ weight) @ weight + weight.t() + weight.t(), (3, 3))
    assert len(recording.constants) == 2
    assert recording.constants[0].data_ptr() == weight.data_ptr()


def test_what_is_computed_from_shapes_and_parameters_is_constant() -> None:
    weight = torch.rand(4, 4)

    def function(x: torch.Tensor) -> torch.Tensor:
        scale = torch.zeros_like(x) + x.shape[0] + torch.ones(x.shape).sum()
        return x * scale * weight.exp().softmax(0)[0]

    assert ops(check(function, (4,))) == ["mul", "mul"]


def test_identities_are_dropped() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x.clone().detach().contiguous().to(torch.float32).view(2, 3).expand(2, 3)[:, :].squeeze(0)

    assert ops(check(function, (2, 3))) == []


def test_casts_that_change_values_stay() -> None:
    recording = check(lambda x: (x * 3).to(torch.int64).to(torch.float32) + (x > 0), (4,))
    assert ops(recording).count("_to_copy") == 2


def test_a_reshape_of_a_permuted_value_does_not_depend_on_its_layout() -> None:
    recording = check(lambda x: x.permute(1, 0).contiguous().view(-1) * 2, (2, 3))
    assert ops(recording) == ["permute", "view", "mul"]
    assert recording.calls[1].args[1] == (6,)


def test_gradients_flow_through_a_replay() -> None:
    recording = record(lambda x: (x * x).sum(), [torch.rand(3)])
    x = torch.rand(3, requires_grad=True)
    (y,) = replay(recording, [x])
    y.backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())


def test_inputs_of_the_caller_are_not_changed() -> None:
    x = torch.zeros(3)
    recording = record(lambda value: value.add_(1) * 2, [x])
    assert torch.equal(x, torch.zeros(3))
    assert torch.equal(replay(recording, [torch.ones(3)])[0], torch.full((3,), 4.0))


def test_indexing_with_constant_masks_and_indices() -> None:
    mask, index = torch.tensor([True, False, True]), torch.tensor([2, 0])
    recording = check(lambda x: (x[mask], x[index], x[[1]]), (3,))
    assert len(recording.calls) == 3


def test_inference_mode_inside_is_recorded_in_parts() -> None:
    weight = torch.rand(4, 4)

    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.linear(x, weight).reshape(-1)

    assert ops(check(function, (2, 4)))[-1] == "view"


def test_bits_read_as_another_type_are_not_taken_for_the_same_value() -> None:
    recording = check(lambda x: x.view(torch.int32) + 1, (3,))
    assert [call.op for call in recording.calls] == ["aten.view.dtype", "aten.add.Tensor"]


REFUSED: dict[str, Callable[[torch.Tensor], Any]] = {
    "branch": lambda x: x if x.sum() > 0 else -x,
    "item": lambda x: x * x[0].item(),
    "float": lambda x: x * float(x[0]),
    "tolist": lambda x: x * x.tolist()[0],
    "numpy": lambda x: x * float(x.numpy()[0]),
    "data": lambda x: x * float(x.data.numpy()[0]),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: torch.nonzero(x),
    "unique": lambda x: torch.unique(x),
    "equal": lambda x: x if torch.equal(x, x * 1) else -x,
    "random": lambda x: x + torch.rand(3),
    "dropout": lambda x: torch.dropout(x, 0.5, True),
    "python output": lambda x: 3,
    "strides": lambda x: x.as_strided((2,), (1,)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(UnsupportedOperator):
        record(REFUSED[name], [torch.tensor([1.0, -2.0, 3.0])])


def test_a_refusal_names_the_operation_and_the_module() -> None:
    class Picky(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0]

    with pytest.raises(UnsupportedOperator) as caught:
        record(nn.Sequential(nn.ReLU(), Picky()), [torch.rand(3)])
    assert caught.value.operator == "aten.index.Tensor"
    assert caught.value.node == "1"


def test_recording_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from lirpa_verify.load.record import record; "
        "record(torch.relu, [torch.rand(2)]); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_that_is_filled_later_is_recorded_as_zeros() -> None:
    """What lay there may be NaN, and NaN times 0 is no bound."""

    def filled(x: torch.Tensor) -> torch.Tensor:
        result = x.new_empty(6)
        result.fill_(math.nan)
        result = torch.empty_like(result)
        result[:3] = x
        result[3:] = -x
        return result

    recording = record(filled, [torch.ones(3)])
    assert all(bool((constant == 0).all()) for constant in recording.constants)
    torch.testing.assert_close(replay(recording, [torch.ones(3)])[0], torch.tensor([1.0, 1, 1, -1, -1, -1]))
