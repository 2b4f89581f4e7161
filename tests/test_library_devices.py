"""Nothing of the CPU meets what lies on another device, and bounds there are the same. The device is pretended.

No gradients are taken (which need a real device), and so no slopes optimised.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from perturbation_examples import KINDS, make, numbers
from pretend_device import DEVICE, Device
from test_library_bounds import METHODS, module, network
from torch import Tensor, nn

from lirpa_verify.library.bounded import Bounded
from lirpa_verify.perturbations.box import linf
from lirpa_verify.perturbations.words import words
from lirpa_verify.training.evaluate import certified_accuracy
from lirpa_verify.training.losses import robust_loss

LABELS = torch.tensor([1, 0])


@pytest.fixture(autouse=True)
def pretended() -> Iterator[None]:
    with torch.no_grad(), Device():
        yield


def moved(net: nn.Module) -> nn.Module:
    """A copy on the device."""
    there = copy.deepcopy(net)
    for part in there.modules():
        for name, p in list(part._parameters.items()):
            if p is not None:
                part._parameters[name] = nn.Parameter(p.detach().to(DEVICE), requires_grad=False)
        for name, b in list(part._buffers.items()):
            if b is not None:
                part._buffers[name] = b.to(DEVICE)
    if isinstance(there, nn.RNNBase):
        there._init_flat_weights()
    return there


def same(there: Tensor, here: Tensor) -> None:
    assert there.device == DEVICE
    torch.testing.assert_close(there.to("cpu"), here)


def test_the_device_is_pretended_well():
    x = torch.rand(3)
    there = x.to(DEVICE)
    same(there + 1, x + 1)
    with pytest.raises(RuntimeError, match="meets one of the device"):
        there + x


@pytest.mark.parametrize(
    ("kind", "method"), [*(("box", method) for method in METHODS[:-1]), *((kind, "crown-ibp") for kind in KINDS)]
)
def test_every_perturbation_and_method(kind, method):
    net, set_ = network(activation=nn.Tanh), make(kind)
    here = Bounded(net, numbers(1, 3, 2)).bounds(set_, method)
    there = Bounded(moved(net), numbers(1, 3, 2)).bounds(set_.to(torch.float64, DEVICE), method)
    same(there.lower, here.lower)
    same(there.upper, here.upper)


@pytest.mark.parametrize("kind", ["residual", "attention", "recurrent"])
def test_every_architecture(kind):
    net, set_ = module(kind), linf(numbers(2, 3, 2), 0.1)
    here = Bounded(net, numbers(1, 3, 2))
    there = Bounded(moved(net), numbers(1, 3, 2))
    found = there.margins(set_.to(torch.float64, DEVICE), LABELS.to(DEVICE), "crown-ibp")
    same(found, here.margins(set_, LABELS, "crown-ibp"))


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pooling": lambda x, p: nn.functional.avg_pool2d((x * p).unsqueeze(1), 2, 1, 1).flatten(1),
    "max pooling": lambda x, p: nn.functional.max_pool2d((x * p).unsqueeze(1), 2, 1).flatten(1),
    "padding": lambda x, p: nn.functional.pad(x * p, (1, 1), value=0.5).flatten(1),
    "sums": lambda x, p: torch.cumsum(x * p, 1).flatten(1),
    "choice": lambda x, p: torch.where(x > p, x * p, x).flatten(1),
    "sorting": lambda x, p: torch.sort((x * p).flatten(1), 1).values,
    "norm": lambda x, p: nn.functional.layer_norm(x * p, (2,)).flatten(1),
    "softmax": lambda x, p: torch.softmax(x * p, 1).flatten(1),
    "logarithm": lambda x, p: torch.logsumexp((x * p).flatten(1), 1, keepdim=True),
    "resizing": lambda x, p: nn.functional.interpolate((x * p).unsqueeze(1), scale_factor=2, mode="bilinear").flatten(
        1
    ),
    "indexing": lambda x, p: (x * p)[:, torch.tensor([2, 0, 1], device=x.device)].flatten(1),
    "gelu": lambda x, p: nn.functional.gelu(x + p).flatten(1),
    "hard swish": lambda x, p: nn.functional.hardswish(x + p).flatten(1),
    "division": lambda x, p: (x / (p.exp() + 1)).flatten(1),
    "triangles": lambda x, p: ((x * p) @ torch.ones(2, 2, dtype=x.dtype, device=x.device).triu()).flatten(1),
    "maximum": lambda x, p: torch.maximum(x, p).flatten(1),
    "powers": lambda x, p: ((x * p) ** 2 + (x * p).abs() ** 1.5).flatten(1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_operation(name):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(numbers(3, 2, seed=5))

        def forward(self, x: Tensor) -> Tensor:
            return FUNCTIONS[name](x, self.p)

    net, set_ = Net(), linf(numbers(2, 3, 2), 0.2)
    here, there = Bounded(net, numbers(1, 3, 2)), Bounded(moved(net), numbers(1, 3, 2))
    for method in ("forward", "crown-ibp"):
        same(there.bounds(set_.to(torch.float64, DEVICE), method).lower, here.bounds(set_, method).lower)


def test_perturbed_parameters_words_losses_and_accuracy():
    net = network()
    here, there, x = Bounded(net, numbers(1, 3, 2)), Bounded(moved(net), numbers(1, 3, 2)), numbers(2, 3, 2)
    weight = linf(net[1].weight.unsqueeze(0), 0.01)
    varied = there.bounds(x.to(DEVICE), "crown", parameters={"1.weight": weight.to(torch.float64, DEVICE)})
    same(varied.lower, here.bounds(x, "crown", parameters={"1.weight": weight}).lower)
    for method in ("ibp", "crown-ibp", "fused"):
        loss = robust_loss(there, linf(x.to(DEVICE), 0.1), LABELS.to(DEVICE), method, 0.5)
        same(loss, robust_loss(here, linf(x, 0.1), LABELS, method, 0.5))
    tokens, embedding, synonyms = torch.tensor([[0, 3, 1], [7, 3, 3]]), numbers(8, 2), {0: [1, 2], 3: [4]}
    replaced = words(tokens.to(DEVICE), embedding.to(DEVICE), synonyms, 2)
    same(there.bounds(replaced).lower, here.bounds(words(tokens, embedding, synonyms, 2)).lower)
    labels = net(x).argmax(1)
    found = certified_accuracy(there, [(x.to(DEVICE), labels.to(DEVICE))], lambda x: linf(x, 0.01))
    assert found == certified_accuracy(here, [(x, labels)], lambda x: linf(x, 0.01))


def test_verdicts():
    net, x = network(), numbers(2, 3, 2)
    labels = net(x).argmax(1)
    results = Bounded(moved(net), x).verify(linf(x.to(DEVICE), 0.01), labels=labels.to(DEVICE))
    assert [r.verdict for r in results] == [r.verdict for r in Bounded(net, x).verify(linf(x, 0.01), labels=labels)]
