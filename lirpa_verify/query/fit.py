"""Whether models fit what a query declares of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lirpa_verify.errors import LirpaError, PropertyMismatch
from lirpa_verify.load.recording import Recording, TensorSpec
from vnnlib.interface import EQUAL, Interface, Network, Tensor

_TYPES = {"float32": torch.float32, "float64": torch.float64}  # real stands for any type


def model_paths(interface: Interface, given: Mapping[str, str]) -> list[str]:
    """The path of each network's model, in the order of declaration.

    A network that equals another one needs no model; if one is given it has to be the same file.

    Args:
        interface: what the query declares.
        given: paths by names of networks; the name "" stands for the only network with a model of its own.
    """
    if set(given) == {""}:
        if len(interface.models) > 1:
            raise LirpaError(f"the query needs models for the networks {', '.join(interface.models)}")
        given = {interface.models[0]: given[""]}
    missing = [name for name in interface.models if name not in given]
    if missing:
        raise LirpaError(f"no model is given for the network {missing[0]}")
    paths: dict[str, str] = {}
    for network in interface.networks:
        if network.relation == EQUAL and network.target is not None:
            paths[network.name] = paths[network.target]
            if given.get(network.name, paths[network.name]) != paths[network.name]:
                raise LirpaError(f"{network.name} equals {network.target}, but its model is another file")
        else:
            paths[network.name] = given[network.name]
    unknown = [name for name in given if name not in paths]
    if unknown:
        raise LirpaError(f"the query has no network {unknown[0]}")
    return list(paths.values())


def check_fit(network: Network, recording: Recording, path: str) -> None:
    """Compare order, number, shapes and element types of the tensors."""
    for what, declared, specs in (
        ("input", network.inputs, recording.inputs),
        ("output", network.outputs, recording.output_specs),
    ):
        if len(declared) != len(specs):
            raise PropertyMismatch(f"{network.name} has {len(declared)} {what}s, but {path} has {len(specs)}")
        for tensor, spec in zip(declared, specs, strict=True):
            _check_tensor(tensor, spec, path)


def _check_tensor(tensor: Tensor, spec: TensorSpec, path: str) -> None:
    """Extents of 1 may be left out: they do not change the order of the entries."""
    if [n for n in tensor.shape if n != 1] != [n for n in spec.shape if n != 1]:
        shape = list(spec.shape)
        raise PropertyMismatch(f"{tensor.name} has the shape {list(tensor.shape)}, but {spec.name} of {path} {shape}")
    expected = _TYPES.get(tensor.element_type, spec.dtype)
    if spec.dtype != expected:
        has = str(spec.dtype).removeprefix("torch.")
        raise PropertyMismatch(f"{tensor.name} is {tensor.element_type}, but {spec.name} of {path} is {has}")


def check_types(recordings: list[Recording]) -> None:
    """All inputs have to be floating-point numbers of one type: points are searched for in it."""
    types = {spec.dtype for recording in recordings for spec in recording.inputs}
    if len(types) > 1 or not types <= set(_TYPES.values()):
        names = ", ".join(sorted(str(t).removeprefix("torch.") for t in types))
        raise PropertyMismatch(
            f"the models have inputs of the types {names}; only float32 or only float64 is supported"
        )
