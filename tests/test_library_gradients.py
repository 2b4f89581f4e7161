"""Bounds carry the right gradients: to parameters, inputs and radii, in float64 against finite differences."""

from __future__ import annotations

import pytest
import torch
from perturbation_examples import SYNONYMS, numbers
from torch import Tensor, nn

from lirpa_verify.library.bounded import Bounded
from lirpa_verify.perturbations.ball import ball
from lirpa_verify.perturbations.box import linf
from lirpa_verify.perturbations.words import words

DIFFERENTIABLE = ("ibp", "crown-ibp", "forward", "forward+crown", "crown")  # alpha-crown chooses its slopes by steps
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.ELU)


def net(activation: type[nn.Module], seed: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 3), activation(), nn.Linear(3, 3), activation(), nn.Linear(3, 2)).double()


def check(bounded: Bounded, inputs, method: str, extra: tuple[Tensor, ...] = ()) -> bool:
    """`inputs` makes the perturbation from the extra tensors; all parameters and those are differentiated."""
    names = [name for name, _ in bounded.function.named_parameters()]
    tensors = [p.detach().clone().requires_grad_() for _, p in bounded.function.named_parameters()]

    def both(*given: Tensor) -> Tensor:
        values = dict(zip(names, given[: len(names)], strict=True))
        return torch.cat(bounded.bounds(inputs(*given[len(names) :]), method, values=values), 1)

    return torch.autograd.gradcheck(both, (*tensors, *extra), atol=2e-5, rtol=1e-3, fast_mode=True)


@pytest.mark.parametrize("method", DIFFERENTIABLE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_box_bounds(activation, method):
    bounded = Bounded(net(activation), torch.zeros(1, 3, dtype=torch.float64))
    x = numbers(1, 3).requires_grad_()
    radius = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert check(bounded, lambda x, r: linf(x, r), method, (x, radius))


@pytest.mark.parametrize("method", DIFFERENTIABLE)
def test_gradients_of_ball_bounds(method):
    bounded = Bounded(net(nn.Tanh), torch.zeros(1, 3, dtype=torch.float64))
    radius = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert check(bounded, lambda x, r: ball(x, r, 2), method, (numbers(2, 3).requires_grad_(), radius))


@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_gradients_reach_embeddings_through_attention(method):
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(2, 1, 3, dropout=0.0, batch_first=True, activation="gelu").double()
    bounded = Bounded(layer, torch.zeros(1, 3, 2, dtype=torch.float64))
    tokens = torch.tensor([[0, 3, 1]])

    def total(embedding: Tensor) -> Tensor:
        return bounded.bounds(words(tokens, embedding, SYNONYMS, 1), method, values={}).lower.sum()

    embedding = (0.1 * numbers(8, 2)).requires_grad_()
    assert torch.autograd.gradcheck(total, (embedding,), atol=1e-4, rtol=1e-3, fast_mode=True)


@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown"])
def test_gradients_of_convolutions_and_batch_norm(method):
    torch.manual_seed(2)
    layers = [nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 2, groups=2), nn.ReLU(), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(2, 2)).double().eval()
    with torch.no_grad():
        module[1].bias.zero_()  # equal values must not look like one value
    bounded = Bounded(module, torch.zeros(1, 1, 3, 3, dtype=torch.float64))
    assert check(bounded, lambda x: linf(x, 0.2), method, (numbers(2, 1, 3, 3).requires_grad_(),))


CURVES = {
    "abs": torch.abs,
    "clamp": lambda x: x.clamp(-0.2, 0.3),
    "cube": lambda x: x**3,
    "division": lambda x: x.flip(1) / (x.abs() + 0.5),
    "hard shrink": lambda x: nn.functional.hardshrink(x, 0.3),
    "layer norm": lambda x: nn.functional.layer_norm(x, (4,)),
    "log": lambda x: torch.log(x * x + 0.5),
    "matrix product": lambda x: (x.unsqueeze(2) @ x.unsqueeze(1)).mean(2),
    "max pool": lambda x: nn.functional.max_pool1d(x.unsqueeze(1), 2, 2).squeeze(1).repeat(1, 2),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "power": lambda x: (x + 5) ** 1.5,
    "reciprocal": lambda x: 1 / (x + 5),
    "sign": torch.sign,
    "sine": torch.sin,
    "softmax": lambda x: torch.softmax(x, 1),
    "sort": lambda x: torch.sort(x, 1).values,
    "where": lambda x: torch.where(x > 0, 2 * x, x.flip(1)),
}


@pytest.mark.parametrize("method", ["ibp", "forward", "crown"])
@pytest.mark.parametrize("name", CURVES)
def test_gradients_of_every_kind_of_relaxation(name, method):
    """Slopes that depend on the interval are part of the gradient, too."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(CURVES[name](self.first(x)))

    torch.manual_seed(4)
    bounded, x = Bounded(Net().double(), numbers(1, 3)), numbers(2, 3).requires_grad_()
    assert check(bounded, lambda x: linf(x, 0.4), method, (x,))


def test_gradients_with_perturbed_weights():
    module = net(nn.ReLU)
    bounded = Bounded(module, torch.zeros(1, 3, dtype=torch.float64))
    x, weight = numbers(2, 3), module[2].weight.detach().clone().requires_grad_()

    def total(weight: Tensor) -> Tensor:
        sets = {"2.weight": linf(weight.unsqueeze(0), 0.1 * weight.unsqueeze(0).abs())}
        return torch.cat(bounded.bounds(x, "crown", parameters=sets), 1)

    assert torch.autograd.gradcheck(total, (weight,), atol=1e-5)


def test_gradient_of_optimised_bounds_is_that_at_their_slopes():
    """Once the slopes have settled, a small change of the parameters changes the bound as its gradient says."""
    module = net(nn.ReLU)
    bounded, x = Bounded(module, torch.zeros(1, 3, dtype=torch.float64)), numbers(1, 3)
    set_ = linf(x, 0.3)
    bound = bounded.bounds(set_, "alpha-crown", steps=100).lower[0, 0]
    (gradient,) = torch.autograd.grad(bound, module[4].weight)
    step, direction = 1e-5, gradient / gradient.norm()
    moved = {"4.weight": module[4].weight.detach() + step * direction}
    change = bounded.bounds(set_, "alpha-crown", steps=100, values=moved).lower[0, 0] - bound
    assert change.item() == pytest.approx(step * gradient.norm().item(), rel=0.02)


def test_functional_gradients_are_the_same():
    module = net(nn.ReLU)
    bounded, set_ = Bounded(module, torch.zeros(1, 3, dtype=torch.float64)), linf(numbers(2, 3), 0.1)
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def worst(values: dict[str, Tensor]) -> Tensor:
        return bounded.margins(set_, torch.tensor([0, 1]), "crown-ibp", values=values).sum()

    functional = torch.func.grad(worst)(parameters)
    worst(dict(module.named_parameters())).backward()
    for name, p in module.named_parameters():
        torch.testing.assert_close(functional[name], p.grad)


@pytest.mark.slow
def test_compiled_bounds_are_the_same():
    module = net(nn.ReLU)
    bounded, x = Bounded(module, torch.zeros(1, 3, dtype=torch.float64)), numbers(2, 3)
    values = {name: p.detach() for name, p in module.named_parameters()}

    def worst(x: Tensor, values: dict[str, Tensor]) -> Tensor:
        return bounded.margins(linf(x, 0.1), torch.tensor([0, 1]), "ibp", values=values)

    compiled = torch.compile(worst, backend="aot_eager")
    torch.testing.assert_close(compiled(x, values), worst(x, values))


def test_bounds_follow_the_parameters():
    module, x = net(nn.ReLU), numbers(2, 3)
    bounded = Bounded(module, x)
    for _ in range(2):
        torch.testing.assert_close(bounded.bounds(x, "ibp").lower, module(x))
        with torch.no_grad():
            module[0].weight.mul_(1.5)


def learnable(name: str):
    """Functions whose parameters have values that look like something simpler, and those parameters."""
    one = torch.tensor(1.0, dtype=torch.float64)
    equal = numbers(1, 3, 3).repeat(2, 1, 1)
    cases = {
        "a product with equal matrices": (lambda x, p: (x.reshape(-1, 2, 1, 3) @ p).flatten(1), equal),
        "the negative of an argument": (lambda x, p: torch.relu(x) + torch.relu(x * p), -one),
        "a power": (lambda x, p: (x.abs() + 1) ** p, 2 * one),
        "a gate with a rate": (lambda x, p: x * torch.sigmoid(p * x), one),
        "a bias of zeros": (lambda x, p: torch.relu(x.reshape(-1, 2, 3) + p).flatten(1), torch.zeros(2, 3).double()),
        "leaks": (lambda x, p: nn.functional.prelu(x, p), 0.25 * one.reshape(1)),
    }
    return cases[name]


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize(
    "name",
    [
        "a product with equal matrices",
        "the negative of an argument",
        "a power",
        "a gate with a rate",
        "a bias of zeros",
        "leaks",
    ],
)
def test_parameters_are_not_taken_for_their_present_values(name, method):
    function, value = learnable(name)
    weight, x = value.clone().requires_grad_(), numbers(1, 6, seed=3)

    def total(value: Tensor) -> Tensor:
        return torch.cat(bounded.bounds(linf(x, 0.2), method, values={"p": value}), 1).sum()

    bounded = Bounded(lambda x: function(x, weight), x, state={"p": weight})
    assert torch.autograd.gradcheck(total, (weight,), atol=1e-5)
