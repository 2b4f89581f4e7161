"""In-place operations while recording: handled as functions, or refused, and never silently wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.load.record import record
from lirpa_verify.load.replay import replay

X = (3, 4)
Function = Callable[[torch.Tensor], Any]


def in_place_arithmetic(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y += x
    y.mul_(3).relu_().clamp_(max=2.0)
    return y


def write_into_zeros(x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(2, 3, 4)
    z[0] = x
    z[1, 1:3, ::2] = x[:2, :2] * 5
    z[:, :, 3] = 7
    return z


def the_buffer_before_and_after(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    z = torch.ones(3, 4)
    before = x * z
    z += 1
    between = x * z
    z.copy_(x)
    return before, between, z


def constant_changed_without_the_input(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    z = torch.ones(4)
    first = x + z
    z[1] = 5
    second = x + z
    z.zero_()
    return first, second, x + z


def scatter(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(3, 4).scatter_(1, torch.tensor([[0, 1], [2, 3], [1, 0]]), x[:, :2])


def index_put(x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(5, 4)
    z[torch.tensor([0, 4, 2])] = x
    z.index_put_((torch.tensor([1]),), x[:1], accumulate=True)
    return z


def masked_fill(x: torch.Tensor) -> torch.Tensor:
    return (x * 1).masked_fill_(torch.tensor([True, False, False, True]), -1.0)


def overwritten_by_a_constant(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.fill_(3.0)
    return y + x


def through_a_view_of_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.t()[1].unsqueeze(0)[0, 1:].add_(10)
    y.view(-1)[0] = x[2, 3]
    y.permute(1, 0)[2] *= 2
    return y


def chunks(x: torch.Tensor) -> torch.Tensor:
    a, b = (x * 1).chunk(2, dim=1)
    a.sigmoid_()
    b.tanh_()
    return a * b


def shape_in_place(x: torch.Tensor) -> torch.Tensor:
    return (x * 2).transpose_(0, 1).unsqueeze_(0).squeeze_(0).t_().add_(x)


def write_the_input_into_itself(x: torch.Tensor) -> torch.Tensor:
    x[0] = x[1]
    x[1] = x[2]
    return x


def integer_and_cast_in_place(x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(3, 4, dtype=torch.int64)
    z.copy_(x * 10)
    y = torch.zeros(3, 4, dtype=torch.float64)
    y += x
    return y + z


def expand_on_write(x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(3, 4)
    z.copy_(x[0])
    z[:, 1] = x[0, 0]
    return z


def detached_alias(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.detach().add_(1)
    return y


def swap(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[[0, 1]] = y[[1, 0]]
    return y


CORRECT = [
    in_place_arithmetic,
    write_into_zeros,
    the_buffer_before_and_after,
    constant_changed_without_the_input,
    scatter,
    index_put,
    masked_fill,
    overwritten_by_a_constant,
    through_a_view_of_a_view,
    chunks,
    shape_in_place,
    write_the_input_into_itself,
    integer_and_cast_in_place,
    expand_on_write,
    detached_alias,
    swap,
]


@pytest.mark.parametrize("function", CORRECT)
def test_in_place_operations_are_recorded_as_functions(function: Function) -> None:
    generator = torch.Generator().manual_seed(0)
    recording = record(function, [torch.randn(X, generator=generator)])
    assert not any(call.op.split(".")[1].endswith("_") for call in recording.calls)
    for _ in range(3):
        x = torch.randn(X, generator=generator)
        expected = function(x.clone())
        expected = expected if isinstance(expected, tuple) else (expected,)
        for got, want in zip(replay(recording, [x]), expected, strict=True):
            torch.testing.assert_close(got, want)
            assert got.dtype == want.dtype


def stale_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    row = y[0]
    y.add_(1)
    return row * 2


def stale_base(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    first, _ = y.split([2, 2], dim=1)
    first.add_(1)
    return y


def stale_view_of_a_constant(x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(3, 4)
    row = z[0]
    z.copy_(x)
    return row + 1


def stale_output(x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(3, 4)
    row = z[1]
    z += x
    return row


def out_argument(x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(3, 4)
    torch.add(x, 1, out=z)
    return z


def random_in_place(x: torch.Tensor) -> torch.Tensor:
    return (x * 1).normal_()


@pytest.mark.parametrize(
    "function", [stale_view, stale_base, stale_view_of_a_constant, stale_output, out_argument, random_in_place]
)
def test_what_cannot_be_followed_is_refused(function: Function) -> None:
    with pytest.raises(UnsupportedOperator):
        record(function, [torch.rand(X)])


def test_constants_are_a_snapshot_of_the_time_of_the_call() -> None:
    z = torch.ones(4)

    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * z
        z.add_(1)
        return y

    recording = record(function, [torch.rand(4)])
    assert torch.equal(recording.constants[0], torch.ones(4))
