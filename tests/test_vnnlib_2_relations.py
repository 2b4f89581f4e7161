"""Relations between inputs: bounds that follow from them, and inputs that are the same."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from test_vnnlib_random import evaluate

import vnnlib
from vnnlib import UnsupportedVnnlib
from vnnlib.equal_inputs import merge_equal_inputs

N = 4
HEADER = f"(vnnlib-version <2.0>)(declare-network N (declare-input X real [{N}]) (declare-output Y real []))\n"
NAMES = [*(f"X[{i}]" for i in range(N)), "Y"]


def test_bounds_through_others() -> None:
    text = (
        HEADER
        + """
(assert (and (>= X[0] 0.0) (<= X[0] 1.0) (== X[1] X[0]) (<= X[2] X[1]) (>= (* 3.0 X[2]) (- X[3])) (== X[3] 0.5)))
"""
    )
    prop = vnnlib.parse(text)
    assert prop.lower[0].tolist()[:2] == [0, 0] and prop.upper.tolist() == [[1, 1, 1, 0.5]]
    assert -1e-5 < Fraction(prop.lower[0, 2]) + Fraction(1, 6) < -1e-8  # with room for single precision


def test_every_disjunct_has_bounds_of_its_own() -> None:
    box = "".join(f"(assert (and (>= X[{i}] 0.0) (<= X[{i}] 1.0)))" for i in range(3))
    text = HEADER + box + "(assert (or (== X[3] X[0]) (and (<= X[3] 5.0) (>= X[3] (+ X[1] 2.0)))))"
    prop = vnnlib.parse(text)
    assert prop.lower[prop.box, 3] == pytest.approx([0, 2], rel=1e-5) and prop.lower[prop.box, 3][1] < 2
    assert prop.upper[prop.box, 3].tolist() == [1, 5]


def test_points_that_are_rounded_are_inside() -> None:
    """X[3] may be three times the rounded 0.3, which is more than the rounded 0.9."""
    box = "".join(f"(assert (and (>= X[{i}] 0.0) (<= X[{i}] 0.3)))" for i in range(3))
    prop = vnnlib.parse(HEADER + box + "(assert (and (>= X[3] 0.0) (<= X[3] (* 3.0 X[0]))))")
    x = np.float32(3 * np.float64(np.float32(0.3)))
    assert np.float32(0.9) < x and float(x) <= 3 * float(np.float32(0.3)) and float(x) <= prop.upper[0, 3]


def test_what_stays_unbounded_is_refused() -> None:
    box = "".join(f"(assert (and (>= X[{i}] 0.0) (<= X[{i}] 1.0)))" for i in range(3))
    with pytest.raises(UnsupportedVnnlib, match=r"input X\[3\] has no upper bound"):
        vnnlib.parse(HEADER + box + "(assert (>= X[3] X[0]))")
    with pytest.raises(UnsupportedVnnlib, match=r"input X\[3\] has no lower bound in disjunct 2"):
        vnnlib.parse(HEADER + box + "(assert (or (== X[3] X[0]) (<= X[3] X[1])))")
    with pytest.raises(UnsupportedVnnlib, match=r"input X\[3\] has no lower and no upper bound"):
        vnnlib.parse(HEADER + box + "(assert (== (* X[3] X[3]) X[0]))")


def test_a_bound_that_follows_may_contradict() -> None:
    box = "".join(f"(assert (and (>= X[{i}] 0.0) (<= X[{i}] 1.0)))" for i in range(3))
    prop = vnnlib.parse(HEADER + box + "(assert (and (>= X[3] 2.0) (<= X[3] X[0])))")
    assert prop.n_disjuncts == 0


def relation(rng: random.Random) -> str:
    a, b = rng.sample(NAMES, 2)
    shapes = [f"(== {a} {b})", f"(<= {a} {b})", f"(== (* 2.0 {a}) (* 2.0 {b}))", f"(< {a} {b})", f"(<= {a} 0.5)"]
    shapes += [f"(<= (+ {a} (* 0.25 {b}) {NAMES[0]}) 0.5)", f"(== (- {a} {b}) 0.25)", f"(== {a} {b})"]
    return rng.choice(shapes)


@pytest.mark.parametrize("seed", range(200))
def test_merging_keeps_the_meaning(seed: int) -> None:
    """At points where merged inputs are equal both properties agree with the text; elsewhere the text is false."""
    rng = random.Random(seed)
    box = [f"(assert (and (>= X[{i}] {rng.choice([-1, 0])}) (<= X[{i}] {rng.choice([0, 1])})))" for i in range(N)]
    common = [f"(assert {relation(rng)})" for _ in range(rng.randint(0, 3))]
    cases = [f"(and {relation(rng)} {relation(rng)})" for _ in range(rng.randint(1, 3))]
    text = "\n".join([*box, *common, f"(assert (or {' '.join(cases)}))"])
    prop = vnnlib.parse(HEADER + text)
    if prop.n_disjuncts == 0:
        return
    merged, index = merge_equal_inputs(prop)
    assert len(index) == N and sorted(set(index.tolist())) == list(range(merged.n_inputs))
    for _ in range(60):
        reduced = np.array([rng.choice([-1, -0.5, 0, 0.25, 0.5, 1]) for _ in range(merged.n_inputs)])
        x, y = reduced[index], np.array([rng.choice([-1, 0, 0.25, 0.5])])
        point = dict(zip(NAMES, map(Fraction, [*x, *y])))
        assert evaluate(text, point) == prop.evaluate(x, y)
        assert (merged.n_disjuncts > 0 and merged.evaluate(reduced, y)) == prop.evaluate(x, y), text
        other = np.array([rng.choice([-1, -0.5, 0, 0.25, 0.5, 1]) for _ in range(N)])
        if any(other[i] != other[j] for i in range(N) for j in range(N) if index[i] == index[j]):
            assert not prop.evaluate(other, y)


def test_equal_inputs_are_found() -> None:
    box = "".join(f"(assert (and (>= X[{i}] -{i}.0) (<= X[{i}] {4 - i}.0)))" for i in range(N))
    text = HEADER + box + "(assert (and (== X[3] X[1]) (== X[0] X[3])))(assert (or (<= Y X[3]) (<= (+ X[0] X[1]) Y)))"
    merged, index = merge_equal_inputs(vnnlib.parse(text))
    assert index.tolist() == [0, 0, 1, 0]
    assert (merged.lower.tolist(), merged.upper.tolist()) == ([[0, -2]], [[1, 2]])
    assert merged.n_rows == 2 and merged.coefficient.tolist() == [-1, 1, 2, -1]


def test_sums_that_would_be_rounded_are_left_alone() -> None:
    box = "".join(f"(assert (and (>= X[{i}] 0.0) (<= X[{i}] 1.0)))" for i in range(N))
    prop = vnnlib.parse(HEADER + box + "(assert (== X[0] X[1]))(assert (<= (+ (* 0.1 X[0]) (* 0.2 X[1])) Y))")
    merged, index = merge_equal_inputs(prop)
    assert merged is prop and index.tolist() == [0, 1, 2, 3]
