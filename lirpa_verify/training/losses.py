"""Upper bounds of the cross-entropy over a perturbation, class by class or fused.

The cross-entropy of class y is ``log sum_j exp(z_j - z_y)``. Class by class, every difference is
bounded from above with a backward row of its own: as many rows as classes. Fused (arXiv:2002.12920,
section 3.3), the exponentials are replaced by chords over intervals of the differences, and their
sum, one linear function of the logits, is bounded with a single row per example.

Both are at least the largest loss. With the same bounds on both sides, that is with chords over [l, u] whose
upper ends are the backward bounds of the differences, fused is at least as tight (theorem 2 of that paper):

    largest loss <= fused <= class by class.

A chord is the exponential itself at u, so the chords at the backward bounds add up to the bound class by class;
and a backward pass never gives more for the largest value of a sum than its parts add up to, because each
relaxation and the region take a maximum once for all of them.

- It is less where the differences are not largest at one point: with x and -x for x in [-1, 1] it is
  log(1 + 2 cosh 1), which is the largest loss, and class by class log(1 + 2 e).
- It is equal where the rows of all differences take the same lines and the same point: for two classes, for
  differences that are positive multiples of each other, and for a set of one point.

Training takes u from interval arithmetic, which costs no row. These are other bounds, and the theorem does not
apply: each class loses what its chord lies above the curve at its backward bound, all gain from being bounded as
one, and either of the two may be the tighter one. For two classes nothing is gained: fused >= class by class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lirpa_verify.library.bounded import Bounded, Inputs, Query
from lirpa_verify.library.passes import region_minimum, rows_backward, rows_from_nodes
from lirpa_verify.library.rows import check_labels, margin_rows
from lirpa_verify.operators.base import Interval
from lirpa_verify.perturbations.base import Perturbation

METHODS = ("ibp", "crown-ibp", "fused")


def cross_entropy_of_margins(margins: Tensor) -> Tensor:
    """``log(1 + sum exp(-margin))``: (batch, classes - 1) lower bounds of margins to (batch,) upper bounds."""
    zero = margins.new_zeros(len(margins), 1)
    return torch.logsumexp(torch.cat([zero, -margins], 1), 1)


def differences(logits: Interval, labels: Tensor) -> Interval:
    """Intervals of ``z_j - z_label`` from those of the logits, exactly 0 for the label: (batch, classes)."""
    lower, upper = logits
    index = labels.unsqueeze(1)
    own = torch.zeros_like(lower, dtype=torch.bool).scatter(1, index, True)
    low, high = lower - upper.gather(1, index), upper - lower.gather(1, index)
    return Interval(low.masked_fill(own, 0), high.masked_fill(own, 0))


def interval_loss(query: Query, labels: Tensor) -> Tensor:
    """Upper bounds (batch,) from the intervals of the logits, each class with the label's other end."""
    return torch.logsumexp(differences(query.logits, labels).upper, 1)


def interval_margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds (batch, classes - 1) of the margins, the last layer merged with them (arXiv:1810.12715).

    Costs a row per class, but no backward pass beyond the last layer.
    """
    rows = query.rows(margin_rows(labels, query.graph.n_outputs))
    return rows_from_nodes(query.graph, rows, query.region, query.values)


def backward_margins(query: Query, labels: Tensor) -> Tensor:
    """Lower bounds (batch, classes - 1) of the margins from a backward row per class (arXiv:1906.06316)."""
    return query.lower(query.rows(margin_rows(labels, query.graph.n_outputs)))


def fused_loss(query: Query, labels: Tensor, intervals: Interval | None = None) -> Tensor:
    """Upper bounds (batch,) from one backward row per example, whatever the number of classes.

    Args:
        query: of the logits; its node intervals are used.
        labels: ``(batch,)``.
        intervals: of the differences ``z_j - z_label``, ``(batch, classes)``; by default those that follow from
            the logits' own intervals.
    """
    lower, upper = differences(query.logits, labels) if intervals is None else intervals
    shift = upper.detach().amax(1, keepdim=True)  # every exponential is divided by exp(shift): none overflows
    width = upper - lower
    wide = width > 1e-6
    ends = torch.exp(lower - shift), torch.exp(upper - shift)
    slope = torch.where(wide, (ends[1] - ends[0]) / torch.where(wide, width, 1), ends[1])
    constant = (ends[1] - slope * upper).sum(1)
    row = slope.scatter_add(1, labels.unsqueeze(1), -slope.sum(1, keepdim=True))  # over the logits themselves
    linear = rows_backward(query.graph, -row.unsqueeze(1), query.values)
    largest = constant - region_minimum(linear, query.region).squeeze(1)
    least = torch.exp(-shift).clamp(min=torch.finfo(shift.dtype).tiny).squeeze(1)  # the label's own term is 1
    return shift.squeeze(1) + torch.log(torch.maximum(largest, least))


def robust_loss(
    bounded: Bounded,
    inputs: Inputs,
    labels: Tensor,
    method: str = "fused",
    share: float = 1.0,
    parameters: Mapping[str, Perturbation] | None = None,
    values: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Upper bounds of the cross-entropy over a perturbation, made for training: ``(batch,)``.

    Args:
        bounded: a classifier.
        inputs: as for `Bounded.bounds`.
        labels: ``(batch,)``.
        method: `ibp`, a row per class at the last layer (arXiv:1810.12715); `crown-ibp`, a backward row per class
            (arXiv:1906.06316); `fused`, one backward row (arXiv:2002.12920, section 3.3).
        share: of the backward bound, the rest being that of interval arithmetic, as CROWN-IBP mixes them while
            the radius grows: the margins for `crown-ibp`, the losses for `fused`. With 0 no backward pass is made.
        parameters: as for `Bounded.bounds`.
        values: as for `Bounded.bounds`.

    Raises:
        ValueError: an unknown method, or labels that are none.
    """
    if method not in METHODS:
        raise ValueError(f"unknown training method {method!r}; there are {', '.join(METHODS)}")
    query = bounded.query(inputs, "crown-ibp", parameters=parameters, values=values)
    check_labels(labels, query.graph.n_outputs)
    if method == "fused":
        return mixed(share, lambda: fused_loss(query, labels), lambda: interval_loss(query, labels))
    backward_share = share if method == "crown-ibp" else 0.0
    return cross_entropy_of_margins(
        mixed(backward_share, lambda: backward_margins(query, labels), lambda: interval_margins(query, labels))
    )


def mixed(share: float, backward: Callable[[], Tensor], interval: Callable[[], Tensor]) -> Tensor:
    """A share of the one and the rest of the other; what has no share is not computed."""
    if share <= 0:
        return interval()
    return backward() if share >= 1 else share * backward() + (1 - share) * interval()
