"""Well-formed queries, each with its normal form written out by hand."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import vnnlib
from vnnlib import Property, tokens

# A disjunct: its box as (lower, upper) per input, and its rows as ({column: coefficient}, rhs[, "<"]).
Disjunct = tuple[list[tuple[float, float]], list[tuple]]

X1_Y2 = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)\n"
X2_Y1 = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)\n"
UNIT = "(assert (>= X_0 0)) (assert (<= X_0 1))\n"
UNIT2 = UNIT + "(assert (>= X_1 0)) (assert (<= X_1 1))\n"
BOX = [(0.0, 1.0)]
BOX2 = [(0.0, 1.0), (0.0, 1.0)]

GOOD: dict[str, tuple[str, list[Disjunct]]] = {
    "no outputs constrained": (X1_Y2 + UNIT, [(BOX, [])]),
    "output bounds": (
        X1_Y2 + UNIT + "(assert (<= Y_0 3))(assert (>= Y_1 -2.5))",
        [(BOX, [({1: 1}, 3), ({2: -1}, 2.5)])],
    ),
    "output pairs": (
        X1_Y2 + UNIT + "(assert (<= Y_0 Y_1))(assert (>= Y_0 Y_1))(assert (<= Y_1 Y_0))",
        [(BOX, [({1: 1, 2: -1}, 0), ({1: -1, 2: 1}, 0), ({1: -1, 2: 1}, 0)])],
    ),
    "number first": (X1_Y2 + "(assert (<= 0 X_0))(assert (>= 1 X_0))(assert (<= 2 Y_0))", [(BOX, [({1: -1}, -2)])]),
    "tightest bound wins": (X1_Y2 + UNIT + "(assert (<= X_0 0.5))(assert (<= X_0 0.75))", [([(0.0, 0.5)], [])]),
    "degenerate": (X1_Y2 + "(assert (>= X_0 0.3))(assert (<= X_0 0.3))", [([(0.3, 0.3)], [])]),
    "equality of an input": (X1_Y2 + "(assert (= X_0 0.3))", [([(0.3, 0.3)], [])]),
    "equality of outputs": (
        X1_Y2 + UNIT + "(assert (== Y_0 Y_1))",
        [(BOX, [({1: 1, 2: -1}, 0), ({1: -1, 2: 1}, 0)])],
    ),
    "equalities side by side": (
        X1_Y2 + UNIT + "(assert (or (= X_0 0.5) (= Y_0 Y_1) (<= Y_0 5) (and (= 2 Y_0) (<= Y_1 0))))",
        [
            ([(0.5, 0.5)], []),
            (BOX, [({1: 1, 2: -1}, 0), ({1: -1, 2: 1}, 0)]),
            (BOX, [({1: 1}, 5)]),
            (BOX, [({1: 1}, 2), ({1: -1}, -2), ({2: 1}, 0)]),
        ],
    ),
    "exponents": (X1_Y2 + "(assert (>= X_0 -1e-06)) (assert (<= X_0 2.5E+1))", [([(-1e-6, 25.0)], [])]),
    "negative zero": (
        X1_Y2 + "(assert (>= X_0 -0.0)) (assert (<= X_0 1)) (assert (>= Y_0 0))",
        [(BOX, [({1: -1}, 0)])],
    ),
    "any of outputs": (
        X1_Y2 + UNIT + "(assert (or (and (>= Y_0 1)) (and (<= Y_0 -1) (<= Y_1 0))))",
        [(BOX, [({1: -1}, -1)]), (BOX, [({1: 1}, -1), ({2: 1}, 0)])],
    ),
    "or without and": (
        X1_Y2 + UNIT + "(assert (or (<= Y_0 1) (<= Y_1 2)))",
        [(BOX, [({1: 1}, 1)]), (BOX, [({2: 1}, 2)])],
    ),
    "and at the top": (X1_Y2 + "(assert (and (>= X_0 0) (<= X_0 1) (<= Y_1 2)))", [(BOX, [({2: 1}, 2)])]),
    "single children": (X1_Y2 + UNIT + "(assert (or (and (or (and (<= Y_1 2))))))", [(BOX, [({2: 1}, 2)])]),
    "bounds inside or": (
        X1_Y2 + "(assert (or (and (>= X_0 0) (<= X_0 1) (<= Y_0 0)) (and (<= X_0 3) (>= X_0 2) (>= Y_0 9))))",
        [(BOX, [({1: 1}, 0)]), ([(2.0, 3.0)], [({1: -1}, -9)])],
    ),
    "bounds inside or tighten the common ones": (
        X1_Y2 + UNIT + "(assert (or (and (<= X_0 0.5)) (and (<= X_0 7)) (and (<= Y_0 0))))",
        [([(0.0, 0.5)], []), (BOX, []), (BOX, [({1: 1}, 0)])],
    ),
    "product of two or": (
        X1_Y2 + "(assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 2) (<= X_0 3))))"
        "(assert (or (and (<= Y_0 0)) (and (<= Y_1 0))))",
        [
            (BOX, [({1: 1}, 0)]),
            (BOX, [({2: 1}, 0)]),
            ([(2.0, 3.0)], [({1: 1}, 0)]),
            ([(2.0, 3.0)], [({2: 1}, 0)]),
        ],
    ),
    "assert after or": (
        X1_Y2 + "(assert (or (and (<= Y_0 0)) (and (>= Y_0 1))))" + UNIT + "(assert (<= Y_1 0.045))",
        [(BOX, [({2: 1}, 0.045), ({1: 1}, 0)]), (BOX, [({2: 1}, 0.045), ({1: -1}, -1)])],
    ),
    "or within and within or": (
        X1_Y2 + UNIT + "(assert (or (and (<= Y_0 1) (or (<= Y_1 2) (<= Y_1 3))) (<= Y_1 4)))",
        [(BOX, [({1: 1}, 1), ({2: 1}, 2)]), (BOX, [({1: 1}, 1), ({2: 1}, 3)]), (BOX, [({2: 1}, 4)])],
    ),
    "strict outputs": (
        X1_Y2 + UNIT + "(assert (< Y_0 Y_1)) (assert (> Y_0 2))",
        [(BOX, [({1: 1, 2: -1}, 0, "<"), ({1: -1}, -2, "<")])],
    ),
    "strict inputs": (X1_Y2 + "(assert (> X_0 0)) (assert (< X_0 1))", [(BOX, [({0: -1}, 0, "<"), ({0: 1}, 1, "<")])]),
    "inputs and outputs": (
        X2_Y1 + UNIT2 + "(assert (<= X_0 X_1)) (assert (>= Y_0 X_1))",
        [(BOX2, [({0: 1, 1: -1}, 0), ({1: 1, 2: -1}, 0)])],
    ),
    "arithmetic": (
        X2_Y1 + UNIT2 + "(assert (<= (+ (* 2 X_0) (- X_1) (* 0.5 Y_0 4) 1) (- (* 3 Y_0) 2 X_0)))",
        [(BOX2, [({0: 3, 1: -1, 2: -1}, -3)])],
    ),
    "the linearizenn form, mended": (
        X2_Y1 + UNIT2 + "(assert (<= (* 0.5 (- Y_0 (+ (* 13 X_0) (* 12 X_1) 39))) 0))",
        [(BOX2, [({0: -6.5, 1: -6, 2: 0.5}, 19.5)])],
    ),
    "arithmetic rounds once": (X1_Y2 + "(assert (>= X_0 0)) (assert (<= (+ X_0 0.1) 0.4))", [([(0.0, 0.3)], [])]),
    "a scaled bound stays as a row": (
        X1_Y2 + "(assert (>= (* 4 X_0) 0)) (assert (<= (* 4 X_0) 2))",
        [([(0.0, 0.5)], [({0: -4}, 0), ({0: 4}, 2)])],
    ),
    "terms cancel": (X1_Y2 + UNIT + "(assert (<= (- (+ Y_0 Y_1) Y_0) 1))", [(BOX, [({2: 1}, 1)])]),
    "true constants": (
        X1_Y2 + UNIT + "(assert (<= 1 2)) (assert (<= Y_0 Y_0)) (assert (or (and (= 0.5 5e-1))))",
        [(BOX, [])],
    ),
    "false constants": (
        X1_Y2 + UNIT + "(assert (or (and (< 1 1) (<= Y_0 0)) (and (<= Y_1 0)) (> Y_0 Y_0)))",
        [(BOX, [({2: 1}, 0)])],
    ),
    "a false assertion": (X1_Y2 + "(assert (>= 1 2))", []),
    "an empty disjunct": (X1_Y2 + UNIT + "(assert (or (and (>= X_0 2)) (and (<= Y_0 0))))", [(BOX, [({1: 1}, 0)])]),
    "an empty box": (X1_Y2 + UNIT + "(assert (>= X_0 1.5))", []),
    "only an excluded face": (
        X1_Y2 + UNIT + "(assert (or (and (> X_0 1)) (and (< X_0 0)) (> X_0 0.5)))",
        [([(0.5, 1.0)], [({0: -1}, -0.5, "<")])],
    ),
    "unbounded, but empty": (X2_Y1 + UNIT + "(assert (>= X_0 2))", []),
    "declare-fun": ("(declare-fun X_0 () Real)(declare-fun Y_0 ( ) Real)" + UNIT, [(BOX, [])]),
    "declarations in between": (
        "(declare-const X_0 Real)" + UNIT + "(declare-const Y_0 Real)(assert (<= Y_0 1))(declare-const Y_1 Real)",
        [(BOX, [({1: 1}, 1)])],
    ),
    "declarations in another order": (
        "(declare-const Y_0 Real)(declare-const X_1 Real)(declare-const X_0 Real)" + UNIT + "(assert (= X_1 5))",
        [([(0.0, 1.0), (5.0, 5.0)], [])],
    ),
    "comments": (
        "; (assert\n" + X1_Y2 + "(assert ; a ( comment\n (>= X_0 0));)\n(assert (<= X_0 1));;\n"
        ";\xe4\n(assert (<= Y_0 2)) ; end",
        [(BOX, [({1: 1}, 2)])],
    ),
    "white space": (
        "(declare-const\tX_0 Real)\r\n( declare-const Y_0\nReal )(assert(<=\tX_0\n1))\r\n"
        "(assert( or( and(>=\nX_0\t0)( <= Y_0 1 ) ) ))",
        [(BOX, [({1: 1}, 1)])],
    ),
}


def unpack(query: Property) -> list[Disjunct]:
    disjuncts: list[Disjunct] = []
    for d in range(query.n_disjuncts):
        box = list(zip(query.lower[query.box[d]].tolist(), query.upper[query.box[d]].tolist()))
        rows: list[tuple] = []
        for row in range(query.row_start[d], query.row_start[d + 1]):
            terms = slice(query.term_start[row], query.term_start[row + 1])
            columns = dict(zip(query.variable[terms].tolist(), query.coefficient[terms].tolist()))
            assert list(columns) == sorted(columns)
            rows.append((columns, query.rhs[row].item(), *(["<"] if query.strict[row] else [])))
        disjuncts.append((box, rows))
    return disjuncts


@pytest.mark.parametrize("name", GOOD)
def test_normal_form(name: str) -> None:
    text, expected = GOOD[name]
    assert unpack(vnnlib.parse(text)) == expected


@pytest.mark.parametrize("name", GOOD)
def test_blocks_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_BLOCK", 16)
    text, expected = GOOD[name]
    assert unpack(vnnlib.parse(text)) == expected


@pytest.mark.parametrize("name", GOOD)
def test_bulk_and_single_reading_agree(name: str) -> None:
    """`(+ x)` for `x` keeps every comparison from being read in bulk."""
    text, expected = GOOD[name]
    for comparison in ("(<= ", "(>= ", "(< ", "(> ", "(= ", "(== "):
        text = text.replace(comparison + "X_0 ", comparison + "(+ X_0) ").replace(
            comparison + "Y_0 ", comparison + "(+ Y_0) "
        )
    assert unpack(vnnlib.parse(text)) == expected


def test_types_and_shapes() -> None:
    query = vnnlib.parse(X2_Y1 + UNIT2 + "(assert (or (and (<= Y_0 0)) (and (>= Y_0 1) (< X_0 X_1))))")
    types = {field.name: getattr(query, field.name).dtype for field in fields(query) if field.name[:2] != "n_"}
    floats, flags = ("lower", "upper", "coefficient", "rhs"), ("strict",)
    assert types == {name: np.float64 if name in floats else np.bool_ if name in flags else np.int64 for name in types}
    assert (query.n_inputs, query.n_outputs, query.n_disjuncts, query.n_boxes, query.n_rows) == (2, 1, 2, 1, 3)
    assert query.lower.shape == query.upper.shape == (1, 2)


def test_an_empty_disjunction_has_its_shapes() -> None:
    query = vnnlib.parse(X2_Y1 + "(assert (<= 1 0))")
    assert query.lower.shape == (0, 2)
    assert query.row_start.tolist() == [0] and query.term_start.tolist() == [0]
    assert not query.evaluate(np.zeros(2), np.zeros(1))


def test_boxes_that_repeat_are_stored_once() -> None:
    boxes = ["(>= X_0 0) (<= X_0 1)", "(>= X_0 2) (<= X_0 3)"]
    disjuncts = "".join(f"(and {boxes[d % 2]} (<= Y_0 {d}))" for d in range(10))
    query = vnnlib.parse(X1_Y2 + f"(assert (or {disjuncts}))")
    assert query.n_boxes == 2
    assert query.box.tolist() == [0, 1] * 5


def test_zeros_of_either_sign_are_one_box() -> None:
    query = vnnlib.parse(X1_Y2 + "(assert (<= X_0 1))(assert (or (and (>= X_0 -0.0)) (and (>= X_0 0))))")
    assert query.n_boxes == 1


def test_a_scaled_bound_is_rounded_outwards() -> None:
    query = vnnlib.parse(X1_Y2 + "(assert (= (* 3 X_0) 1))")
    assert query.lower[0, 0] < query.upper[0, 0] == np.nextafter(query.lower[0, 0], 1)
    assert not query.evaluate([1 / 3], [0, 0])  # no float64 is a third


def test_deep_nesting() -> None:
    depth = 9_000
    text = X1_Y2 + UNIT + "(assert " + "(and (or " * (depth // 2) + "(<= Y_0 1)" + "))" * (depth // 2) + ")"
    assert unpack(vnnlib.parse(text)) == [(BOX, [({1: 1}, 1)])]


def test_long_chain_of_sums() -> None:
    depth = 5_000
    text = X1_Y2 + UNIT + "(assert (<= " + "(+ 1 " * depth + "Y_0" + ")" * depth + " 0))"
    assert unpack(vnnlib.parse(text)) == [(BOX, [({1: 1}, -depth)])]


def test_dense_rows() -> None:
    query = vnnlib.parse(X2_Y1 + UNIT2 + "(assert (or (<= Y_0 1) (and (<= X_0 Y_0) (>= X_1 Y_0))))")
    a_x, a_y, rhs = query.dense(1)
    np.testing.assert_array_equal(a_x, [[1, 0], [0, -1]])
    np.testing.assert_array_equal(a_y, [[-1], [1]])
    np.testing.assert_array_equal(rhs, [0, 0])
    assert [part.shape for part in query.dense(0)] == [(1, 2), (1, 1), (1,)]


def test_tolerance_is_for_boxes_only() -> None:
    query = vnnlib.parse(X1_Y2 + UNIT + "(assert (<= Y_0 0))")
    assert not query.evaluate([1.0001], [0, 0])
    assert query.evaluate([1.0001], [0, 0], input_tolerance=1e-3)
    assert not query.evaluate([0.5], [1e-9, 0], input_tolerance=1e-3)


def test_rows_are_decided_without_rounding() -> None:
    query = vnnlib.parse(X1_Y2 + UNIT + "(assert (<= (+ Y_0 Y_1) 0))")
    assert 1e30 + 1 - 1e30 == 0
    assert not query.evaluate([0], [1e-30, 0])
    query = vnnlib.parse(X1_Y2 + UNIT + "(assert (<= (+ Y_0 (* 3 Y_1) X_0) 1e30))")
    assert query.evaluate([0], [1e30, 0])
    assert not query.evaluate([1], [1e30, 0])  # in float64 the sum is 1e30


def test_what_is_not_finite_satisfies_nothing() -> None:
    query = vnnlib.parse(X1_Y2 + UNIT + "(assert (<= Y_0 0))")
    assert not query.evaluate([np.nan], [0, 0])
    assert not query.evaluate([0], [np.nan, 0])
    assert not query.evaluate([0], [-np.inf, 0])
    with pytest.raises(ValueError, match="1 inputs and 2 outputs"):
        query.evaluate([0, 0], [0, 0])
