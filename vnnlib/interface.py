"""What a query in VNN-LIB 2.0 declares: networks with their tensors, and how the networks are related."""

from __future__ import annotations

import math
from dataclasses import dataclass

EQUAL, ISOMORPHIC = "equal-to", "isomorphic-to"


@dataclass(frozen=True)
class Tensor:
    """An input or output of a network; entries are numbered in row-major order."""

    name: str
    element_type: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Network:
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    relation: str | None = None  # EQUAL or ISOMORPHIC, to the network `target`
    target: str | None = None

    @property
    def n_inputs(self) -> int:
        return sum(tensor.size for tensor in self.inputs)

    @property
    def n_outputs(self) -> int:
        return sum(tensor.size for tensor in self.outputs)


@dataclass(frozen=True)
class Interface:
    """Networks, and the products that a property takes for outputs.

    The inputs of such a property are those of all networks, one network behind the other, and so are the
    outputs. Behind the outputs come the ``products``, each given by the columns of its factors in the
    property (a factor occurs as often as its power says).
    """

    networks: tuple[Network, ...]
    products: tuple[tuple[int, ...], ...] = ()

    @property
    def n_inputs(self) -> int:
        return sum(network.n_inputs for network in self.networks)

    @property
    def n_outputs(self) -> int:
        """Without the products."""
        return sum(network.n_outputs for network in self.networks)

    @property
    def plain(self) -> bool:
        """Whether the property is about one network's inputs and outputs and nothing else."""
        return len(self.networks) == 1 and not self.products

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks that have a model of their own."""
        return tuple(network.name for network in self.networks if network.relation != EQUAL)
