"""Bounds under torch.func: vmap is the loop, forward derivatives are the backward ones, calls are followed."""

from __future__ import annotations

import warnings

import pytest
import torch
from perturbation_examples import SYNONYMS, numbers
from torch import Tensor, nn

from lirpa_verify.library.bounded import Bounded
from lirpa_verify.perturbations.ball import ball
from lirpa_verify.perturbations.box import linf
from lirpa_verify.perturbations.polytope import ConstrainedBox
from lirpa_verify.perturbations.sparse import l0
from lirpa_verify.perturbations.words import words
from lirpa_verify.perturbations.zonotope import Zonotope

METHODS = ("ibp", "crown-ibp", "forward", "forward+crown", "crown", "alpha-crown")
LABELS = torch.tensor([0, 1])


@pytest.fixture(autouse=True)
def quiet():
    """torch tells of rules that it has no fast vmap for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*performance drop")
        yield


def network(activation: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 4), activation(), nn.Linear(4, 2))
    return layers.double()


def stacked(module: nn.Module, count: int = 3) -> dict[str, Tensor]:
    """Parameters of as many networks."""
    return {
        name: torch.stack([p.detach() * (1 + 0.2 * k) for k in range(count)]) for name, p in module.named_parameters()
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_vmap_over_parameters_is_the_loop(activation, method):
    module = network(activation)
    bounded, x, many = Bounded(module, numbers(1, 3)), numbers(2, 3), stacked(module)

    def margins(values: dict[str, Tensor]) -> Tensor:
        return bounded.margins(linf(x, 0.2), LABELS, method, values=values, steps=3)

    one_by_one = [margins({name: t[k] for name, t in many.items()}) for k in range(3)]
    torch.testing.assert_close(torch.vmap(margins)(many), torch.stack(one_by_one))


@pytest.mark.parametrize("method", METHODS)
def test_vmap_over_inputs_and_radii_is_the_batch(method):
    bounded, x, radius = Bounded(network(nn.Tanh), numbers(1, 3)), numbers(4, 3), torch.rand(4).double()

    def lower(x: Tensor, radius: Tensor) -> Tensor:
        return bounded.bounds(linf(x.unsqueeze(0), radius), method, steps=3).lower[0]

    expected = bounded.bounds(linf(x, radius.unsqueeze(1)), method, steps=3).lower
    torch.testing.assert_close(torch.vmap(lower)(x, radius), expected)


@pytest.mark.parametrize("kind", ["l2", "l0", "zonotope"])
def test_vmap_over_other_sets_is_the_batch(kind):
    bounded, x = Bounded(network(nn.ReLU), numbers(1, 3)), numbers(4, 3)
    make = {
        "l2": lambda x: ball(x, 0.3),
        "l0": lambda x: l0(x, 1, -1, 1),
        "zonotope": lambda x: Zonotope(x, 0.1 * x.unsqueeze(1)),
    }[kind]
    mapped = torch.vmap(lambda x: bounded.bounds(make(x.unsqueeze(0)), "crown").lower[0])(x)
    torch.testing.assert_close(mapped, bounded.bounds(make(x), "crown").lower)


@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_vmap_of_gradients_is_the_loop(method):
    """An ensemble that is trained at once."""
    module = network(nn.Sigmoid)
    bounded, x, many = Bounded(module, numbers(1, 3)), numbers(2, 3), stacked(module)
    gradient = torch.func.grad(lambda values: bounded.margins(linf(x, 0.2), LABELS, method, values=values).sum())
    mapped = torch.vmap(gradient)(many)
    for k in range(3):
        for name, one in gradient({name: t[k] for name, t in many.items()}).items():
            torch.testing.assert_close(mapped[name][k], one)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_forward_derivatives_are_the_backward_ones(activation, method):
    module = network(activation)
    bounded, x = Bounded(module, numbers(1, 3)), numbers(1, 3)
    weight = module[0].weight.detach()

    def lower(x: Tensor, weight: Tensor) -> Tensor:
        return bounded.bounds(ball(x, 0.3), method, values={"0.weight": weight}, steps=3).lower[0]

    for argument in (0, 1):
        forward = torch.func.jacfwd(lower, argument)(x, weight)
        torch.testing.assert_close(forward, torch.func.jacrev(lower, argument)(x, weight))
        assert forward.abs().sum() > 0


def test_second_derivatives_of_piecewise_linear_networks():
    bounded, x = Bounded(network(nn.ReLU), numbers(1, 3)), numbers(1, 3)

    def lower(x: Tensor) -> Tensor:
        return bounded.bounds(linf(x, 0.4), "crown").lower.sum()

    gradient, hessian = torch.func.grad(lower), torch.func.hessian(lower)(x).reshape(3, 3)
    step = 1e-5 * torch.eye(3, dtype=torch.float64).unsqueeze(1)
    finite = torch.stack([(gradient(x + d) - gradient(x - d))[0] / 2e-5 for d in step])
    torch.testing.assert_close(hessian, finite, atol=1e-5, rtol=1e-4)
    assert hessian.abs().sum() > 0


def test_functional_calls_are_followed():
    class Worst(nn.Module):
        """Margins as the forward pass of a module."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = network(nn.ReLU)
            self.bounded = Bounded(self.inner, numbers(1, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.bounded.margins(linf(x, 0.1), LABELS, "crown")

    worst, x = Worst(), numbers(2, 3)
    other = {f"inner.{name}": p.detach() * 1.5 for name, p in worst.inner.named_parameters()}
    called = torch.func.functional_call(worst, other, (x,))
    values = {name.removeprefix("inner."): p for name, p in other.items()}
    torch.testing.assert_close(called, worst.bounded.margins(linf(x, 0.1), LABELS, "crown", values=values))
    assert not torch.allclose(called, worst(x))


def test_boxes_with_constraints_under_transformations():
    bounded, x = Bounded(network(nn.ReLU), numbers(1, 3)), numbers(1, 3)

    def lower(x: Tensor) -> Tensor:
        set_ = ConstrainedBox(x - 0.3, x + 0.3, torch.ones(1, 1, 3).double(), x.sum(1, keepdim=True))
        return bounded.bounds(set_, "alpha-crown", steps=2).lower[0]

    torch.testing.assert_close(torch.func.jacrev(lower)(x), torch.autograd.functional.jacobian(lower, x))
    torch.testing.assert_close(torch.func.jacfwd(lower)(x), torch.func.jacrev(lower)(x))
    several = numbers(3, 1, 3, seed=1)
    torch.testing.assert_close(torch.vmap(lower)(several), torch.stack([lower(x) for x in several]))


def test_vmap_over_embeddings_of_words():
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    bounded, tokens = Bounded(body, numbers(1, 3, 2)), torch.tensor([[0, 3, 1]])

    def lower(embedding: Tensor) -> Tensor:
        return bounded.bounds(words(tokens, embedding, SYNONYMS, 2), "crown").lower

    embeddings = numbers(3, 8, 2)
    torch.testing.assert_close(torch.vmap(lower)(embeddings), torch.stack([lower(e) for e in embeddings]))
