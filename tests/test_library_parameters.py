"""Perturbed parameters: enclosed by every method, exact for one layer, for every kind of layer."""

from __future__ import annotations

import pytest
import torch
from perturbation_examples import numbers
from test_library_bounds import METHODS, enclosed
from torch import Tensor, nn

from lirpa_verify.library.bounded import Bounded
from lirpa_verify.perturbations.ball import ball
from lirpa_verify.perturbations.box import linf


@pytest.mark.parametrize("method", METHODS)
def test_perturbed_weights(method):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    bounded, x = Bounded(net, torch.zeros(1, 2, dtype=torch.float64)), numbers(3, 2)
    sets = {
        "0.weight": linf(net[0].weight.detach().unsqueeze(0), 0.05),
        "2.weight": ball(net[2].weight.detach().unsqueeze(0), 0.1),
        "2.bias": linf(net[2].bias.detach().unsqueeze(0), 0.02),
    }
    for inputs in (x, linf(x, 0.05)):
        bounds = bounded.bounds(inputs, method, parameters=sets)
        generator = torch.Generator().manual_seed(6)
        for _ in range(200):
            state = {name: s.sample(1, generator)[0, 0] for name, s in sets.items()}
            point = inputs if isinstance(inputs, Tensor) else inputs.sample(1, generator)[0]
            y = torch.func.functional_call(net, state, (point,))
            assert enclosed(bounds, y.unsqueeze(0))


def test_perturbed_weights_of_one_layer_are_exact():
    """y = W x + b with W in a ball and x fixed: the extremes are r ||x||_q away."""
    net = nn.Linear(3, 2).double()
    bounded, x = Bounded(net, torch.zeros(1, 3, dtype=torch.float64)), numbers(4, 3)
    for p, q in ((2.0, 2.0), (1.0, torch.inf), (3.0, 1.5)):
        bounds = bounded.bounds(x, "crown", parameters={"weight": ball(net.weight.detach().unsqueeze(0), 0.3, p)})
        reach = 0.3 * torch.linalg.vector_norm(x, q, dim=1, keepdim=True)
        torch.testing.assert_close(bounds.lower, net(x) - reach)
        torch.testing.assert_close(bounds.upper, net(x) + reach)


def test_perturbed_kernels_of_convolutions():
    torch.manual_seed(4)
    for conv in (
        nn.Conv2d(2, 4, 3, 2, 1),
        nn.Conv2d(2, 4, 2, groups=2, dilation=2),
        nn.Conv1d(2, 3, 2),
        nn.ConvTranspose2d(2, 4, 3, 2, 1, output_padding=1),
        nn.ConvTranspose2d(2, 4, (2, 3), groups=2, dilation=2),
        nn.ConvTranspose2d(2, 2, 2, 3, padding=2),
    ):
        net = nn.Sequential(conv, nn.ReLU(), nn.Flatten()).double()
        shape = (2, 5) if isinstance(conv, nn.Conv1d) else (2, 5, 4)
        bounded, x = Bounded(net, torch.zeros(1, *shape, dtype=torch.float64)), numbers(2, *shape)
        sets = {name: linf(p.detach().unsqueeze(0), 0.05) for name, p in net.named_parameters()}
        corner = {name: s.lower[0] for name, s in sets.items()}
        still = bounded.bounds(x, parameters={name: linf(w.unsqueeze(0), 0) for name, w in corner.items()})
        torch.testing.assert_close(still.lower, torch.func.functional_call(net, corner, (x,)))
        bounds = bounded.bounds(x, "crown", parameters=sets)
        generator = torch.Generator().manual_seed(7)
        for _ in range(50):
            state = {name: s.sample(1, generator)[0, 0] for name, s in sets.items()}
            assert enclosed(bounds, torch.func.functional_call(net, state, (x,)).unsqueeze(0))


LAYERS = {
    "batch norm": (lambda: nn.BatchNorm2d(2), (2, 3, 3)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3)),
    "instance norm": (lambda: nn.InstanceNorm1d(2, affine=True), (2, 3)),
    "layer norm": (lambda: nn.LayerNorm((2, 3)), (2, 3)),
    "rms norm": (lambda: nn.RMSNorm(3), (2, 3)),
    "prelu": (lambda: nn.PReLU(2), (2, 3)),
    "lstm": (lambda: nn.LSTM(3, 2, batch_first=True), (2, 3)),
    "gru": (lambda: nn.GRU(3, 2, batch_first=True), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_perturbed_parameters_of_layers(name):
    """Each parameter alone, and all of them."""
    torch.manual_seed(5)
    layer, shape = LAYERS[name][0]().double().eval(), LAYERS[name][1]
    first = layer if not isinstance(layer, nn.RNNBase) else lambda x: layer(x)[0]
    bounded, x = Bounded(first, numbers(1, *shape), state=dict(layer.named_parameters())), numbers(2, *shape)
    generator = torch.Generator().manual_seed(8)
    values = dict(layer.named_parameters())
    for names in [*([key] for key in values), list(values)]:
        sets = {key: linf(values[key].detach().unsqueeze(0), 0.05) for key in names}
        bounds = [bounded.bounds(linf(x, 0.05), method, parameters=sets) for method in ("ibp", "crown")]
        for _ in range(20):
            state = {key: s.sample(1, generator)[0, 0] for key, s in sets.items()}
            y = torch.func.functional_call(layer, state, (linf(x, 0.05).sample(1, generator)[0],))
            y = y if isinstance(y, Tensor) else y[0]
            assert all(enclosed(found, y.unsqueeze(0)) for found in bounds)
