"""Inputs that have to be equal become one: the same point given to two networks need not be searched for twice."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from vnnlib.dnf import offsets, ranges
from vnnlib.property import Property


def merge_equal_inputs(prop: Property) -> tuple[Property, np.ndarray]:
    """The property over fewer inputs, and where each input of the original is among them.

    Only equalities that every disjunct asks for are used. Disjuncts that are left without a point are dropped.
    """
    same = np.arange(prop.n_inputs)
    first = _first_of_equals(prop)
    if np.array_equal(first, same):
        return prop, same
    kept, index = np.unique(first, return_inverse=True)
    lower, upper = (np.full((len(kept), prop.n_boxes), end) for end in (-np.inf, np.inf))
    np.maximum.at(lower, index, prop.lower.T)
    np.minimum.at(upper, index, prop.upper.T)
    column_of = np.concatenate([index, len(kept) + np.arange(prop.n_outputs)])
    merged = replace(
        prop, n_inputs=len(kept), lower=lower.T.copy(), upper=upper.T.copy(), variable=column_of[prop.variable]
    )
    collected = _with_collected_terms(merged)
    return (prop, same) if collected is None else (_without_constant_rows(collected), index)


def _first_of_equals(prop: Property) -> np.ndarray:
    """Per input the first of those that it equals in every disjunct."""
    row = np.flatnonzero((np.diff(prop.term_start) == 2) & (prop.rhs == 0) & ~prop.strict)
    at = prop.term_start[row]
    a, b = prop.variable[at], prop.variable[at + 1]
    differs = (a < prop.n_inputs) & (b < prop.n_inputs) & (prop.coefficient[at] == -prop.coefficient[at + 1])
    row, a, b, at = row[differs], a[differs], b[differs], at[differs]
    below = np.where(prop.coefficient[at] > 0, a, b)  # the row says: below <= above
    pair = below * prop.n_inputs + (a + b - below)
    disjunct = np.searchsorted(prop.row_start, row, side="right") - 1
    stated, count = np.unique(np.unique(np.stack([pair, disjunct]), axis=1)[0], return_counts=True)
    low, high = np.divmod(stated[count == prop.n_disjuncts], prop.n_inputs)
    both = np.isin(low * prop.n_inputs + high, high * prop.n_inputs + low) & (low < high)
    return _representatives(prop.n_inputs, zip(low[both].tolist(), high[both].tolist()))


def _representatives(n: int, pairs: zip[tuple[int, int]]) -> np.ndarray:
    """Union-find: the least number of each class of the equivalence that the pairs generate."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(i) for i in range(n)], dtype=np.int64)


def _with_collected_terms(prop: Property) -> Property | None:
    """One term of each variable in a row, none where they cancel; None if a sum of coefficients is not a float64."""
    width = prop.n_inputs + prop.n_outputs
    key = np.repeat(np.arange(prop.n_rows), np.diff(prop.term_start)) * width + prop.variable
    order = np.argsort(key, kind="stable")
    coefficient = prop.coefficient[order]
    distinct, start, count = np.unique(key[order], return_index=True, return_counts=True)
    total = coefficient[start]
    for run in np.flatnonzero(count > 1).tolist():
        terms = coefficient[start[run] : start[run] + count[run]].tolist()
        total[run] = math.fsum(terms)
        if math.fsum([*terms, -total[run]]) != 0:
            return None
    row, variable = np.divmod(distinct[total != 0], width)
    term_start = offsets(np.bincount(row, minlength=prop.n_rows))
    return replace(prop, term_start=term_start, variable=variable, coefficient=total[total != 0])


def _without_constant_rows(prop: Property) -> Property:
    """Rows without terms, and disjuncts that such a row or an empty box makes false, are dropped."""
    size = np.diff(prop.term_start)
    disjunct = np.repeat(np.arange(prop.n_disjuncts), np.diff(prop.row_start))
    alive = np.all(prop.lower <= prop.upper, axis=1)[prop.box]
    alive[disjunct[(size == 0) & ((prop.rhs < 0) | ((prop.rhs == 0) & prop.strict))]] = False
    keep = (size > 0) & alive[disjunct]
    used = np.bincount(prop.box[alive], minlength=prop.n_boxes) > 0
    terms = ranges(prop.term_start[:-1][keep], size[keep])
    return replace(
        prop,
        lower=prop.lower[used],
        upper=prop.upper[used],
        box=(np.cumsum(used) - 1)[prop.box[alive]],
        row_start=offsets(np.bincount(disjunct[keep], minlength=prop.n_disjuncts)[alive]),
        term_start=offsets(size[keep]),
        variable=prop.variable[terms],
        coefficient=prop.coefficient[terms],
        rhs=prop.rhs[keep],
        strict=prop.strict[keep],
    )
