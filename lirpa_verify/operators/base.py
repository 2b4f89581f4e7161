"""What an operator is: a function with an interval rule and a rule for linear bounds.

Shapes: a node's value is ``(batch, *node)``; coefficients of linear functions of it are
``(batch, rows, *node)``, where ``batch`` may be 1 for coefficients shared by all boxes. A backward
rule turns a lower bound on ``<coefficients, f(x)>`` into one on ``<new coefficients, x> + offset``
(arXiv:2002.12920, section 3); upper bounds are lower bounds of the negated rows. A forward rule
composes the operator with linear functions of the network's input that enclose its arguments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lirpa_verify.operators.transforms import holds

MANY_TERMS = 100_000  # more than networks at hand add up


class Interval(NamedTuple):
    lower: Tensor  # (batch, *node)
    upper: Tensor  # (batch, *node)


class Slopes(NamedTuple):
    """Free parameters of a relaxation, those of the bound below the function and of the one above it.

    Usually slopes, for functions of constant curvature and for softmax the points of tangency, for
    products the mix of two planes; ``(batch, rows or 1, ...)``, with no entries where nothing is free.
    """

    lower: Tensor
    upper: Tensor


class Lines(NamedTuple):
    """``lower * x + lower_offset <= f(x) <= upper * x + upper_offset`` on the argument's interval.

    Each is ``(batch, rows or 1, *node)``. Where no line bounds the function on a side, its slope is 0
    and its offset infinite, and `finite` is False.
    """

    lower: Tensor
    lower_offset: Tensor
    upper: Tensor
    upper_offset: Tensor
    finite: bool = True
    through_zero: bool = False  # all lower offsets are 0

    def select(self, chosen: Callable[[Tensor], Tensor]) -> Lines:
        """The same lines of some of the boxes."""
        lower, upper = (chosen(self.lower), chosen(self.lower_offset)), (chosen(self.upper), chosen(self.upper_offset))
        return Lines(*lower, *upper, self.finite, self.through_zero)


Relaxations = Callable[["Slopes"], Lines]  # lines for positions in [0, 1] of the free slopes within their ranges


class Backward(NamedTuple):
    coefficients: tuple[Tensor | None, ...]  # one per argument, (batch, rows, *argument); None for zeros
    offset: Tensor  # (batch, rows)


class LinearForms(NamedTuple):
    """Linear functions of the input that enclose a node: ``lower_weight . x + lower_offset <= node``."""

    lower_weight: Tensor  # (batch, inputs, *node)
    lower_offset: Tensor  # (batch, *node)
    upper_weight: Tensor
    upper_offset: Tensor


@dataclass(frozen=True)
class Operator:
    """Base of all operators; `arguments with a relaxation` are those in `bounded`."""

    @property
    def bounded(self) -> bool:
        """Whether the rules for linear bounds need intervals of the arguments (a nonlinear operator)."""
        return False

    @property
    def rounded_terms(self) -> int:
        """At least as many as an entry's interval adds up: its rounding errors grow with them. 0 where none occur."""
        return MANY_TERMS

    @property
    def adds_up(self) -> bool:
        """Whether entries are sums whose terms may cancel: rounding errors are relative to these, not to the sums."""
        return False

    def forward(self, *arguments: Tensor) -> Tensor:
        """Value on a batch: ``(batch, *argument)`` each, to ``(batch, *node)``."""
        raise NotImplementedError

    def defined(self, *arguments: Tensor) -> bool:
        """Whether models have values at these points; where they read outside of a tensor, they fail."""
        return True

    def interval(self, *arguments: Interval) -> Interval:
        """Interval that encloses the values on intervals of the arguments."""
        raise NotImplementedError

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        """Lower bound of ``<rows, f(arguments)>`` by linear functions of the arguments."""
        raise NotImplementedError

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        """Enclosing linear functions of the input, from those of the arguments."""
        raise NotImplementedError

    @property
    def exact_image(self) -> bool:
        """Whether the interval rule is exact entry by entry: then linear bounds of the result are no tighter.

        Only for operators of one argument. What is wanted tighter of the result is bounded at the argument.
        """
        return False

    @property
    def opaque(self) -> bool:
        """Whether linear bounds of the result never depend on the arguments: they are no tighter than its interval."""
        return False

    @property
    def settled(self) -> bool:
        """Whether the rules for linear bounds are the same whatever the intervals of the arguments are."""
        return not self.bounded

    def needed(self, wanted: Tensor, interval: Interval) -> Tensor:
        """Entries of the argument that some `wanted` entries of the result depend on; both (batch, *node) masks."""
        return wanted

    def undecided(self, interval: Interval, position: int) -> Tensor:
        """Mask ``(batch, *argument)`` of the argument at `position`: where tighter bounds would help the relaxation."""
        return interval.upper > interval.lower

    def relaxation(self, interval: Interval, slopes: Slopes | None) -> Lines | None:
        """The lines that the rules for linear bounds use, which may be kept for several passes.

        None for operators that are not element-wise functions of one argument.
        """
        return None

    def relaxations(self, interval: Interval) -> Relaxations | None:
        """All choices of slopes over an interval, with what they have in common worked out once.

        None where that saves nothing: `relaxation` tells the lines of one choice.
        """
        return None

    def default_slopes(self, *intervals: Interval) -> Slopes | None:
        """Initial free slopes ``(batch, 1, *node)``, or None where the operator has none to optimise."""
        return None

    def slope_range(self, *intervals: Interval) -> tuple[Slopes, Slopes] | None:
        """Smallest and largest slopes worth trying, as `default_slopes`."""
        return None

    @property
    def sign_decides(self) -> bool:
        """Whether the relaxation is exact once the sign of the argument is known."""
        return False

    @property
    def splittable(self) -> bool:
        """Whether splitting the argument's interval makes the relaxation tighter (and `gaps` is there)."""
        return False

    def gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor] | None:
        """Largest distance between the function and its lower and upper lines, ``(batch, rows or 1, *node)``.

        None for operators that are not element-wise functions of one argument: those are not split.
        """
        return None

    def costly_gaps(self, interval: Interval, slopes: Slopes | None) -> tuple[Tensor, Tensor] | None:
        """Distances, as those of `gaps`, that a bound with optimised slopes may pay for."""
        return self.gaps(interval, slopes)

    def split_point(self, interval: Interval) -> Tensor:
        """Where to cut the argument's interval in two, ``(batch, *argument)``."""
        return (interval.lower + interval.upper) / 2

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Operator:
        """The same operator with every floating tensor field replaced (to another dtype or device)."""
        changes = {
            f.name: function(value)
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(self, **changes) if changes else self


@dataclass(frozen=True)
class Linear(Operator):
    """An operator that is linear (affine) in its arguments taken together.

    Subclasses give `forward`, `transpose` and, where coefficients may be negative, `absolute`.
    """

    @property
    def adds_up(self) -> bool:
        return True

    def linear(self, *arguments: Tensor) -> Tensor:
        """The operator without its constant part."""
        return self.forward(*arguments)

    def constant(self) -> Tensor | None:
        """The constant part, broadcastable to ``(*node)``; None for zero."""
        return None

    def transpose(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Coefficients of the arguments: ``(batch, rows, *node)`` to ``(batch, rows, *argument)`` each."""
        raise NotImplementedError

    def absolute(self, *arguments: Tensor) -> Tensor:
        """The linear part with the absolute values of its coefficients; by default they are not negative."""
        return self.linear(*arguments)

    def term_sizes(self, *arguments: Tensor) -> Tensor:
        """At least the sum of the magnitudes of each entry's terms, from the magnitudes of the arguments."""
        constant = self.constant()
        size = self.absolute(*arguments)
        return size if constant is None else size + constant.abs()

    @property
    def around_middle(self) -> bool:
        """Whether intervals come from middles and radii: either end is then rounded as the larger one is."""
        return type(self).absolute is not Linear.absolute

    @property
    def one_signed(self) -> tuple[Tensor, Tensor] | None:
        """Masks (broadcastable to the node) of entries that no, and only, negative coefficients belong to.

        None where there are none, or where `around_middle` is not so.
        """
        return None

    def interval(self, *arguments: Interval) -> Interval:
        if type(self).absolute is Linear.absolute:  # no coefficient is negative: ends become ends, nothing cancels
            constant = self.constant()
            ends = (self.linear(*(a.lower for a in arguments)), self.linear(*(a.upper for a in arguments)))
            return Interval(*ends) if constant is None else Interval(*(end + constant for end in ends))
        middle = self.linear(*[(a.lower + a.upper) / 2 for a in arguments])
        radius = self.absolute(*[(a.upper - a.lower) / 2 for a in arguments])
        constant = self.constant()
        if constant is not None:
            middle = middle + constant
        return Interval(middle - radius, middle + radius)

    def backward(self, rows: Tensor, intervals: tuple[Interval, ...], slopes: Slopes | None) -> Backward:
        constant = self.constant()
        return Backward(self.transpose(rows), zero_offset(rows) if constant is None else pair(rows, constant))

    def compose(self, forms: tuple[LinearForms, ...], intervals: tuple[Interval, ...]) -> LinearForms:
        """With M = P - N split by sign (P = (|M| + M)/2): lower = M(l+u)/2 - |M|(u-l)/2, and so on."""
        n = forms[0].lower_weight.shape[1]

        def both(function: Callable[..., Tensor], lower: list[Tensor], upper: list[Tensor], sign: float) -> Tensor:
            return function(*[(u + sign * v) / 2 for v, u in zip(lower, upper, strict=True)])

        lw = [form.lower_weight.flatten(0, 1) for form in forms]
        uw = [form.upper_weight.flatten(0, 1) for form in forms]
        lo, uo = [form.lower_offset for form in forms], [form.upper_offset for form in forms]
        middle, radius = both(self.linear, lw, uw, 1.0), both(self.absolute, lw, uw, -1.0)
        centre, spread = both(self.linear, lo, uo, 1.0), both(self.absolute, lo, uo, -1.0)
        constant = self.constant()
        if constant is not None:
            centre = centre + constant
        return LinearForms(
            (middle - radius).unflatten(0, (-1, n)),
            centre - spread,
            (middle + radius).unflatten(0, (-1, n)),
            centre + spread,
        )


def zero_offset(rows: Tensor) -> Tensor:
    return rows.new_zeros(rows.shape[:2])


def pair(rows: Tensor, values: Tensor) -> Tensor:
    """``<rows, values>`` over the node: (batch, rows, *node) with (*node) or (batch, *node) -> (batch, rows)."""
    if values.dim() <= rows.dim() - 2:
        return flat(rows) @ values.expand(rows.shape[2:]).reshape(-1)
    if values.shape[0] == 1:
        return flat(rows) @ values[0].expand(rows.shape[2:]).reshape(-1)
    values = flat(values.expand(-1, *rows.shape[2:]), 1)
    return torch.matmul(flat(rows), values.unsqueeze(2)).squeeze(2)


def flat(values: Tensor, leading: int = 2) -> Tensor:
    """All dimensions after the first `leading` ones as one, which is there for scalars too."""
    return values.reshape(*values.shape[:leading], math.prod(values.shape[leading:]))


def all_finite(values: tuple[Tensor, ...], otherwise: bool = False) -> bool:
    """Whether all entries are finite (a sum that overflows counts as not finite); `otherwise` where they are hidden."""
    with torch.no_grad():
        return holds(torch.isfinite(torch.stack([value.sum() for value in values]).sum()), otherwise)


def contract(rows: Tensor, offsets: Tensor, finite: bool = True) -> Tensor:
    """Sums coefficients times offsets over the node: (batch, rows, *node) twice -> (batch, rows).

    An infinite offset makes the sum -inf, but not where its coefficient is 0.
    """
    if not finite:
        infinite = torch.isinf(offsets)
        hit = flat((rows != 0) & infinite).any(2)
        return contract(rows, offsets.masked_fill(infinite, 0.0)).masked_fill(hit, -torch.inf)
    if offsets.shape[1] == 1 and rows.dim() > 2:
        return torch.matmul(flat(rows), flat(offsets).mT).squeeze(2)
    return flat(rows * offsets).sum(2)


def lines_backward(rows: Tensor, lines: Lines) -> Backward:
    """Backward rule of an element-wise function of one argument from its enclosing lines.

    Rows of either sign are kept apart: one slope may be so steep that it leaves nothing of the other in a sum.
    """
    negative = rows.clamp(max=0)
    positive = rows - negative
    offset = contract(negative, lines.upper_offset, lines.finite)
    if not lines.through_zero:
        offset = offset + contract(positive, lines.lower_offset, lines.finite)
    return Backward((torch.addcmul(positive * lines.lower, negative, lines.upper),), offset)


def lines_compose(form: LinearForms, lines: Lines) -> LinearForms:
    """Forward rule of an element-wise function of one argument; lines have rows = 1."""

    def through(slope: Tensor, offset: Tensor, lower_side: bool) -> tuple[Tensor, Tensor]:
        up, down = slope.clamp(min=0), slope.clamp(max=0)  # (batch, 1, *node)
        first, second = (0, 2) if lower_side else (2, 0)
        weight = up * form[first] + down * form[second]
        return weight, up.squeeze(1) * form[first + 1] + down.squeeze(1) * form[second + 1] + offset.squeeze(1)

    lower = through(lines.lower, lines.lower_offset, True)
    upper = through(lines.upper, lines.upper_offset, False)
    return LinearForms(*lower, *upper)
