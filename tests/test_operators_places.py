"""Order and places: sorted values of any rank, and reading and writing where the input says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from function_checks import Function, check_function, constant
from operator_checks import check_operator, random_intervals
from torch import Tensor

from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.sort import Sort
from lirpa_verify.operators.take import Take

W = constant(4, 4)


def best(x: Tensor) -> Tensor:
    return x.argmax(1, keepdim=True)


LEAST = torch.tensor([[0, 1, 1, 3], [0, 0, 2, 3], [2, 1, 0, 3]])
FUNCTIONS: dict[str, Function] = {
    "running product": lambda x: x.cumprod(1),
    "running largest": lambda x: x.cummax(1).values,
    "running least": lambda x: x.cummin(0).values,
    "place of the running largest": lambda x: x.cummax(0).indices.float(),
    "running log of a sum": lambda x: torch.logcumsumexp(x, 1),
    "scatter the largest": lambda x: x.scatter_reduce(1, LEAST, x.flip(0), "amax"),
    "scatter the least": lambda x: W.scatter_reduce(0, LEAST, x, "amin", include_self=False),
    "scatter a product": lambda x: x.scatter_reduce(1, LEAST, W[:3], "prod"),
    "scatter a mean": lambda x: x.scatter_reduce(0, LEAST % 3, x, "mean"),
    "scatter a mean of new values": lambda x: x.scatter_reduce(0, LEAST % 3, x, "mean", include_self=False),
    "scatter a sum": lambda x: x.scatter_reduce(1, LEAST[:2, :2], x, "sum"),
    "scatter and add": lambda x: x.scatter(0, LEAST % 3, x, reduce="add"),
    "scatter and multiply by a number": lambda x: x.scatter(0, LEAST % 3, 3.0, reduce="multiply"),
    "scatter the largest somewhere": lambda x: x.scatter_reduce(1, best(x), x[:, :1] + 1, "amax"),
    "scatter the least somewhere": lambda x: x.scatter_reduce(0, x.argmax(0, keepdim=True) % 3, x, "amin"),
    "scatter a product somewhere": lambda x: x.scatter_reduce(1, best(x)[:2], x, "prod"),
    "reduce slices": lambda x: x.index_reduce(0, torch.tensor([0, 2, 0]), W[:3] * x, "amax"),
    "buckets": lambda x: torch.bucketize(x, W[0].sort().values).float(),
    "buckets on the right": lambda x: torch.bucketize(x.round(), torch.tensor([-1.0, 0.0, 0.0, 2.0]), right=True) * 1.0,
    "search": lambda x: torch.searchsorted(W[:3].sort(1).values, x).float(),
    "look up by a bucket": lambda x: W[torch.bucketize(x[:, 0], torch.tensor([-0.5, 0.0, 0.5]))],
    "places": lambda x: x.argsort(1).float(),
    "falling places": lambda x: x.sort(1, descending=True).indices.float(),
    "top places": lambda x: x.topk(2, 1).indices.float(),
    "least places": lambda x: x.topk(3, 0, largest=False).indices.float(),
    "least values": lambda x: x.topk(3, 0, largest=False).values,
    "falling": lambda x: x.sort(0, descending=True).values,
    "median": lambda x: x.median(1).values,
    "median of all": lambda x: x.median(),
    "place of the median": lambda x: x.median(1).indices.float(),
    "k-th value": lambda x: x.kthvalue(2, 1, keepdim=True).values,
    "quantile": lambda x: torch.quantile(x, 0.3, dim=1),
    "least and largest": lambda x: torch.stack(list(torch.aminmax(x, dim=1))),
    "one-hot": lambda x: F.one_hot(x.argmax(1), 4).float(),
    "one-hot of the second": lambda x: F.one_hot(x.topk(2, 1).indices[:, 1], 4).float() @ W,
    "embedding": lambda x: F.embedding(x.argmax(1), W),
    "gather": lambda x: x.gather(1, best(x)),
    "gather from a constant": lambda x: W[:3].gather(1, best(x)),
    "gather part": lambda x: x.gather(1, best(x)[:2]),
    "gather a column": lambda x: x.gather(0, x.argmax(0, keepdim=True)),
    "index": lambda x: x[x.argmax(0) % 3],
    "index of a constant": lambda x: W[x.argmax(0) % 3],
    "two indices": lambda x: W[x.argmax(0) % 3, x.argmin(0)],
    "two indices of a value": lambda x: x[x.argmax(0) % 3, x.argmin(0) % 3],
    "later index": lambda x: x.reshape(3, 2, 2)[:, x.argmax(0) % 2],
    "index from the end": lambda x: x[x.argmax(0) - 3],
    "index select": lambda x: x.index_select(0, x.argmax(0) % 3),
    "index select of columns": lambda x: x.index_select(1, x.argmax(1)),
    "scatter": lambda x: x.scatter(1, best(x), x[:, :1]),
    "scatter in a part": lambda x: x.scatter(1, best(x)[:2], x[:2, :1]),
    "scatter a number": lambda x: x.scatter(1, best(x), 7.0),
    "scatter add": lambda x: torch.zeros(3, 5).scatter_add(1, best(x), x[:, :1]),
    "scatter add at known places": lambda x: W[:3].scatter_add(1, torch.tensor([[0, 1, 1, 3]] * 3), x),
    "scatter add of constants": lambda x: x.scatter_add(1, torch.tensor([[0, 1, 1, 3]] * 3), W[:3]),
    "index put": lambda x: x.index_put((x.argmax(0)[:2] % 3,), W[:2]),
    "index put in pairs": lambda x: x.index_put((x.argmax(0)[:2] % 3, torch.tensor([1, 2])), W[0, :2]),
    "index put added": lambda x: x.index_put((torch.tensor([0, 0]),), x[1:], accumulate=True),
    "index add": lambda x: x.index_add(0, torch.tensor([0, 2]), x[:2]),
    "index fill": lambda x: x.index_fill(1, torch.tensor([1]), 2.0),
    "index copy": lambda x: x.index_copy(0, torch.tensor([0, 2]), x[1:]),
    "take": lambda x: x.take(torch.tensor([1, 5])) + x.take_along_dim(torch.tensor([[1], [2], [0]]), 1).sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_bounds(name: str) -> None:
    check_function(name, FUNCTIONS[name], (3, 4))


def test_planes_of_every_rank_are_tighter_than_its_interval() -> None:
    """With overlapping entries the planes still follow the entries; decided ranks are exact."""
    generator = torch.Generator().manual_seed(0)
    interval = random_intervals(generator, 200, (5,), 1.0)
    operator = Sort(True)
    rows = torch.cat([torch.eye(5), -torch.eye(5)]).double().unsqueeze(0).expand(200, -1, -1)
    result = operator.backward(rows, (interval,), None)
    middle = (interval.lower + interval.upper) / 2
    bound = result.offset + (result.coefficients[0] * middle.unsqueeze(1)).sum(2)
    constants = torch.cat([operator.interval(interval).lower, -operator.interval(interval).upper], 1)
    assert bool((bound >= constants - 1e-12).all()) and bool((bound > constants + 1e-6).any())
    apart = Interval(torch.tensor([[0.0, 2.0, 4.0]]).double(), torch.tensor([[1.0, 3.0, 5.0]]).double())
    exact = operator.backward(torch.eye(3).double().unsqueeze(0), (apart,), None)
    assert exact.coefficients[0].tolist() == [torch.eye(3).flip(1).tolist()] and exact.offset.abs().max() == 0


def test_entries_taken_at_known_and_unknown_places() -> None:
    generator = torch.Generator().manual_seed(1)
    x = random_intervals(generator, 60, (2, 5))
    place = torch.randint(0, 5, (60, 2, 3), generator=generator).double()
    known = torch.rand(60, 2, 3, generator=generator) < 0.5
    reach = Interval(torch.where(known, place, (place - 1).clamp(min=0)), torch.where(known, place, place))
    operator = Take()
    points = x.lower + torch.rand(60, 2, 5, generator=generator) * (x.upper - x.lower)
    rows = torch.randn(60, 4, 2, 3, generator=generator, dtype=torch.float64)
    result = operator.backward(rows, (reach, x), None)
    for chosen in reach:
        value = operator.forward(chosen, points)
        found = operator.interval(reach, x)
        assert bool((found.lower <= value).all() and (value <= found.upper).all())
        assert result.coefficients[0] is None
        bound = result.offset + (result.coefficients[1] * points.unsqueeze(1)).flatten(2).sum(2)
        truth = (rows * value.unsqueeze(1)).flatten(2).sum(2)
        assert bool((bound <= truth + 1e-10).all())
        exact = operator.backward(rows, (Interval(chosen, chosen), x), None)
        bound = exact.offset + (exact.coefficients[1] * points.unsqueeze(1)).flatten(2).sum(2)
        assert torch.allclose(bound, truth)


@pytest.mark.parametrize("descending", [True, False])
def test_sorting_many_entries(descending: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    check_operator(Sort(descending), (random_intervals(generator, 100, (2, 9), 0.7),), seed=3)
