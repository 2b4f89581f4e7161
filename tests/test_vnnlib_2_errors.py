"""What is refused of VNN-LIB 2.0, where, and with which words."""

from __future__ import annotations

import random

import pytest

import vnnlib
from vnnlib import UnsupportedVnnlib, VnnlibError, products

HEADER = """\
(vnnlib-version <2.0>)
(declare-network N
  (declare-input X float32 [1,2])
  (declare-input S float32 [])
  (declare-output Y float32 [3]))
(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (== X[0,1] 0.5) (== S 1.0)))
"""  # what is appended to it begins in line 7

BODY = {
    ")": (7, 1, "unexpected `)`", "(assert ..)"),
    "foo": (7, 1, "unexpected `foo` outside a statement", "(assert ..)"),
    "(declare-network M (declare-input A float32 [1]) (declare-output B float32 [1]))": (
        7, 2, "unexpected `declare-network`", "(assert ..)",
    ),
    "(declare-const X_0 Real)": (7, 2, "unexpected `declare-const`", "(assert ..)"),
    "(assert (<= Y[0] 1.0)": (7, 22, "file ends within (assert", "`)`"),
    "(assert (= Y[0] 1.0))": (7, 10, "unexpected `=`", "comparison"),
    "(assert (= Y[0] Y[1]))": (7, 10, "unexpected `=`", "comparison"),
    "(assert (not (<= Y[0] 1.0)))": (7, 10, "unexpected `not`", "comparison"),
    "(assert (=> (<= Y[0] 1.0) (<= Y[1] 1.0)))": (7, 10, "unexpected `=>`", "comparison"),
    "(assert (let ((a 1.0)) (<= Y[0] a)))": (7, 10, "unexpected `let`", "comparison"),
    "(assert (<= (/ Y[0] 2.0) 1.0))": (7, 14, "unexpected `/`", "sum, difference or product"),
    "(assert (<= Y[0]))": (7, 17, "`<=` has 1 of 2 operands", "a variable"),
    "(assert (<= Y[0] 1.0 2.0))": (7, 22, "unexpected `2.0`", "two operands"),
    "(assert (and))": (7, 13, "`and` has 0 of at least 1 operands", "comparison"),
    "(assert (<= (*) 1.0))": (7, 15, "`*` has 0 of at least 1 operands", "a variable"),
    "(assert (<= (-) 1.0))": (7, 15, "`-` has 0 of at least 1 operands", "a variable"),
    "(assert (<= (-5.0 Y[0]) 1.0))": (7, 14, "unexpected `-5.0`", "sum, difference or product"),
    "(assert (<= Z[0] 1.0))": (7, 13, "Z is not declared", "declared before"),
    "(assert (<= N 1.0))": (7, 13, "N is a network", "an input or output"),
    "(assert (<= Y[0] Z))": (7, 18, "Z is not declared", "declared before"),
    "(assert (<= Y[3] 1.0))": (7, 13, "the index 3 is out of bounds", "less than 3"),
    "(assert (<= Y[9999999999999] 1.0))": (7, 13, "the index 9999999999999 is out of bounds", "less than 3"),
    "(assert (<= X[1,0] 1.0))": (7, 13, "the index 1 is out of bounds", "less than 1"),
    "(assert (<= X[0] 1.0))": (7, 13, "1 indices", "2, as the shape [1, 2] of X"),
    "(assert (<= Y[0,0] 1.0))": (7, 13, "2 indices", "1, as the shape [3] of Y"),
    "(assert (<= X 1.0))": (7, 13, "0 indices", "2, as the shape"),
    "(assert (<= S[0] 1.0))": (7, 13, "S is a scalar", "S"),
    "(assert (<= S[] 1.0))": (7, 13, "S is a scalar", "S"),
    "(assert (<= Y[] 1.0))": (7, 13, "malformed index", "natural numbers"),
    "(assert (<= Y[-1] 1.0))": (7, 13, "malformed index", "natural numbers"),
    "(assert (<= Y[0.5] 1.0))": (7, 13, "malformed index", "natural numbers"),
    "(assert (<= Y[01] 1.0))": (7, 13, "malformed index", "natural numbers"),
    "(assert (<= X[0,] 1.0))": (7, 13, "malformed index", "natural numbers"),
    "(assert (<= X[0 0] 1.0))": (7, 13, "malformed variable", "NAME[index,..]"),
    "(assert (<= X [0, 0 1] 1.0))": (7, 13, "0 indices", "2, as the shape"),
    "(assert (<= Y[0 1.0))": (7, 13, "malformed variable", "NAME[index,..]"),
    "(assert (<= Y[0]] 1.0))": (7, 13, "malformed variable", "NAME[index,..]"),
    "(assert (<= _Y[0] 1.0))": (7, 13, "malformed variable", "NAME[index,..]"),
    "(assert (<= Y_0 1.0))": (7, 13, "Y_0 is not declared", "declared before"),
    "(assert (<= Y[0] +5.0))": (7, 18, "malformed number", "finite number"),
    "(assert (<= Y[0] .5))": (7, 18, "malformed number", "finite number"),
    "(assert (<= Y[0] 5.))": (7, 18, "malformed number", "finite number"),
    "(assert (<= Y[0] - 5.0))": (7, 18, "malformed number `-`", "finite number"),
    "(assert (<= Y[0] 1.0)) (assert": (7, 31, "file ends within (assert", "`)`"),
}  # fmt: skip

INPUT, OUTPUT = "(declare-input X float32 [1])", "(declare-output Y float32 [1])"
VERSION = "(vnnlib-version <2.0>) "
BOX = "(assert (and (<= X[0] 1.0) (>= X[0] 0.0)))"

HEADERS = {
    "(vnnlib-version 2.0)": (1, 17, "unexpected `2.0`", "<2.0>"),
    "(vnnlib-version < 2.0 >)": (1, 17, "unexpected `<`", "<2.0>"),
    "(vnnlib-version <2.0>": (1, 22, "unexpected end of file", "`)`"),
    VERSION: (1, 24, "unexpected end of file", "declare-network"),
    VERSION + "(assert (<= X[0] 1.0))": (1, 24, "unexpected `(assert`", "declare-network"),
    VERSION + f"(declare-network N {OUTPUT})": (1, 43, "unexpected `(declare-output`", "(declare-input NAME"),
    VERSION + f"(declare-network N {INPUT})": (1, 72, "unexpected `)`", "(declare-output NAME"),
    VERSION + f"(declare-network N {OUTPUT} {INPUT})": (1, 43, "unexpected `(declare-output`", "(declare-input"),
    VERSION + f"(declare-network N {INPUT} {OUTPUT} {INPUT})": (1, 104, "unexpected `(declare-input`", "before its"),
    VERSION + f"(declare-network and {INPUT} {OUTPUT})": (1, 41, "unexpected `and`", "network's name"),
    VERSION + f"(declare-network f-copy {INPUT} {OUTPUT})": (1, 41, "unexpected `f-copy`", "network's name"),
    VERSION + f"(declare-network X {INPUT} {OUTPUT})": (1, 58, "X is declared twice", "one declaration"),
    VERSION + f"(declare-network N {INPUT} {INPUT} {OUTPUT})": (1, 88, "X is declared twice", "one declaration"),
    VERSION + "(declare-network N (declare-input _X float32 [1])": (1, 58, "unexpected `_X`", "tensor's name"),
    VERSION + "(declare-network N (declare-input X float32 [1] \"x\")": (1, 72, "unexpected `\"x\"`", "`)`"),
    VERSION + "(declare-network N (declare-input X float [1])": (1, 60, "unexpected `float`", "float32"),
    VERSION + "(declare-network N (declare-input X float32 [0])": (1, 69, "unexpected `0`", "positive integer"),
    VERSION + "(declare-network N (declare-input X float32 [1.5])": (1, 69, "unexpected `1.5`", "positive integer"),
    VERSION + "(declare-network N (declare-input X float32 [-1])": (1, 69, "unexpected `-1`", "positive integer"),
    VERSION + "(declare-network N (declare-input X float32 [1 4])": (1, 71, "unexpected `4`", "`,`"),
    VERSION + "(declare-network N (declare-input X float32 [1,3,])": (1, 73, "unexpected `]`", "positive integer"),
    VERSION + "(declare-network N (declare-input X float32)": (1, 67, "unexpected `)`", "a shape"),
    VERSION + f"(declare-network N {INPUT} (declare-output Y real [1]))": (1, 91, "real together", "either"),
    VERSION + f"(declare-network N (equal-to N) {INPUT} {OUTPUT})": (1, 53, "no network declared before", "network"),
    VERSION + f"(declare-network N (isomorphic-to M) {INPUT} {OUTPUT})": (1, 58, "no network declared", "network"),
}  # fmt: skip

UNSUPPORTED_HEADERS = {
    "(vnnlib-version <1.0>)": (1, 17, "version <1.0>", "<2.0>"),
    "(vnnlib-version <3.0>)": (1, 17, "version <3.0>", "<2.0>"),
    VERSION + "(declare-network N (declare-input X int64 [1])": (1, 60, "element type `int64`", "float32"),
    VERSION + "(declare-network N (declare-input X float32 [1] initialized)": (1, 72, "initialises", "`)`"),
    VERSION + f'(declare-network N {INPUT} (declare-hidden H float32 [1] "h") {OUTPUT})': (1, 73, "hidden", "output"),
    VERSION + f"(declare-network N {INPUT} (declare-output Y float64 [1]))": (1, 91, "several element", "one of"),
    VERSION + "(declare-network N (declare-input X float32 [99999,99999])": (1, 68, "too many entries", "at most"),
    VERSION + f"(declare-network N {INPUT} {OUTPUT})(assert (<= X[0] 1.0))": (1, 58, "X[0] has no lower", "finite"),
}

F = "(declare-network f (declare-input Xf float32 [1,2]) (declare-output Yf float32 [1]))\n"
SECOND = {
    "(declare-network f (declare-input Xg float32 [2]) (declare-output Yg float32 [1]))": (3, 18, "f is declared tw"),
    "(declare-network g (declare-input Xf float32 [2]) (declare-output Yg float32 [1]))": (3, 35, "Xf is declared tw"),
    "(declare-network g (equal-to h) (declare-input Xg float32 [1,2])": (3, 30, "`h` is no network"),
    "(declare-network g (equal-to f) (declare-input Xg float32 [2]) (declare-output Yg float32 [1]))": (
        3, 20, "Xg and Xf differ",
    ),
    "(declare-network g (isomorphic-to f) (declare-input Xg float32 [1,2]) (declare-output Yg float32 [2]))": (
        3, 20, "Yg and Yf differ",
    ),
    "(declare-network g (equal-to f) (declare-input Xg float32 [1,2]) (declare-input Wg float32 [1])"
    " (declare-output Yg float32 [1]))": (3, 20, "g has 2 inputs, but f has 1"),
    "(declare-network g (equal-to f) (isomorphic-to f) (declare-input Xg float32 [1,2])": (3, 33, "second relation"),
    "(declare-network g (equal-to f) (declare-input Xg float32 [1,2]) (declare-output Yg float32 [1]))\n"
    "(declare-network h (equal-to g) (declare-input Xh float32 [1,2]) (declare-output Yh float32 [1]))": (
        4, 30, "g is itself equal-to another",
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", BODY)
def test_malformed(text: str) -> None:
    check(HEADER + text, BODY[text], VnnlibError)


@pytest.mark.parametrize("text", HEADERS)
def test_malformed_heads(text: str) -> None:
    check(text, HEADERS[text], VnnlibError)


@pytest.mark.parametrize("text", UNSUPPORTED_HEADERS)
def test_outside_the_fragment(text: str) -> None:
    check(text, UNSUPPORTED_HEADERS[text], UnsupportedVnnlib)


@pytest.mark.parametrize("text", SECOND)
def test_second_networks(text: str) -> None:
    check(VERSION + "\n" + F + text, (*SECOND[text], ""), VnnlibError)


def check(text: str, where_and_what: tuple[int, int, str, str], kind: type[VnnlibError]) -> None:
    line, column, message, expected = where_and_what
    with pytest.raises(VnnlibError) as caught:
        vnnlib.parse(text, "file.vnnlib")
    error = caught.value
    assert type(error) is kind
    assert message in error.message
    assert (error.source, error.line, error.column) == ("file.vnnlib", line, column)
    assert error.expected is not None and expected in error.expected


def test_every_truncation_is_noticed() -> None:
    text = HEADER + "(assert (or (and (<= Y[0] 1.0) (< Y[1] Y[0]))(and (!= S (* 2.0 Y[0] X [ 0 , 0 ])))))"
    ends = {n for n in range(len(text)) if text[:n].count("(") == text[:n].count(")") and "assert" in text[:n]}
    for n in range(len(text)):
        if n not in ends:
            with pytest.raises(VnnlibError):
                vnnlib.parse(text[:n])


def test_damage_is_an_error_or_harmless() -> None:
    """Whatever the bytes, nothing but a VnnlibError comes out, and its position is within the text."""
    rng = random.Random(0)
    text = HEADER + "(assert (or (and (<= Y[0] 1e-3) (< Y[1] Y[0])) (and (!= S (* 2.5 (- Y[2]) X [0, 1] )))))"
    lines = text.count("\n") + 1
    for _ in range(800):
        damaged = bytearray(text.encode())
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randint(0, 2)] = rng.choice(
                [b"", b"(", b")", b" ", b";", b"-", b"\xff", b"7", b"and", b"[", b"]", b",", b'"', b"X"]
            )
        try:
            vnnlib.parse_query(bytes(damaged))
        except VnnlibError as error:
            assert 1 <= error.line <= lines and error.column >= 1


def test_products_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_MOST_TERMS", 8)
    text = HEADER + "(assert (<= (* (+ Y[0] Y[1] Y[2]) (+ Y[0] Y[1] Y[2])) 1.0))"
    with pytest.raises(UnsupportedVnnlib, match=r":7:13: a product has more than 8 terms"):
        vnnlib.parse_query(text)


def test_what_a_property_of_one_network_cannot_say() -> None:
    with pytest.raises(UnsupportedVnnlib, match="several networks or products"):
        vnnlib.parse(HEADER + "(assert (<= (* Y[0] Y[1]) 1.0))")
