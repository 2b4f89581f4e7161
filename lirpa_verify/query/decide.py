"""Decides a query of VNN-LIB 2.0, whatever networks it is about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lirpa_verify.deadline import Deadline
from lirpa_verify.errors import LirpaError
from lirpa_verify.graph.graph import Graph
from lirpa_verify.load.recording import Recording, TensorSpec
from lirpa_verify.network import Network
from lirpa_verify.query.fit import check_fit, check_types
from lirpa_verify.query.graph import joined_graph
from lirpa_verify.query.model import JoinedModel
from lirpa_verify.strategy import Options, Report, output_ranges, verify
from lirpa_verify.verdict import Result, Witness
from lirpa_verify.witness import holds
from vnnlib import Interface, Property
from vnnlib.equal_inputs import merge_equal_inputs


def decide(
    prop: Property,
    interface: Interface,
    declared: list[Network],
    deadline: Deadline,
    options: Options,
    report: Report,
) -> Result:
    """The verdict, with a witness of all networks' inputs and outputs, in the order of their declarations.

    Args:
        prop: the query.
        interface: what it is about.
        declared: the networks in the order of their declarations; the same one may occur several times.
        deadline: an answer is returned before it.
        options: method, device and seed.
        report: takes news for the user.

    Raises:
        PropertyMismatch: a network is not as it is declared.
    """
    check_all(interface, declared)
    merged, index = merge_equal_inputs(prop)
    if interface.plain and merged is prop:
        return verify(declared[0], prop, deadline, options, report)
    graph = joined_graph([network.graph for network in declared], torch.from_numpy(index), interface.products)
    model = JoinedModel.of(interface, [network.model_path for network in declared], index)
    result = verify(_network(graph, declared), merged, deadline, options, report, model)
    return result if result.witness is None else replace(result, witness=_whole(result.witness, prop, interface, index))


def ranges(
    prop: Property, interface: Interface, declared: list[Network], deadline: Deadline, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Certified ranges of all outputs of the only network."""
    if not interface.plain:
        raise LirpaError("--bounds is for queries about one network, with linear constraints")
    check_all(interface, declared)
    return output_ranges(declared[0], prop, deadline, options)


def check_all(interface: Interface, declared: list[Network]) -> None:
    """Whether the networks are as they are declared, and can be taken together."""
    for network, loaded in zip(interface.networks, declared, strict=True):
        check_fit(network, loaded.recording, str(loaded.model_path))
    check_types([loaded.recording for loaded in declared])


def _network(graph: Graph, declared: list[Network]) -> Network:
    """The joined graph in the place of a network; its inputs have the type that those of all networks have."""
    dtype = declared[0].recording.inputs[0].dtype
    recording = Recording((TensorSpec("inputs", (graph.n_inputs,), dtype),), (), (), ())
    return Network(declared[0].model_path, recording, graph)


def _whole(witness: Witness, prop: Property, interface: Interface, index: np.ndarray) -> Witness:
    """The witness in all networks' inputs and outputs, checked once more against the query as it was read."""
    x = witness.x[index]
    if not holds(prop, x, witness.y):
        raise AssertionError("a witness of the merged query does not satisfy the query")
    return Witness(x, witness.y[: interface.n_outputs].astype(x.dtype))
