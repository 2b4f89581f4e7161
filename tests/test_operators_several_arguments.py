"""Operators of several arguments or of groups of entries: every rule encloses the sampled values."""

from __future__ import annotations

import math

import pytest
import torch
from operator_checks import check_operator, random_intervals
from torch import Tensor

from lirpa_verify.operators.arctangent2 import Arctangent2
from lirpa_verify.operators.arithmetic import Combine, Scale
from lirpa_verify.operators.base import Interval, Operator
from lirpa_verify.operators.convolution import Convolution
from lirpa_verify.operators.dense import Dense
from lirpa_verify.operators.discrete import ArgMax, Compare, Lookup, Truncate
from lirpa_verify.operators.divide import Divide
from lirpa_verify.operators.log_sum_exp import LogSumExp
from lirpa_verify.operators.matmul import MatMul
from lirpa_verify.operators.maximum import Maximum
from lirpa_verify.operators.multiply import Multiply
from lirpa_verify.operators.rearrange import Concat, Expand, Gather, Permute, Reshape, Sum
from lirpa_verify.operators.softmax import Softmax
from lirpa_verify.operators.sort import Sort, SortedPlaces
from lirpa_verify.operators.take import Take
from lirpa_verify.operators.where import Where

CASES: list[tuple[Operator, list[tuple[int, ...]]]] = [
    (Multiply(), [(4,), (4,)]),
    (Multiply(), [(2, 3), (2, 3)]),
    (Divide(), [(4,), (4,)]),
    (Divide(), [(2, 3), (2, 3)]),
    (Arctangent2(), [(4,), (4,)]),
    (Arctangent2(), [(2, 3), (2, 3)]),
    (MatMul(), [(2, 3), (3, 2)]),
    (MatMul(), [(2, 2, 3), (2, 3, 4)]),
    (Softmax(), [(5,)]),
    (Softmax(), [(2, 3)]),
    (Softmax(), [(1,)]),
    (Softmax(), [(2, 2, 2)]),
    (LogSumExp(), [(2, 4)]),
    (LogSumExp(), [(2, 1)]),
    (Maximum(), [(3, 4)]),
    (Maximum(), [(2, 2, 2)]),
    (Maximum(), [(3, 1)]),
    (Compare("lt"), [(4,), (4,)]),
    (Compare("le"), [(4,), (4,)]),
    (Truncate(), [(6,)]),
    (ArgMax(), [(2, 4)]),
    (Sort(True), [(2, 4)]),
    (Sort(False), [(5,)]),
    (SortedPlaces(True), [(2, 4)]),
    (SortedPlaces(False), [(5,)]),
    (Scale(torch.randn(3, generator=torch.Generator().manual_seed(0)).double(), torch.ones(3).double()), [(2, 3)]),
    (Combine((1.0, -2.0, 0.5)), [(3,), (3,), (3,)]),
    (Dense(torch.linspace(-2, 3, 12).reshape(4, 3).double()), [(2, 4)]),
    (Reshape((2, 3), (6,)), [(2, 3)]),
    (Permute((2, 0, 1)), [(2, 3, 4)]),
    (Expand((1, 3), (2, 2, 3)), [(1, 3)]),
    (Gather(torch.tensor([3, -1, 0, 0]), (2, 2), (2, 2)), [(2, 2)]),
    (Concat(1, (2, 1)), [(2, 2), (2, 1)]),
    (Sum((2, 3), (1,), False), [(2, 3)]),
    (Sum((2, 3), (0, 1), False), [(2, 3)]),
    (
        Convolution(
            torch.linspace(-1, 2, 36).reshape(2, 2, 3, 3).double(),
            torch.ones(2).double(),
            (2, 1),
            (1, 0),
            (1, 1),
            False,
            (0, 0),
            1,
            (1, 2, 4, 4),
        ),
        [(1, 2, 4, 4)],
    ),
]
NAMES = [f"{i}-{type(o).__name__}" for i, (o, _) in enumerate(CASES)]


def intervals_of(shapes: list[tuple[int, ...]], seed: int, batch: int, scale: float) -> tuple[Interval, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(random_intervals(generator, batch, shape, scale) for shape in shapes)


@pytest.mark.parametrize("scale", [0.3, 2.0, 20.0])
@pytest.mark.parametrize("operator, shapes", CASES, ids=NAMES)
def test_encloses(operator: Operator, shapes: list[tuple[int, ...]], scale: float) -> None:
    check_operator(operator, intervals_of(shapes, 1, 150, scale), seed=2)


@pytest.mark.parametrize("operator, shapes", CASES, ids=NAMES)
def test_encloses_in_single_precision(operator: Operator, shapes: list[tuple[int, ...]]) -> None:
    check_operator(operator, intervals_of(shapes, 3, 80, 2.0), 4, torch.float32)


def test_choice_by_a_condition() -> None:
    generator = torch.Generator().manual_seed(5)
    bit = torch.randint(0, 2, (2, 100, 6), generator=generator).double()
    condition = Interval(torch.minimum(*bit), torch.maximum(*bit))
    a, b = (random_intervals(generator, 100, (6,)) for _ in range(2))
    operator = Where()
    for _ in range(20):
        c, x, y = (
            i.lower + torch.rand(i.lower.shape, generator=generator) * (i.upper - i.lower) for i in (condition, a, b)
        )
        value = operator.forward(c.round(), x, y)
        found = operator.interval(condition, a, b)
        assert bool(((found.lower <= value) & (value <= found.upper)).all())
        rows = torch.randn(100, 4, 6, generator=generator, dtype=torch.float64)
        result = operator.backward(rows, (condition, a, b), None)
        parts = zip(result.coefficients, (c, x, y), strict=True)
        bound = result.offset + sum((k * v.unsqueeze(1)).sum(2) for k, v in parts if k is not None)
        assert bool((bound <= (rows * value.unsqueeze(1)).sum(2) + 1e-10).all())


def test_equality_is_decided_by_points_only() -> None:
    x = Interval(torch.tensor([[1.0, 1.0, 0.0, 2.0]]), torch.tensor([[1.0, 2.0, 0.5, 2.0]]))
    y = Interval(torch.tensor([[1.0, 1.0, 1.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
    found = Compare("eq").interval(x, y)
    assert found.lower.tolist() == [[1, 0, 0, 0]] and found.upper.tolist() == [[1, 1, 0, 1]]


def test_look_up_covers_all_rows_in_reach() -> None:
    table = torch.tensor([[3.0, 0.0], [-1.0, 1.0], [7.0, 2.0]]).double()
    found = Lookup(table).interval(Interval(torch.tensor([[0.0, 2.0]]).double(), torch.tensor([[1.0, 2.0]]).double()))
    assert found.lower.tolist() == [[[-1, 0], [7, 2]]] and found.upper.tolist() == [[[3, 1], [7, 2]]]


def test_places_outside_bound_nothing() -> None:
    """There a model fails, or takes something else: nothing is known of it."""
    place = Interval(torch.tensor([[-1.0, 0.0, 1.0]]).double(), torch.tensor([[0.0, 1.0, 2.0]]).double())
    x = Interval(torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[3.5, 5.0]]).double())
    for found in (Lookup(x.lower.T).interval(place), Take().interval(place, x)):
        assert found.lower.flatten().tolist() == [-math.inf, 3, -math.inf]
        assert found.upper.flatten()[[0, 2]].tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("operator, shapes", CASES, ids=NAMES)
def test_infinite_ends(operator: Operator, shapes: list[tuple[int, ...]]) -> None:
    """Rows that are 0 stay without effect, other rows get a bound that is a number or minus infinity."""
    intervals = intervals_of(shapes, 6, 60, 1.0)
    generator = torch.Generator().manual_seed(7)
    grown = []
    for lower, upper in intervals:
        open_ = torch.rand(lower.shape, generator=generator) < 0.2
        grown.append(Interval(torch.where(open_, -math.inf, lower), torch.where(open_.roll(1), math.inf, upper)))
    if not operator.bounded:
        return
    shape = operator.forward(*(i.lower for i in intervals)).shape
    rows = torch.randn(60, 3, *shape[1:], generator=generator, dtype=torch.float64)
    rows[:, 2] = 0
    result = operator.backward(rows, tuple(grown), operator.default_slopes(*grown))
    assert bool((result.offset[:, 2] == 0).all())
    assert not bool((result.offset == math.inf).any()) and not bool(torch.isnan(result.offset).any())
    assert not any(bool(torch.isnan(c).any()) for c in result.coefficients if c is not None)


def test_decided_maximum_is_exact() -> None:
    interval = Interval(torch.tensor([[0.0, 2.0, -1.0]]).double(), torch.tensor([[1.0, 3.0, 2.0]]).double())
    result = Maximum().backward(torch.tensor([[[1.0], [-1.0]]]).double().squeeze(2), (interval,), None)
    assert result.coefficients[0].tolist() == [[[0, 1, 0], [0, -1, 0]]] and result.offset.abs().max() == 0


def plane_at(rows: Tensor, operator: Operator, intervals: tuple[Interval, ...], points: tuple[Tensor, ...]) -> Tensor:
    result = operator.backward(rows, intervals, None)
    return result.offset + sum(
        (c * p.unsqueeze(1)).flatten(2).sum(2) for c, p in zip(result.coefficients, points, strict=True)
    )


def test_product_planes_at_the_middle() -> None:
    """Both planes pass through the middle value less (plus) a quarter of the product of the widths."""
    x, y = (Interval(torch.tensor([[a]]).double(), torch.tensor([[b]]).double()) for a, b in ((-1.0, 3.0), (2.0, 5.0)))
    middle = tuple((i.lower + i.upper) / 2 for i in (x, y))
    value = plane_at(torch.tensor([[[1.0], [-1.0]]]).double(), Multiply(), (x, y), middle)
    assert torch.allclose(value, torch.tensor([[3.5 - 3.0, -3.5 - 3.0]]).double())


@pytest.mark.parametrize("seed", range(3))
def test_softmax_planes_are_close_on_small_boxes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    for radius in (1e-2, 1e-3):
        box = Interval(x - radius, x + radius)
        rows = torch.randn(1, 4, 6, generator=generator, dtype=torch.float64)
        gap = (rows * torch.softmax(x, 1).unsqueeze(1)).sum(2) - plane_at(rows, Softmax(), (box,), (x,))
        assert bool((gap >= -1e-12).all()) and gap.max() < 20 * radius**2
