"""VNN-LIB 2.0 to the normal form: the property of its translation to 1.0, or else the right one."""

from __future__ import annotations

import random
import re
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
from test_vnnlib_random import NAMES, OPERATORS, VALUES, evaluate
from test_vnnlib_random import formula as formula_1
from test_vnnlib_random import query as query_1

import vnnlib
from vnnlib import Interface, Property, tokens
from vnnlib.interface import Network, Tensor

ENTRIES = {"X_0": "X[0,0]", "X_1": "X[0,1]", "Y_0": "action[0]", "Y_1": "action[1]"}
HEADER = """(vnnlib-version <2.0>) ; the language
(declare-network N
  (declare-input X real [1, 2]) (declare-output action real [2] )
)
"""


def translated(text: str) -> str:
    """A query of VNN-LIB 1.0 in 2.0."""
    body = re.sub(r"\(declare-const \w+ Real\)", "", text)
    body = re.sub(r"\(= ", "(== ", body)
    return HEADER + re.sub(r"[XY]_\d", lambda name: ENTRIES[name.group()], body)


def same(a: Property, b: Property) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(Property))


@pytest.mark.parametrize("seed", range(150))
def test_the_same_property_as_in_version_1(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    text = query_1(rng)
    if seed % 2:
        monkeypatch.setattr(tokens, "_BLOCK", rng.randint(1, 200))
    second = translated(text)
    if seed % 3 == 0:
        second = second.replace("X[0,", rng.choice(["X [0, ", "X[ 0\t,", "X\n[0 ,"])).replace("1]", "1 ]")
    assert same(vnnlib.parse(text), vnnlib.parse(second))


def polynomial(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        return rng.choice([*NAMES, *NAMES, str(rng.choice(VALUES))])
    head = rng.choice("+-**")
    return f"({head} {' '.join(polynomial(rng, depth - 1) for _ in range(rng.randint(1, 3)))})"


def formula(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        if rng.random() < 0.3:
            return formula_1(rng, 0)
        return f"({rng.choice(['<=', '>=', '<', '>', '==', '!='])} {polynomial(rng, 2)} {polynomial(rng, 2)})"
    return f"({rng.choice(['and', 'or'])} {' '.join(formula(rng, depth - 1) for _ in range(rng.randint(1, 3)))})"


@pytest.mark.parametrize("seed", range(150))
def test_polynomials_mean_what_they_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against an evaluator that shares nothing with the parser."""
    monkeypatch.setitem(OPERATORS, "!=", lambda a, b: a != b)
    rng = random.Random(seed)
    bounds = [f"(assert (and (<= X_{i} 1) (>= X_{i} -1)))" for i in range(2)]
    text = "\n".join([*bounds, *(f"(assert {formula(rng, rng.randint(0, 3))})" for _ in range(rng.randint(1, 2)))])
    prop, interface = vnnlib.parse_query(translated(text))
    assert interface is not None
    for _ in range(40):
        point = [rng.choice(VALUES) if rng.random() < 0.8 else rng.randint(-9, 9) / 8 for _ in NAMES]
        expected = evaluate(text, {name: Fraction(value) for name, value in zip(NAMES, point)})
        assert holds(prop, interface, point) == expected, (text, point)


def holds(prop: Property, interface: Interface, point: list[float]) -> bool:
    """Evaluates the property at all inputs and outputs; the numbers are so short that products are exact."""
    values = np.array(point)
    products = [np.prod(values[list(columns)]) for columns in interface.products]
    return prop.evaluate(values[: interface.n_inputs], np.concatenate([values[interface.n_inputs :], products]))


def test_networks_and_tensors() -> None:
    text = """
(vnnlib-version <2.1>)
(declare-network f (declare-input A float32 [2,1]) (declare-input a1 float32 []) (declare-output Yf float32 [1,1,2]))
(declare-network g (equal-to f) (declare-input B float32 [2,1]) (declare-input b1 float32 [])
  (declare-output Yg float32 [1,1,2]))
(declare-network h (isomorphic-to f) (declare-input C float32 [2,1]) (declare-input c1 float32 [])
  (declare-output Yh float32 [1,1,2]))
( assert (and (<= 0 A[0,0] ) (<= A[0,0] 1.5) (== a1 -2) (== A[1,0] 3e0) (== B[0,0] 0.0) (== B[1,0] 0.0) (== b1 0.0)))
(assert (and (== C[0,0] 0.0) (== C[1,0] 0.0) (== c1 1.0)))
(assert (> Yf[0,0,1] (+ Yg[0,0,0] (* A[0,0] A[0,0]) Yh[0,0,0] 0.25)))
"""
    prop, interface = vnnlib.parse_query(text)
    assert interface is not None
    real = "float32"
    assert interface.networks[1] == Network(
        "g",
        (Tensor("B", real, (2, 1)), Tensor("b1", real, ())),
        (Tensor("Yg", real, (1, 1, 2)),),
        "equal-to",
        "f",
    )
    assert interface.models == ("f", "h")
    assert interface.products == ((0, 0),)
    assert (prop.n_inputs, prop.n_outputs) == (9, 7)
    assert prop.lower.tolist() == [[0, 3, -2, 0, 0, 0, 0, 0, 1]]
    assert prop.upper.tolist() == [[1.5, 3, -2, 0, 0, 0, 0, 0, 1]]
    rows = dict(zip(prop.variable.tolist(), prop.coefficient.tolist()))
    assert rows == {9 + 1: -1, 9 + 2: 1, 9 + 4: 1, 9 + 6: 1}
    assert prop.rhs.tolist() == [-0.25] and prop.strict.tolist() == [True]


def test_a_tensor_that_is_longer_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry of a tensor of four dimensions gets its bounds."""
    monkeypatch.setattr(tokens, "_BLOCK", 1000)
    shape = (1, 3, 11, 12)
    entries = list(np.ndindex(shape))
    spelt = ["[" + ",".join(map(str, entry)) + "]" for entry in entries]
    lines = [f"(assert (and (>= image{s} {i}.25) (<= image{s} {i + 1})))" for i, s in enumerate(spelt)]
    random.Random(0).shuffle(lines)
    head = "(vnnlib-version <2.0>)(declare-network N (declare-input image float32 [1,3,11,12])"
    prop = vnnlib.parse(f"{head}(declare-output cls float32 []))\n" + "\n".join(lines) + "(assert (>= cls 0.0))")
    assert prop.lower.tolist() == [[i + 0.25 for i in range(len(entries))]]
    assert prop.upper.tolist() == [[i + 1 for i in range(len(entries))]]


def test_comments_and_line_ends() -> None:
    text = "; first\r\n" + HEADER.replace("\n", "\r\n") + "(assert (and (<= X[0,0] 1) (>= X[0,0] 0)));(\r\n"
    text += "(assert (== X[0,1] 0.5))\t(assert (or (< action[0] 1.0)(and (> action[1] 2.0))))"
    prop = vnnlib.parse(text)
    assert prop.n_disjuncts == 2 and prop.strict.all()
