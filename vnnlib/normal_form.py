"""A query to its normal form: bounds of inputs into boxes, everything else into sparse rows.

A strict bound ``x < c`` goes both ways: the box takes it as ``x <= c``, which is all that a box can say,
and a strict row remembers that the face itself is excluded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vnnlib.constraints import LINEAR_ROW
from vnnlib.dnf import Dnf, TooLarge, all_of, offsets, ranges
from vnnlib.errors import UnsupportedVnnlib
from vnnlib.implied import Row, complete_bounds
from vnnlib.parser import Query
from vnnlib.property import Property
from vnnlib.reduction import NO_VARIABLE

_BLOCK = 1 << 20  # numbers that are held densely while repeated boxes are being found
_MOST_BOUNDS = 1 << 27  # numbers in all boxes together: 1 GB


def normal_form(query: Query) -> Property:
    boxes = _boxes(query)
    alive = np.all(boxes.lower <= boxes.upper, axis=1)[boxes.of_disjunct]
    rows = _rows(query, alive)
    if np.isinf(boxes.lower).any() or np.isinf(boxes.upper).any():
        boxes = _with_implied_bounds(query.n_inputs, boxes, rows, np.flatnonzero(alive))
        alive &= np.all(boxes.lower <= boxes.upper, axis=1)[boxes.of_disjunct]
        rows = _rows(query, alive)
    excluded = _only_excluded_faces(query.n_inputs, boxes, rows, np.flatnonzero(alive))
    if len(excluded):
        alive[excluded] = False
        rows = _rows(query, alive)
    used = np.bincount(boxes.of_disjunct[alive], minlength=len(boxes.lower)) > 0
    box = (np.cumsum(used) - 1)[boxes.of_disjunct[alive]]
    lower, upper = boxes.lower[used], boxes.upper[used]
    _require_bounds(query, lower, upper, np.flatnonzero(alive), box)
    return Property(
        n_inputs=query.n_inputs,
        n_outputs=query.n_outputs,
        lower=lower,
        upper=upper,
        box=box,
        row_start=rows.row_start,
        term_start=rows.term_start,
        variable=rows.variable,
        coefficient=rows.coefficient,
        rhs=rows.rhs,
        strict=rows.strict,
    )


# Boxes


@dataclass(frozen=True)
class _Boxes:
    """Distinct boxes in the order in which disjuncts first use them; they may be empty or unbounded."""

    lower: np.ndarray
    upper: np.ndarray
    of_disjunct: np.ndarray  # int64


def _boxes(query: Query) -> _Boxes:
    n, cases = query.n_inputs, query.cases
    common = np.repeat([-np.inf, np.inf], n)[None]  # a box is a row: all lower bounds, then all upper bounds
    _tighten(query, common, query.common, np.zeros(len(query.common), dtype=np.int64))
    of_disjunct = np.empty(len(cases), dtype=np.int64)
    number_of: dict[bytes, int] = {}
    step = max(1, _BLOCK // (2 * n))
    for begin in range(0, len(cases), step):
        end = min(begin + step, len(cases))
        dense, place = _dense_boxes(query, common, begin, end)
        keys = dense.view(np.dtype((np.void, dense.strides[0]))).ravel().tolist()
        of_disjunct[begin:end] = [number_of.setdefault(keys[p], len(number_of)) for p in place.tolist()]
        if len(number_of) * 2 * n > _MOST_BOUNDS:
            offset = int(query.comparisons.start[cases.item[cases.start[begin]]])
            message = f"the distinct input boxes have more than {_MOST_BOUNDS} bounds"
            raise query.text.error(offset, message, "a smaller query", UnsupportedVnnlib)
    pairs = np.frombuffer(b"".join(number_of), dtype=np.float64).reshape(-1, 2 * n)
    return _Boxes(pairs[:, :n].copy(), pairs[:, n:].copy(), of_disjunct)


def _dense_boxes(query: Query, common: np.ndarray, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The common box and those of the disjuncts that tighten it, and which of them each disjunct has."""
    cases = query.cases
    item = cases.item[cases.start[begin] : cases.start[end]]
    bound = _is_bound(query, item)
    disjunct = np.repeat(np.arange(end - begin), cases.size[begin:end])[bound]
    has_own = np.bincount(disjunct, minlength=end - begin) > 0
    place = np.where(has_own, np.cumsum(has_own), 0)
    dense = np.repeat(common, 1 + np.count_nonzero(has_own), axis=0)
    _tighten(query, dense, item[bound], place[disjunct])
    return dense, place


def _is_bound(query: Query, item: np.ndarray) -> np.ndarray:
    """Which constraints compare an input with a number."""
    return (query.comparisons.right[item] == NO_VARIABLE) & (query.comparisons.left[item] % 2 == 0)


def _tighten(query: Query, boxes: np.ndarray, item: np.ndarray, place: np.ndarray) -> None:
    """Intersect the box at each place with its bound; constraints that are no bounds are ignored."""
    bound = _is_bound(query, item)
    item, place = item[bound], place[bound]
    greater, value = query.comparisons.greater[item], query.comparisons.value[item]
    flat = place * boxes.shape[1] + (query.comparisons.left[item] >> 1)
    np.maximum.at(boxes.reshape(-1), flat[greater], value[greater])
    np.minimum.at(boxes.reshape(-1), flat[~greater] + query.n_inputs, value[~greater])


def _with_implied_bounds(n_inputs: int, boxes: _Boxes, rows: _Rows, disjuncts: np.ndarray) -> _Boxes:
    """Boxes with fewer infinite ends, of each disjunct by its own rows over inputs alone."""
    unbounded = np.any(np.isinf(boxes.lower) | np.isinf(boxes.upper), axis=1)
    of_outputs = np.add.reduceat(np.append(rows.variable >= n_inputs, False), rows.term_start[:-1]) > 0
    lower, upper, of_disjunct = list(boxes.lower), list(boxes.upper), boxes.of_disjunct.copy()
    number_of: dict[tuple[int, str], int] = {}
    for place, disjunct in enumerate(disjuncts.tolist()):
        box = int(of_disjunct[disjunct])
        if not unbounded[box]:
            continue
        own = np.arange(rows.row_start[place], rows.row_start[place + 1])
        relations = _relations(rows, own[~of_outputs[own]])
        key = box, repr(relations)
        if key not in number_of:
            number_of[key] = len(lower)
            lower.append(lower[box].copy())
            upper.append(upper[box].copy())
            complete_bounds(lower[-1], upper[-1], relations)
        of_disjunct[disjunct] = number_of[key]
    return _Boxes(np.array(lower), np.array(upper), of_disjunct)


def _relations(rows: _Rows, which: np.ndarray) -> list[Row]:
    terms = [slice(rows.term_start[row], rows.term_start[row + 1]) for row in which.tolist()]
    return [
        (rows.variable[t].tolist(), rows.coefficient[t].tolist(), float(rows.rhs[row]))
        for row, t in zip(which.tolist(), terms)
    ]


def _require_bounds(query: Query, lower: np.ndarray, upper: np.ndarray, disjuncts: np.ndarray, box: np.ndarray) -> None:
    unbounded = np.isinf(lower) | np.isinf(upper)
    if not unbounded.any():
        return
    which, index = np.argwhere(unbounded)[0].tolist()
    disjunct = int(disjuncts[np.flatnonzero(box == which)[0]])
    sides = [side for side, bound in (("lower", lower), ("upper", upper)) if np.isinf(bound[which, index])]
    variable = 2 * index
    where = "" if len(query.cases) == 1 else f" in disjunct {disjunct + 1}"
    message = f"input {query.variables.name(variable)} has no {' and no '.join(sides)} bound{where}"
    raise query.text.error(
        query.variables.declared_at(variable), message, "finite bounds of every input", UnsupportedVnnlib
    )


# Rows


@dataclass(frozen=True)
class _Rows:
    """The columns of the same names of a property."""

    row_start: np.ndarray
    term_start: np.ndarray
    variable: np.ndarray
    coefficient: np.ndarray
    rhs: np.ndarray
    strict: np.ndarray


def _rows(query: Query, alive: np.ndarray) -> _Rows:
    """The rows of the disjuncts that are alive: those common to all, then their own, in the order of the text."""
    cases = query.cases if alive.all() else query.cases.select(alive)
    common = query.common[_is_row(query, query.common)]
    own = _is_row(query, cases.item)
    try:
        rows = all_of([Dnf(np.array([0, len(common)]), common), Dnf(offsets(own)[cases.start], cases.item[own])])
    except TooLarge as error:
        raise query.text.error(0, str(error), "a smaller query", UnsupportedVnnlib) from error
    return _fill(query, rows)


def _is_row(query: Query, item: np.ndarray) -> np.ndarray:
    return ~_is_bound(query, item) | query.comparisons.strict[item]


def _fill(query: Query, rows: Dnf) -> _Rows:
    comparisons, linear = query.comparisons, query.linear_rows
    left, right = comparisons.left[rows.item], comparisons.right[rows.item]
    value, greater = comparisons.value[rows.item], comparisons.greater[rows.item]
    is_linear, is_pair = np.flatnonzero(right == LINEAR_ROW), np.flatnonzero(right >= 0)
    is_single = np.flatnonzero(right == NO_VARIABLE)
    linear_row = value[is_linear].astype(np.int64)
    linear_size = np.diff(linear.start)[linear_row]

    n_terms = np.ones(len(rows.item), dtype=np.int64)
    n_terms[is_pair] = 2
    n_terms[is_linear] = linear_size
    term_start = offsets(n_terms)
    variable = np.empty(term_start[-1], dtype=np.int64)
    coefficient = np.empty(term_start[-1])
    sign = np.where(greater, -1.0, 1.0)  # of the left side, once the row reads <=
    rhs = np.zeros(len(rows.item))

    at = term_start[is_single]
    variable[at], coefficient[at] = _column(query, left[is_single]), sign[is_single]
    rhs[is_single] = sign[is_single] * value[is_single] + 0.0  # + 0.0: no -0.0

    at = term_start[is_pair]
    a, b = _column(query, left[is_pair]), _column(query, right[is_pair])
    variable[at], variable[at + 1] = np.minimum(a, b), np.maximum(a, b)
    coefficient[at] = np.where(a < b, sign[is_pair], -sign[is_pair])
    coefficient[at + 1] = -coefficient[at]

    at = ranges(term_start[is_linear], linear_size)
    source = ranges(linear.start[linear_row], linear_size)
    variable[at], coefficient[at] = _column(query, linear.variable[source]), linear.coefficient[source]
    rhs[is_linear] = linear.rhs[linear_row]
    return _Rows(rows.start, term_start, variable, coefficient, rhs, comparisons.strict[rows.item])


def _column(query: Query, variable: np.ndarray) -> np.ndarray:
    """Inputs first, then outputs."""
    return (variable >> 1) + (variable & 1).astype(np.int64) * query.n_inputs


def _only_excluded_faces(n_inputs: int, boxes: _Boxes, rows: _Rows, disjuncts: np.ndarray) -> np.ndarray:
    """Disjuncts whose box is empty because of a strict bound: it has only the face that the bound excludes."""
    first_term = rows.term_start[:-1]
    single = rows.strict & (np.diff(rows.term_start) == 1)
    single[single] = rows.variable[first_term[single]] < n_inputs
    row = np.flatnonzero(single)
    term = first_term[row]
    disjunct = np.repeat(disjuncts, np.diff(rows.row_start))[row]
    box, variable, coefficient = boxes.of_disjunct[disjunct], rows.variable[term], rows.coefficient[term]
    least = np.where(coefficient > 0, boxes.lower[box, variable], -boxes.upper[box, variable])
    return disjunct[(np.abs(coefficient) == 1.0) & (least >= rows.rhs[row])]
