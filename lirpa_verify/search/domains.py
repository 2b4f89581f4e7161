"""Open sub-problems of an activation split, as batches of tensors.

A domain is a part of an input box in which some nonlinear nodes' arguments are confined: its own
intervals of those arguments, the splits that led there, and the relaxation parameters that bounded it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Parameters, Splits
from lirpa_verify.bounds.rounding import single
from lirpa_verify.operators.base import Interval, Slopes

Key = tuple[str, int]  # what, and of which node


@dataclass(frozen=True)
class Domains:
    """Fields with a leading batch dimension.

    ``("lower", i)`` and ``("upper", i)`` bound node i that a nonlinear operator takes, ``("sign", i)`` and
    ``("point", i)`` are its splits, ``("multiplier", i)``, ``("slope below", i)``, ``("slope above", i)``
    and ``("mix", 0)`` relaxation parameters, ``("margin", 0)`` the bound and ``("root", 0)`` the target.
    """

    fields: Mapping[Key, Tensor]

    def __len__(self) -> int:
        return len(self.fields["margin", 0])

    def __getitem__(self, index: Tensor | slice) -> Domains:
        return Domains({key: value[index] for key, value in self.fields.items()})

    def nodes(self, what: str) -> list[int]:
        return [i for name, i in self.fields if name == what]

    @property
    def margin(self) -> Tensor:
        return self.fields["margin", 0]

    @property
    def open_index(self) -> Tensor:
        """Of the domains that are not proved; a margin that is not a number proves nothing."""
        return (~(self.margin > 0)).nonzero().flatten()

    @property
    def root(self) -> Tensor:
        return self.fields["root", 0]

    def intervals(self) -> dict[int, Interval]:
        return {i: Interval(self.fields["lower", i], self.fields["upper", i]) for i in self.nodes("lower")}

    def splits(self) -> Splits:
        return Splits(
            {i: self.fields["sign", i] for i in self.nodes("sign")},
            {i: self.fields["point", i] for i in self.nodes("point")},
        )

    def parameters(self) -> Parameters:
        slopes = {
            i: Slopes(self.fields["slope below", i], self.fields["slope above", i]) for i in self.nodes("slope below")
        }
        multipliers = {i: self.fields["multiplier", i] for i in self.nodes("multiplier")}
        return Parameters(slopes, multipliers, self.fields.get(("mix", 0)))

    def updated(self, changes: Mapping[Key, Tensor]) -> Domains:
        return Domains({**self.fields, **changes})

    def single(self) -> Domains:
        """In single precision: intervals grow, and so does what splits and cuts leave."""
        fields = {key: value if key == ("root", 0) else value.float() for key, value in self.fields.items()}
        for i, interval in self.intervals().items():
            fields["lower", i], fields["upper", i] = single(interval)
        for i, point in self.splits().point.items():
            below, above = single(Interval(point, point))
            fields["point", i] = torch.where(self.fields["sign", i] > 0, above, below)
        return Domains(fields)

    def double(self) -> Domains:
        return Domains({key: value if key == ("root", 0) else value.double() for key, value in self.fields.items()})


def parameter_fields(parameters: Parameters) -> dict[Key, Tensor]:
    fields: dict[Key, Tensor] = {}
    for i, slopes in parameters.positions.items():
        fields["slope below", i], fields["slope above", i] = slopes
    for i, multiplier in parameters.multipliers.items():
        fields["multiplier", i] = multiplier
    if parameters.weights is not None:
        fields["mix", 0] = parameters.weights
    return fields


def join(parts: list[Domains]) -> Domains:
    if len(parts) == 1:
        return parts[0]
    return Domains({key: torch.cat([p.fields[key] for p in parts]) for key in parts[0].fields})
