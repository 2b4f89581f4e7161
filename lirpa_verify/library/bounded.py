"""Bounds of any torch module or function, over any perturbation of its inputs and parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lirpa_verify.bounds.crown import LinearBound, with_negated
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.graph import Graph
from lirpa_verify.graph.lower import Rule, lower
from lirpa_verify.graph.simplify import simplify_structure
from lirpa_verify.library.decide import decide
from lirpa_verify.library.live import OUTPUT, bind, floating_state, one_example, record_live
from lirpa_verify.library.optimise import optimised_slopes
from lirpa_verify.library.passes import (
    Inner,
    bound_nodes,
    region_minimum,
    rows_backward,
    rows_forward,
    rows_from_nodes,
)
from lirpa_verify.library.rows import batched_rows, chosen_rows, margin_rows
from lirpa_verify.load.recording import Recording
from lirpa_verify.load.trim import trim
from lirpa_verify.operators.base import Interval
from lirpa_verify.perturbations.base import Perturbation
from lirpa_verify.perturbations.region import Region, joined
from lirpa_verify.strategy import Options
from lirpa_verify.verdict import Result

Method = Literal["ibp", "crown", "crown-ibp", "forward", "forward+crown", "alpha-crown"]
INNER: dict[str, Inner] = {
    "ibp": "ibp",
    "crown-ibp": "ibp",
    "forward": "forward",
    "forward+crown": "forward",
    "crown": "crown",
    "alpha-crown": "crown",
}
ALPHA_STEPS = 20

Inputs = Perturbation | Tensor | Sequence[Perturbation | Tensor]


class Bounds(NamedTuple):
    """``lower <= value <= upper``, both ``(batch, ...)``."""

    lower: Tensor
    upper: Tensor


class LinearBounds(NamedTuple):
    """Linear functions of the inputs around a value, on the whole perturbation set.

    ``sum_i <lower[i], x_i> + lower_offset <= value <= sum_i <upper[i], x_i> + upper_offset`` with one
    x_i, ``(batch, *input)``, per input (then one per perturbed parameter).
    """

    lower: tuple[Tensor, ...]  # per input (batch, rows, *input)
    lower_offset: Tensor  # (batch, rows)
    upper: tuple[Tensor, ...]
    upper_offset: Tensor


@dataclass(frozen=True)
class Query:
    """A graph at its present parameters with what its inputs may be, and the intervals of its nodes."""

    graph: Graph
    region: Region
    method: Method
    values: list[Interval]
    shape: tuple[int, ...]  # of the bounded value, without the batch

    @property
    def logits(self) -> Interval:
        """The interval of the flat output that the pass over all nodes found: ``(batch, outputs)``."""
        return Interval(*(end.expand(self.region.batch, -1) for end in self.values[-1]))

    def rows(self, specification: Tensor | None) -> Tensor:
        """``(batch or 1, rows, outputs)``; every entry of the output where none are given."""
        like = self.region.box.lower
        n = self.graph.n_outputs
        if specification is None:
            return torch.eye(n, dtype=like.dtype, device=like.device).unsqueeze(0)
        return batched_rows(specification, self.region.batch, n).to(like)

    def linear(self, rows: Tensor, steps: int = ALPHA_STEPS) -> LinearBound:
        """Linear functions of the input below ``<rows, output>``."""
        if self.method == "forward":
            return rows_forward(self.graph, rows, self.region, self.values)
        slopes = None
        if self.method == "alpha-crown":
            slopes = optimised_slopes(self.graph, rows, self.region, self.values, steps)
        return rows_backward(self.graph, rows, self.values, slopes)

    def lower(self, rows: Tensor, steps: int = ALPHA_STEPS) -> Tensor:
        """Lower bounds of ``<rows, output>``: (batch, rows)."""
        if self.method == "ibp":
            return rows_from_nodes(self.graph, rows, self.region, self.values)
        return region_minimum(self.linear(rows, steps), self.region)


class Bounded:
    """A module, or function of tensors, whose values can be bounded.

    The first dimension of every input is the batch; examples must not influence each other. The function
    is recorded once, on one example, and modules in evaluation mode; bounds always use the parameters
    as they are when asked, and have first derivatives with respect to them, also under `torch.func`.

    Args:
        function: a `torch.nn.Module`, or a function from tensors to a tensor (or several).
        examples: one tensor per input, ``(any batch, *input)``; values only matter to the shapes.
        state: for functions that are not modules: tensors they use that are to have gradients or to be
            perturbed, by name. Everything else a function uses is a constant.
        rules: how calls that the library does not know become operators, by the name of the ATen (or custom)
            call without its overload; docs/operators.md shows how to write one.

    Raises:
        UnsupportedOperator: an operation without a bound rule, or control flow that depends on values.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *examples: Tensor,
        state: Mapping[str, Tensor] | None = None,
        rules: Mapping[str, Rule] | None = None,
    ) -> None:
        self.function = function
        self._rules = {**RULES, **(rules or {})}
        self._state = dict(state or {})
        self._live = record_live(function, [one_example(e) for e in examples], self.state())
        self._trimmed: dict[str, Recording] = {}  # per node what leads to it
        self.graph()  # an operation without a rule is refused here and not at the first bound

    def state(self) -> dict[str, Tensor]:
        """Parameters and floating buffers by name."""
        return self._state or (floating_state(self.function) if isinstance(self.function, torch.nn.Module) else {})

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the values that can be bounded: the output's and those of the submodules that ran.

        ``name[1]`` is the second tensor that a submodule returns, ``name@2`` what its second call returns.
        """
        return tuple(self._live.outputs)

    def bounds(
        self,
        inputs: Inputs,
        method: Method = "crown",
        *,
        specification: Tensor | None = None,
        labels: Tensor | None = None,
        node: str = OUTPUT,
        parameters: Mapping[str, Perturbation] | None = None,
        values: Mapping[str, Tensor] | None = None,
        steps: int = ALPHA_STEPS,
    ) -> Bounds:
        """Lower and upper bounds over everything that the inputs may be.

        Costs: `ibp` about two forward passes. A backward row costs about one backward pass of the module, and
        every example has two rows per bounded value: `crown-ibp` spends them on the output alone, `crown`
        also on every nonlinear operator's undecided arguments, `alpha-crown` repeats the last pass and
        differentiates it `steps` times. `forward` costs as many forward passes as an example has entries.

        Args:
            inputs: per input a perturbation, or a tensor ``(batch, *input)`` that does not vary.
            method: `ibp` (arXiv:1810.12715), `crown` (arXiv:1811.00866, arXiv:2002.12920), `crown-ibp`
                (arXiv:1906.06316), `forward` and `forward+crown` (arXiv:2002.12920, section 3.1: how nodes are
                bounded, then how the output is), `alpha-crown` (arXiv:2011.13824).
            specification: linear functions of the flattened output to bound, ``(rows, outputs)``, or
                ``(batch, rows, outputs)``.
            labels: instead, ``(batch,)`` classes: the rows are then the margins of that class over every other.
            node: what to bound, one of `nodes`.
            parameters: per name of a parameter its perturbation, with a batch dimension of 1 in front (or of
                the batch's size). Linear functions of them come in the order of `state`.
            values: parameters and buffers that take other values than the module's present ones; buffers of
                integers are ignored.
            steps: of optimisation, for `alpha-crown`.

        Returns:
            ``(batch, *output)`` ends, or ``(batch, rows)`` with a specification or labels. They hold up to
            rounding of the inputs' precision; `verify` accounts for rounding.

        Raises:
            ValueError: an unknown method, node or parameter, labels that are no classes, or shapes that do not fit.
            EmptySet: a box with linear constraints contains no point.
        """
        query = self.query(inputs, method, node, parameters, values)
        given = chosen_rows(specification, labels, query.graph.n_outputs)
        if given is None and method == "ibp":
            ends = query.values[-1]
            return Bounds(*(end.expand(query.region.batch, -1).reshape(-1, *query.shape) for end in ends))
        rows = query.rows(given)
        least = query.lower(with_negated(rows), steps)
        lower_end, upper_end = least[:, : rows.shape[1]], -least[:, rows.shape[1] :]
        if given is None:
            return Bounds(lower_end.reshape(-1, *query.shape), upper_end.reshape(-1, *query.shape))
        return Bounds(lower_end, upper_end)

    def margins(
        self,
        inputs: Inputs,
        labels: Tensor,
        method: Method = "crown",
        *,
        parameters: Mapping[str, Perturbation] | None = None,
        values: Mapping[str, Tensor] | None = None,
        steps: int = ALPHA_STEPS,
    ) -> Tensor:
        """Lower bounds of ``output[label] - output[other]`` for every other class, in order: ``(batch, classes - 1)``.

        An example keeps its label over the whole perturbation if all of them are positive. Arguments as for
        `bounds`, at half its cost.
        """
        query = self.query(inputs, method, OUTPUT, parameters, values)
        return query.lower(query.rows(margin_rows(labels, query.graph.n_outputs)), steps)

    def linear(
        self,
        inputs: Inputs,
        method: Method = "crown",
        *,
        specification: Tensor | None = None,
        node: str = OUTPUT,
        parameters: Mapping[str, Perturbation] | None = None,
        values: Mapping[str, Tensor] | None = None,
        steps: int = ALPHA_STEPS,
    ) -> LinearBounds:
        """The linear functions of the inputs that `bounds` takes the extremes of. Arguments as for `bounds`.

        Raises:
            ValueError: also for `ibp`, which makes none.
        """
        if method == "ibp":
            raise ValueError("interval bounds are no linear functions of the input; crown-ibp are")
        query = self.query(inputs, method, node, parameters, values)
        rows = query.rows(specification)
        bound = query.linear(with_negated(rows), steps)
        weight = bound.weight.expand(query.region.batch, -1, -1)
        offset, n = bound.offset.expand(query.region.batch, -1), rows.shape[1]
        return LinearBounds(
            tuple(query.region.split(weight[:, :n])),
            offset[:, :n],
            tuple(query.region.split(-weight[:, n:])),
            -offset[:, n:],
        )

    def verify(
        self,
        inputs: Inputs,
        *,
        labels: Tensor | None = None,
        specification: Tensor | None = None,
        parameters: Mapping[str, Perturbation] | None = None,
        timeout: float = 60.0,
        options: Options | None = None,
    ) -> list[Result]:
        """Whether a label, or a specification, holds on the whole perturbation, example by example.

        The answers are the command line's: `unsat` if every margin (every ``<row, output>``) is certainly
        above 0, rounding included; `sat` with a witness, run by torch in the module's precision, if one is 0
        or less somewhere; else `unknown` or `timeout`. Boxes, with or without linear constraints, and zonotopes are
        split as on the command line; word substitutions are tried one by one where there are at most 20,000; other
        sets are bounded whole.

        Args:
            inputs: as for `bounds`.
            labels: ``(batch,)`` classes whose margins over every other class must be positive.
            specification: instead, ``(rows, outputs)`` or ``(batch, rows, outputs)``.
            parameters: as for `bounds`.
            timeout: seconds per example.
            options: method, device and seed, as for `lirpa_verify.verify`.

        Raises:
            ValueError: neither labels nor a specification, or both, or shapes that do not fit.
            EmptySet: a box with linear constraints contains no point.
        """
        outputs = math.prod(self.shape_of(OUTPUT))
        given = chosen_rows(specification, labels, outputs)
        if given is None:
            raise ValueError("verify needs labels or a specification")
        with torch.no_grad():
            region = self.region(inputs, parameters).to(torch.float64, "cpu")
            recording = self._recording_of(tuple(parameters or ()), None, OUTPUT)
            graph = simplify_structure(lower(recording, self._rules)).map_tensors(lambda t: t.detach().cpu())
            rows = batched_rows(given, region.batch, outputs).double().cpu().expand(region.batch, -1, -1)
        return [
            decide(recording, graph, region.example(i), rows[i], Deadline.after(timeout), options or Options())
            for i in range(region.batch)
        ]

    def query(
        self,
        inputs: Inputs,
        method: Method,
        node: str = OUTPUT,
        parameters: Mapping[str, Perturbation] | None = None,
        values: Mapping[str, Tensor] | None = None,
    ) -> Query:
        """What bounds are made from: the graph at its present parameters and the intervals of its nodes."""
        if method not in INNER:
            raise ValueError(f"unknown method {method!r}; there are {', '.join(INNER)}")
        region = self.region(inputs, parameters)
        ends = region.box.lower
        graph = self.graph(tuple(parameters or ()), values, node).to(ends.dtype, ends.device)
        return Query(graph, region, method, bound_nodes(graph, region, INNER[method]), self.shape_of(node))

    def region(self, inputs: Inputs, parameters: Mapping[str, Perturbation] | None = None) -> Region:
        """The perturbations of all inputs and parameters together, checked against the recorded shapes."""
        given = [inputs] if isinstance(inputs, Perturbation | Tensor) else list(inputs)
        specs = self._live.recording.inputs[: self._live.n_inputs]
        if len(given) != len(specs):
            raise ValueError(f"{len(given)} inputs given to a function of {len(specs)}")
        for part, expected in zip(given, specs, strict=True):
            if not isinstance(part, Perturbation | Tensor):
                raise ValueError(f"{expected.name} is neither a perturbation nor a tensor: {type(part).__name__}")
            if part.shape[:1] == (0,) or tuple(part.shape[1:]) != expected.shape[1:]:
                wanted = ", ".join(("batch", *map(str, expected.shape[1:])))
                raise ValueError(f"{expected.name} has shape ({wanted}), given {tuple(part.shape)}")
        varied = parameters or {}
        self._check_parameters({name: tuple(part.shape[1:]) for name, part in varied.items()})
        return joined([*given, *(varied[name] for name in self._live.state if name in varied)])

    def _check_parameters(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        recorded = self._live.recording.inputs[self._live.n_inputs :]
        known = {name: spec.shape for name, spec in zip(self._live.state, recorded, strict=True)}
        for name, shape in shapes.items():
            if name not in known:
                raise ValueError(f"there is no parameter {name!r}; there are {', '.join(known) or 'none'}")
            if shape != known[name]:
                raise ValueError(f"parameter {name} has shape {known[name]}, given {shape}")

    def graph(
        self, perturbed: Sequence[str] = (), values: Mapping[str, Tensor] | None = None, node: str = OUTPUT
    ) -> Graph:
        """The graph, in float64, of a node as a function of the inputs and the perturbed parameters."""
        return simplify_structure(lower(self._recording_of(perturbed, values, node), self._rules))

    def _recording_of(self, perturbed: Sequence[str], values: Mapping[str, Tensor] | None, node: str) -> Recording:
        """What leads to a node, everything but the inputs and the perturbed parameters computed."""
        if node not in self._live.outputs:
            raise ValueError(f"there is no node {node!r}; there are {', '.join(self.nodes)}")
        given = {name: value for name, value in (values or {}).items() if value.is_floating_point()}
        self._check_parameters({name: tuple(value.shape) for name, value in given.items()})
        state = {**self.state(), **given}
        first = self._live.n_inputs
        present = {first + i: state[name] for i, name in enumerate(self._live.state) if name not in perturbed}
        if node not in self._trimmed:
            whole = self._live.recording
            self._trimmed[node] = trim(
                replace(whole, outputs=tuple(whole.outputs[i] for i in self._live.outputs[node]))
            )
        return bind(self._trimmed[node], present)

    def shape_of(self, node: str) -> tuple[int, ...]:
        """Of one example's value; several outputs are joined, flat."""
        shapes = [self._live.recording.output_specs[i].shape for i in self._live.outputs[node]]
        if len(shapes) > 1:
            return (sum(math.prod(shape) for shape in shapes),)
        return shapes[0][1:] if shapes[0][:1] == (1,) else shapes[0]
