"""Ways to multiply with the transpose of a convolution that are faster in places: the same numbers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from random_networks import generator, normal

from lirpa_verify.operators.convolution import MANY_CHANNELS, Convolution
from lirpa_verify.operators.unravelled import unravelled

CASES = [  # channels, kernel, stride, padding, dilation, space
    ((32, 33), (3, 3), (1, 1), (0, 0), (1, 1), (5, 5)),
    ((40, 32), (3, 2), (2, 1), (1, 1), (1, 2), (6, 4)),
    ((32, 32), (2, 2), (3, 2), (0, 1), (2, 1), (8, 7)),
    ((3, 2), (3, 3), (1, 1), (1, 1), (1, 1), (5, 6)),
]


def convolution(case: int) -> Convolution:
    channels, kernel, stride, padding, dilation, space = CASES[case]
    weight = normal(generator(case), *channels, *kernel)
    shape = (1, channels[1], *space)
    return Convolution(weight, normal(generator(9), channels[0]), stride, padding, dilation, False, (0, 0), 1, shape)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_tap_by_tap_is_the_transpose(case: int) -> None:
    operator = convolution(case)
    g = generator(1)
    x = normal(g, 4, *operator.argument_shape)
    rows = normal(g, 4, 6, *operator.linear(x).shape[1:])
    assert operator.tap_by_tap(rows.flatten(0, 2)) is (min(CASES[case][0]) >= MANY_CHANNELS)
    pushed = operator.transpose_by_taps(rows.flatten(0, 2)).unflatten(0, (4, 6, 1))
    assert torch.allclose(
        (rows * operator.linear(x).unsqueeze(1)).sum((2, 3, 4, 5)), (pushed * x.unsqueeze(1)).sum((2, 3, 4, 5))
    )


@pytest.mark.parametrize("case", range(len(CASES)))
def test_rows_of_single_entries(case: int) -> None:
    operator = convolution(case)
    g = generator(2)
    x = normal(g, 3, *operator.argument_shape)
    result = operator.linear(x).flatten(1)
    entries = torch.randperm(result.shape[1], generator=g)[:25]
    rows = operator.rows_of(entries)
    assert rows.shape == (1, 25, *operator.argument_shape)
    assert torch.allclose((rows * x.unsqueeze(1)).sum((2, 3, 4, 5)), result[:, entries])


@pytest.mark.parametrize(
    ("transposed", "groups", "weight", "space"),
    [(True, 1, (5, 4, 2, 3), (3, 4)), (False, 6, (6, 1, 2, 3), (7, 11)), (False, 6, (6, 1, 2, 2), (4, 6))],
)
def test_patches_side_by_side(transposed: bool, groups: int, weight: tuple[int, ...], space: tuple[int, int]) -> None:
    g = generator(3)
    kernel, shape = normal(g, *weight), (1, groups if groups > 1 else weight[0], *space)
    operator = Convolution(kernel, None, weight[2:], (0, 0), (1, 1), transposed, (0, 0), groups, shape)
    x = normal(g, 4, *shape)
    result = operator.linear(x)
    rows = normal(g, 4, 3, *result.shape[1:])
    (pushed,) = operator.transpose(rows)
    assert operator.patches_apart and pushed.shape == (4, 3, *shape)
    assert torch.allclose((rows * result.unsqueeze(1)).sum((2, 3, 4, 5)), (pushed * x.unsqueeze(1)).sum((2, 3, 4, 5)))
    (slow,) = operator.transpose(rows.clone().requires_grad_())  # torch's way
    assert torch.allclose(pushed, slow)


def test_taps_are_left_to_torch_where_gradients_are_wanted() -> None:
    operator = convolution(0)
    rows = normal(generator(0), 2, 3, 1, 32, 3, 3).requires_grad_()
    assert not operator.tap_by_tap(rows.flatten(0, 2))
    (gradient,) = torch.autograd.grad(operator.transpose(rows)[0].sum(), rows)
    assert bool((gradient != 0).any())


def test_places_of_entries_are_those_of_torch() -> None:
    shape = (2, 5, 1, 7)
    numbers = torch.randperm(70, generator=generator(3)).reshape(7, 10)
    for place, expected in zip(unravelled(numbers, shape), torch.unravel_index(numbers, shape), strict=True):
        assert torch.equal(place, expected)


def test_rows_of_single_entries_need_no_computer_algebra() -> None:
    code = (
        "import sys, torch\n"
        "from lirpa_verify.operators.convolution import Convolution\n"
        "c = Convolution(torch.ones(2, 3, 3, 3), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (1, 3, 5, 5))\n"
        "c.rows_of(torch.arange(4))\n"
        "sys.exit('sympy' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
