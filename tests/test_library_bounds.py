"""Bounds of modules over every kind of perturbation and by every method: against points, closed forms, each other."""

from __future__ import annotations

import itertools

import pytest
import torch
from perturbation_examples import KINDS, make, numbers
from torch import Tensor, nn

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.library.bounded import Bounded
from lirpa_verify.library.rows import margin_rows
from lirpa_verify.perturbations.ball import ball
from lirpa_verify.perturbations.box import Box, linf
from lirpa_verify.perturbations.words import words

METHODS = ("ibp", "crown-ibp", "forward", "forward+crown", "crown", "alpha-crown")
LINEAR = METHODS[1:]


def network(seed: int = 0, activation: type[nn.Module] = nn.ReLU, outputs: int = 3) -> nn.Module:
    """Takes (batch, 3, 2), as the examples of perturbations are."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 8), activation(), nn.Linear(8, 7), activation(), nn.Linear(7, outputs)
    )
    return layers.double()


class Residual(nn.Module):
    """Convolutions, batch norm, a skip, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x.unsqueeze(1))))
        x = torch.relu(x + self.second(x))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """A layer of a transformer over three words."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(2, 1, 4, dropout=0.0, batch_first=True)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def module(kind: str) -> nn.Module:
    torch.manual_seed(1)
    made = {"residual": Residual, "attention": Attention, "recurrent": Recurrent}[kind]().double()
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(0.7)
    return made.eval()


def enclosed(bounds, values, slack: float = 1e-9) -> bool:
    """Values (points, batch, ...) lie within bounds (batch, ...)."""
    return bool(((values >= bounds.lower - slack) & (values <= bounds.upper + slack)).all())


def evaluate(net, points: Tensor) -> Tensor:
    """(points, batch, *input) -> (points, batch, *output)."""
    with torch.no_grad():
        return net(points.flatten(0, 1)).unflatten(0, points.shape[:2])


# -- soundness and tightness -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_encloses_every_perturbation(kind, method):
    for activation in (nn.ReLU, nn.Tanh):
        net, set_ = network(activation=activation), make(kind)
        bounds = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64)).bounds(set_, method, steps=5)
        points = set_.sample(400, torch.Generator().manual_seed(1))
        assert bounds.lower.shape == (2, 3)
        assert enclosed(bounds, evaluate(net, points))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["residual", "attention", "recurrent"])
def test_every_method_encloses_every_architecture(kind, method):
    net = module(kind)
    bounded = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64))
    for set_ in (linf(numbers(2, 3, 2), 0.1), ball(numbers(2, 3, 2), 0.2), make("words")):
        points = set_.sample(300, torch.Generator().manual_seed(1))
        assert enclosed(bounded.bounds(set_, method, steps=4), evaluate(net, points))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_an_affine_function_are_exact(kind, method):
    """Closed form: the extremes of each output are those of a linear function on the set."""
    torch.manual_seed(2)
    net, set_ = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 3)).double(), make(kind)
    if method == "ibp":
        net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()  # two layers lose what they share
    bounded = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64))
    rows = torch.eye(3, dtype=torch.float64)
    bounds = bounded.bounds(set_, method, specification=rows)
    matrix = torch.autograd.functional.jacobian(lambda x: net(x)[0], torch.zeros(1, 3, 2, dtype=torch.float64))
    bias = net(torch.zeros(1, 3, 2, dtype=torch.float64))
    weight = matrix.reshape(1, 3, 3, 2).expand(2, -1, -1, -1)
    torch.testing.assert_close(bounds.lower, set_.minimum(weight) + bias, atol=1e-8, rtol=0)
    torch.testing.assert_close(bounds.upper, bias - set_.minimum(-weight), atol=1e-8, rtol=0)


@pytest.mark.parametrize("kind", ["box", "l2", "l0", "words", "constrained"])
def test_methods_contain_each_other(kind):
    """What a method adds can only tighten: the intervals of nodes first, then the rows, then the slopes."""
    for seed in range(2):
        bounded, set_ = Bounded(network(seed), torch.zeros(1, 3, 2, dtype=torch.float64)), make(kind)
        results = {method: bounded.bounds(set_, method, steps=4) for method in METHODS}
        for wide, narrow in [("crown", "alpha-crown"), ("forward", "forward+crown")]:
            assert (results[narrow].lower >= results[wide].lower - 1e-9).all()
            assert (results[narrow].upper <= results[wide].upper + 1e-9).all()
        assert sizes(results["crown"]) <= sizes(results["crown-ibp"]) <= sizes(results["ibp"])


def sizes(bounds) -> float:
    return float((bounds.upper - bounds.lower).detach().mean())


def test_one_relu_in_closed_form():
    """relu(x) on [-1, 3]: the chord 3/4 (x + 1) above; below x by CROWN, the slope being free for alpha-CROWN."""
    bounded = Bounded(torch.relu, torch.zeros(1, 1, dtype=torch.float64))
    set_ = Box(*(torch.tensor([[v]], dtype=torch.float64) for v in (-1.0, 3.0)))
    linear = bounded.linear(set_, "crown")
    assert float(linear.upper[0]) == pytest.approx(0.75)
    assert float(linear.upper_offset) == pytest.approx(0.75)
    assert float(linear.lower[0]) == 1 and float(linear.lower_offset) == 0
    assert float(bounded.bounds(set_, "crown").lower) == -1
    assert float(bounded.bounds(set_, "alpha-crown").lower) == pytest.approx(0, abs=1e-6)
    assert float(bounded.bounds(set_, "ibp").lower) == 0


def test_single_points_have_exact_bounds():
    net, x = network(), numbers(4, 3, 2)
    for method in METHODS:
        bounds = Bounded(net, x).bounds(x, method)
        torch.testing.assert_close(bounds.lower, net(x))
        torch.testing.assert_close(bounds.upper, net(x))


@pytest.mark.parametrize("method", METHODS)
def test_words_against_every_sentence(method):
    """Brute force over all sentences within the budget."""
    net, embedding = module("recurrent"), numbers(8, 2, seed=6)
    tokens, synonyms = [0, 3, 1], {0: [1, 2], 1: [0], 3: [4, 5, 6]}
    bounds = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64)).bounds(
        words(torch.tensor([tokens]), embedding, synonyms, 2), method, steps=4
    )
    options = [[t, *synonyms.get(t, [])] for t in tokens]
    near = [s for s in itertools.product(*options) if sum(a != b for a, b in zip(s, tokens, strict=True)) <= 2]
    with torch.no_grad():
        values = net(embedding[torch.tensor(near)])
    assert enclosed(bounds, values.unsqueeze(1))
    assert len(near) == 1 + 6 + 11


# -- what can be asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_specifications_and_margins(method):
    net, set_ = network(), make("l2")
    bounded, labels = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64)), torch.tensor([2, 0])
    rows = margin_rows(labels, 3)
    assert rows.tolist() == [[[-1, 0, 1], [0, -1, 1]], [[1, -1, 0], [1, 0, -1]]]
    margins = bounded.margins(set_, labels, method)
    for given in ({"labels": labels}, {"specification": rows}):
        torch.testing.assert_close(bounded.bounds(set_, method, **given).lower, margins)
    shared = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.5, -2.0]])
    bounds = bounded.bounds(set_, method, specification=shared)
    points = set_.sample(200, torch.Generator().manual_seed(3))
    assert enclosed(bounds, evaluate(net, points) @ shared.double().T)


@pytest.mark.parametrize("method", LINEAR)
@pytest.mark.parametrize("kind", ["box", "l2", "words"])
def test_linear_functions_enclose_the_values(kind, method):
    net, set_ = network(activation=nn.Sigmoid), make(kind)
    bounded = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64))
    linear = bounded.linear(set_, method)
    assert linear.lower[0].shape == (2, 3, 3, 2)
    points = set_.sample(200, torch.Generator().manual_seed(3))
    values = evaluate(net, points)
    low = torch.einsum("brij,nbij->nbr", linear.lower[0], points) + linear.lower_offset
    high = torch.einsum("brij,nbij->nbr", linear.upper[0], points) + linear.upper_offset
    assert (low <= values + 1e-9).all() and (values <= high + 1e-9).all()
    extreme = set_.minimum(linear.lower[0]) + linear.lower_offset
    torch.testing.assert_close(extreme, bounded.bounds(set_, method).lower, atol=1e-9, rtol=0)


def test_bounds_without_gradients_are_the_same():
    bounded, set_ = Bounded(network(), torch.zeros(1, 3, 2, dtype=torch.float64)), make("l2")
    for method in METHODS:
        expected = bounded.bounds(set_, method)
        with torch.no_grad():
            found = bounded.bounds(set_, method)
        assert not found.lower.requires_grad and expected.lower.requires_grad
        torch.testing.assert_close(found.lower, expected.lower)


def test_nodes_by_name():
    net = module("residual")
    bounded = Bounded(net, torch.zeros(1, 3, 2, dtype=torch.float64))
    assert set(bounded.nodes) == {"output", "first", "norm", "second", "head"}
    set_ = linf(numbers(2, 3, 2), 0.1)
    seen: dict[str, Tensor] = {}
    hooks = [
        child.register_forward_hook(lambda m, a, y, name=name: seen.__setitem__(name, y))
        for name, child in net.named_children()
    ]
    points = set_.sample(100, torch.Generator().manual_seed(4))
    evaluate(net, points)
    for hook in hooks:
        hook.remove()
    for name, values in seen.items():
        for method in METHODS:
            bounds = bounded.bounds(set_, method, node=name)
            assert bounds.lower.shape == (2, *values.shape[1:])
            assert enclosed(bounds, values.unflatten(0, (100, 2)))
    torch.testing.assert_close(bounded.bounds(set_, node="head").lower, bounded.bounds(set_).lower)


def test_a_module_called_twice_and_one_with_two_results():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.act = nn.LSTM(2, 2, batch_first=True), nn.Tanh()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y, (h, _) = self.lstm(self.act(x))
            return self.act(y[:, 0]), h[0]

    bounded = Bounded(Twice(), torch.zeros(1, 3, 2))
    assert bounded.nodes == ("output", "output[0]", "output[1]", "act", "lstm", "lstm[1]", "lstm[2]", "act@2")
    set_ = linf(numbers(2, 3, 2).float(), 0.1)
    both = bounded.bounds(set_, "ibp")
    assert both.lower.shape == (2, 4)
    torch.testing.assert_close(both.lower[:, :2], bounded.bounds(set_, "ibp", node="output[0]").lower)


def test_several_inputs_and_functions():
    def mixed(x: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(x) * y.sum(1, keepdim=True) + torch.relu(x - y[:, :2])

    bounded = Bounded(mixed, torch.zeros(5, 2), torch.zeros(5, 3))
    x, y = numbers(4, 2), numbers(4, 3, seed=1)
    first, second = linf(x, 0.2), ball(y, 0.5)
    samples = [s.sample(200, torch.Generator().manual_seed(5)) for s in (first, second)]
    values = mixed(samples[0].flatten(0, 1), samples[1].flatten(0, 1)).unflatten(0, (200, 4))
    for method in METHODS:
        bounds = bounded.bounds([first, second], method)
        assert enclosed(bounds, values)
        one = bounded.bounds([first, y], method)  # the second input does not vary
        still = mixed(samples[0].flatten(0, 1), y.repeat(200, 1)).unflatten(0, (200, 4))
        assert enclosed(one, still)
        assert sizes(one) < sizes(bounds)
    linear = bounded.linear([first, second])
    assert [t.shape for t in linear.lower] == [(4, 2, 2), (4, 2, 3)]


def test_examples_do_not_influence_each_other():
    bounded, x = Bounded(network(), torch.zeros(1, 3, 2, dtype=torch.float64)), numbers(5, 3, 2)
    for method in METHODS:
        together = bounded.bounds(linf(x, 0.3), method)
        for i in range(5):
            alone = bounded.bounds(linf(x[i : i + 1], 0.3), method)
            # A neuron that is decided in one example may be bounded anyway, for another's sake.
            assert (together.lower[i] >= alone.lower[0] - 1e-9).all()


# -- errors ------------------------------------------------------------------------------------------------------------


def test_bad_questions_are_refused():
    bounded, x = Bounded(network(), torch.zeros(1, 3, 2, dtype=torch.float64)), numbers(2, 3, 2)
    with pytest.raises(ValueError, match="unknown method"):
        bounded.bounds(x, "magic")
    with pytest.raises(ValueError, match="no node 'nowhere'"):
        bounded.bounds(x, node="nowhere")
    with pytest.raises(ValueError, match="shape"):
        bounded.bounds(numbers(2, 4))
    with pytest.raises(ValueError, match="2 inputs given"):
        bounded.bounds([x, x])
    with pytest.raises(ValueError, match="no parameter 'w'"):
        bounded.bounds(x, parameters={"w": linf(x, 1)})
    with pytest.raises(ValueError, match=r"1.weight has shape \(8, 6\), given \(3, 2\)"):
        bounded.bounds(x, parameters={"1.weight": linf(x, 1)})
    with pytest.raises(ValueError, match=r"no parameter '1\.weigth'"):
        bounded.bounds(x, values={"1.weigth": x})
    with pytest.raises(ValueError, match=r"1\.weight has shape"):
        bounded.bounds(x, values={"1.weight": x})
    with pytest.raises(ValueError, match="neither a perturbation nor a tensor"):
        bounded.bounds([3.0])
    with pytest.raises(ValueError, match=r"given \(0, 3, 2\)"):
        bounded.bounds(x[:0])
    for labels in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match="a label outside 0 to 2"):
            bounded.margins(x, labels)
    with pytest.raises(ValueError, match="integers are expected"):
        bounded.margins(x, torch.zeros(2))
    with pytest.raises(ValueError, match="one of them"):
        bounded.bounds(x, labels=torch.tensor([0, 1]), specification=torch.eye(3))
    with pytest.raises(ValueError, match="specification of shape"):
        bounded.verify(x, specification=torch.ones(3))
    with pytest.raises(ValueError, match="specification"):
        bounded.bounds(x, specification=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="no linear functions"):
        bounded.linear(x, "ibp")
    with pytest.raises(ValueError, match="labels or a specification"):
        bounded.verify(x)
    with pytest.raises(UnsupportedOperator, match="control flow"):
        Bounded(lambda x: x if x.sum() > 0 else -x, x)
    with pytest.raises(UnsupportedOperator, match="no tensor"):
        Bounded(lambda x: None, x)
    with pytest.raises(UnsupportedOperator, match="a list, not a tensor"):
        Bounded(network(), [x])
    with pytest.raises(UnsupportedOperator, match="examples influence each other"):
        Bounded(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), x)


# -- types -------------------------------------------------------------------------------------------------------------


def test_inputs_of_different_types_are_bounded_in_the_widest():
    bounded, x = Bounded(lambda a, b: torch.tanh(a) * b, torch.zeros(1, 3), torch.zeros(1, 3)), numbers(2, 3)
    whole = torch.tensor([[1, 2, 3], [4, 5, 6]])  # integers that do not vary
    mixed = bounded.bounds([linf(x.float(), 0.1), x])
    torch.testing.assert_close(mixed.lower, bounded.bounds([linf(x.float(), 0.1).to(torch.float64), x]).lower)
    counted = bounded.bounds([linf(x.float(), 0.1), whole])
    assert counted.lower.dtype == torch.float32
    torch.testing.assert_close(counted.upper, bounded.bounds([linf(x.float(), 0.1), whole.float()]).upper)


@pytest.mark.parametrize("kind", ["residual", "attention", "recurrent"])
def test_modules_may_change_their_precision(kind):
    net, x = module(kind).float(), numbers(2, 3, 2)
    bounded = Bounded(net, x.float())
    net.double()
    torch.testing.assert_close(bounded.bounds(x, "ibp").lower, net(x))


def test_slopes_that_do_not_matter_are_not_optimised():
    """The choice between two values is bounded by constants, whatever the slopes below its condition."""

    def choice(x: Tensor) -> Tensor:
        return torch.where(torch.tanh(x) > 0, torch.ones_like(x), torch.zeros_like(x))

    bounded, set_ = Bounded(choice, torch.zeros(1, 3)), linf(numbers(2, 3), 0.1)
    torch.testing.assert_close(bounded.bounds(set_, "alpha-crown"), bounded.bounds(set_, "crown"))
