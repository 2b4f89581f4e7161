"""What is refused, where, and with which words."""

from __future__ import annotations

import random
import re

import pytest

import vnnlib
from vnnlib import UnsupportedVnnlib, VnnlibError, dnf

HEADER = """\
(declare-const X_0 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 0))
(assert (<= X_0 1))
"""  # what is appended to it begins in line 6

# text behind the header -> line, column, fragments of message and expectation
SYNTAX = {
    ")": (6, 1, "unexpected `)`", "assert"),
    "foo": (6, 1, "unexpected `foo` outside a statement", "assert"),
    "(": (6, 2, "file ends behind `(`", "assert"),
    "()": (6, 2, "unexpected `)`", "operator"),
    "((<= Y_0 1))": (6, 2, "unexpected `(<=`", "operator"),
    "(<= Y_0 1)": (6, 1, "unexpected `(<=` outside a statement", "assert"),
    "(and (<= Y_0 1))": (6, 1, "unexpected `(and` outside a statement", "assert"),
    "(or (<= Y_0 1))": (6, 2, "unexpected `or` as an operator", "assert"),
    "(assert": (6, 8, "file ends within (assert .. of line 6, column 1", "`)`"),
    "(assert (<= Y_0 1)": (6, 19, "file ends within (assert", "`)`"),
    "(assert (or (and (<= Y_0 1)\n(<= Y_1": (7, 8, "file ends within (<= .. of line 7, column 1", "`)`"),
    "(assert (<= Y_0 1))\n\n  )": (8, 3, "unexpected `)`", "end of the file"),
    "(assert)": (6, 8, "`assert` has 0 of 1 operands", "comparison"),
    "(assert (<= Y_0 1) (<= Y_0 2))": (6, 20, "unexpected `(<=`", "`)`"),
    "(assert (= Y_0 1) (= Y_0 2))": (6, 19, "unexpected `(=`", "`)`"),
    "(assert (and (<= Y_0 1)) (and (<= Y_0 2)))": (6, 26, "unexpected `(and`", "`)`"),
    "(assert (or (<= Y_0 1)) (or (<= Y_0 2)))": (6, 25, "unexpected `(or`", "`)`"),
    "(assert (and))": (6, 13, "`and` has 0 of at least 1 operands", "comparison"),
    "(assert (or))": (6, 12, "`or` has 0 of at least 1 operands", "comparison"),
    "(assert (<=))": (6, 12, "`<=` has 0 of 2 operands", "number"),
    "(assert (<= Y_0))": (6, 16, "`<=` has 1 of 2 operands", "number"),
    "(assert (<= Y_0 1 2))": (6, 19, "unexpected `2`", "two operands"),
    "(assert (= Y_0 1 (+ 2 3)))": (6, 18, "unexpected `(+`", "two operands"),
    "(assert (<= (+) 1))": (6, 15, "`+` has 0 of at least 1 operands", "number"),
    "(assert Y_0)": (6, 9, "unexpected `Y_0` in (assert ..", "comparison"),
    "(assert (and 5))": (6, 14, "unexpected `5` in (and ..", "comparison"),
    "(assert (+ Y_0 1))": (6, 10, "unexpected `+` as an operator", "comparison"),
    "(assert (assert (<= Y_0 1)))": (6, 9, "unexpected `(assert` in (assert ..", "comparison"),
    "(assert (or (declare-const Y_2 Real)))": (6, 13, "unexpected `(declare-const`", "comparison"),
    "(assert (<= (<= Y_0 1) 1))": (6, 13, "unexpected `(<=` as an operand of `<=`", "number"),
    "(assert (<= (and (<= Y_0 1)) 1))": (6, 13, "unexpected `(and` as an operand of `<=`", "number"),
    "(assert (<= (or (<= Y_0 1)) 1))": (6, 14, "unexpected `or` as an operator", "number"),
    "(assert (0.5 Y_0 1))": (6, 10, "unexpected `0.5` as an operator", "comparison"),
    "(assert (or\n  (and (<= (0.74 (- Y_0 (+ (* 13.9 X_0) (* 12.3 X_0) 39.4)))) (<= X_0 1))))": (
        7, 13, "unexpected `0.74` as an operator", "a sum, difference or product",
    ),
    "(assert (<= Y_0 Y_2))": (6, 17, "Y_2 is not declared", "(declare-const Y_2 Real)"),
    "(assert (<= X_1 0))": (6, 13, "X_1 is not declared", "(declare-const X_1 Real)"),
    "(assert (<= X_12 X_1))": (6, 13, "X_12 is not declared", "(declare-const X_12 Real)"),
    "(assert (<= (+ Y_3 0) 0))": (6, 16, "Y_3 is not declared", "(declare-const Y_3 Real)"),
    "(assert (or (and (<= Y_0 0))\n (and (<= Y_7 0))))": (7, 11, "Y_7 is not declared", "(declare-const Y_7 Real)"),
    "(assert (<= Y_2 0)) (declare-const Y_2 Real)": (6, 13, "Y_2 is not declared", "before its use"),
    "(declare-const Y_1 Real)": (6, 16, "Y_1 is declared twice", "one declaration"),
    "(declare-const Y_2 Real)\n (declare-fun Y_2 () Real)": (7, 15, "Y_2 is declared twice", "one declaration"),
    "(declare-const Y_3 Real)": (6, 16, "Y_3 is declared, but Y_2 is not", "Y_2"),
    "(declare-const Y_2)": (6, 19, "unexpected `)`", "Real"),
    "(declare-const Y_2 Real Real)": (6, 25, "unexpected `Real`", "`)`"),
    "(declare-const)": (6, 15, "unexpected `)`", "X_i or Y_j"),
    "(declare-const Y_2": (6, 19, "unexpected end of file", "Real"),
    "(declare-fun Y_2 Real)": (6, 18, "unexpected `Real`", "empty argument list"),
    "(declare-fun Y_2 (Real) Real)": (6, 19, "unexpected `Real`", "functions of arguments"),
    "(assert (<= Y_0 .5))": (6, 17, "malformed number `.5`", "finite number"),
    "(assert (<= Y_0 5.))": (6, 17, "malformed number `5.`", "finite number"),
    "(assert (<= Y_0 +5))": (6, 17, "malformed number `+5`", "finite number"),
    "(assert (<= Y_0 1_0))": (6, 17, "malformed number `1_0`", "finite number"),
    "(assert (<= Y_0 1.2.3))": (6, 17, "malformed number `1.2.3`", "finite number"),
    "(assert (<= Y_0 1e))": (6, 17, "malformed number `1e`", "finite number"),
    "(assert (<= Y_0 --1))": (6, 17, "malformed number `--1`", "finite number"),
    "(assert (<= Y_0 -))": (6, 17, "malformed number `-`", "finite number"),
    "(assert (<= Y_0 0x10))": (6, 17, "malformed number `0x10`", "finite number"),
    "(assert (<= Y_0 nan))": (6, 17, "malformed number `nan`", "finite number"),
    "(assert (<= Y_0 -inf))": (6, 17, "malformed number `-inf`", "finite number"),
}  # fmt: skip

UNSUPPORTED = {
    "(check-sat)": (6, 2, "`check-sat` is outside the supported fragment", "assert"),
    "(assert (not (<= Y_0 1)))": (6, 10, "`not` is outside", "comparison"),
    "(assert (=> (<= Y_0 1) (<= Y_1 1)))": (6, 10, "`=>` is outside", "comparison"),
    "(assert (!= Y_0 1))": (6, 10, "`!=` is outside", "comparison"),
    "(assert (=< Y_0 1))": (6, 10, "`=<` is outside", "comparison"),
    "(assert (<=> Y_0 1))": (6, 10, "`<=>` is outside", "comparison"),
    "(assert (<= (/ Y_0 2) 1))": (6, 14, "`/` is outside", "number"),
    "(assert (<= (* X_0 Y_0) 1))": (6, 13, "product of variables", "at most one factor"),
    "(assert (<= (* (+ 1 X_0) 2 (- Y_0)) 1))": (6, 13, "product of variables", "at most one factor"),
    "(assert (<= Y_0 1e999))": (6, 17, "`1e999` is beyond double precision", "finite"),
    "(assert (<= (* 1e300 1e300 Y_0) 1))": (6, 9, "out of range", "finite"),
    "(assert (<= (* 1e-200 1e-200 Y_0) 1))": (6, 9, "out of range", "finite"),
    "(declare-const X_1 Int)": (6, 20, "sort `Int` is not supported", "Real"),
    "(declare-const X_0_1 Real)": (6, 16, "`X_0_1` has several indices", "one index"),
    "(declare-const X[0] Real)": (6, 16, "`X[0]` has several indices", "one index"),
    "(declare-const foo Real)": (6, 16, "`foo` is not the name of an input or output", "X_i or Y_j"),
    "(declare-const X_01 Real)": (6, 16, "`X_01` is not the name", "X_i or Y_j"),
    "(declare-const x_1 Real)": (6, 16, "`x_1` is not the name", "X_i or Y_j"),
    "(declare-const X_99999999 Real)": (6, 16, "`X_99999999` is too large", "less than"),
    "(declare-const X_99999999999 Real)": (6, 16, "`X_99999999999` is too large", "X_i or Y_j"),
    "(assert (<= Z_0 1))": (6, 13, "`Z_0` is not the name", "X_i or Y_j"),
    "(declare-const X_1 Real)": (6, 16, "input X_1 has no lower and no upper bound", "finite bounds"),
    "(declare-const X_1 Real)(assert (or (and (<= X_1 2) (>= X_1 1)) (<= X_1 2)))": (
        6, 16, "input X_1 has no lower bound in disjunct 2", "finite bounds",
    ),
    "(assert\x00 (<= Y_0 1))": (6, 2, "outside the supported fragment", "assert"),
    "(assert (<= Y_0 \xe9))": (6, 17, "is not the name", "X_i or Y_j"),
}  # fmt: skip


@pytest.mark.parametrize("text", SYNTAX)
def test_malformed(text: str) -> None:
    check(text, SYNTAX[text], VnnlibError)


@pytest.mark.parametrize("text", UNSUPPORTED)
def test_outside_the_fragment(text: str) -> None:
    check(text, UNSUPPORTED[text], UnsupportedVnnlib)


def check(text: str, where_and_what: tuple[int, int, str, str], kind: type[VnnlibError]) -> None:
    line, column, message, expected = where_and_what
    with pytest.raises(VnnlibError) as caught:
        vnnlib.parse(HEADER + text, "file.vnnlib")
    error = caught.value
    assert type(error) is kind
    assert (error.source, error.line, error.column) == ("file.vnnlib", line, column)
    assert message in error.message
    assert error.expected is not None and expected in error.expected
    assert str(error) == f"file.vnnlib:{line}:{column}: {error.message}, expected {error.expected}"


@pytest.mark.parametrize("text", ["", "; nothing\n", "(declare-const Y_0 Real)"])
def test_without_inputs(text: str) -> None:
    with pytest.raises(VnnlibError, match="no input is declared"):
        vnnlib.parse(text)


def test_a_gap_between_indices() -> None:
    with pytest.raises(VnnlibError, match=re.escape("2:16: X_2 is declared, but X_1 is not")):
        vnnlib.parse("(declare-const X_0 Real)\n(declare-const X_2 Real)\n(assert (= X_0 0))(assert (= X_2 0))")


def test_lines_are_counted_behind_comments() -> None:
    with pytest.raises(VnnlibError, match=r"^<string>:7:13: Y_9 is not declared"):
        vnnlib.parse(HEADER + "; one (\n(assert (<= Y_9 0)) ; two")


def test_every_truncation_is_noticed() -> None:
    text = HEADER + "(assert (or (and (<= Y_0 1) (< Y_1 Y_0))(and (= X_0 (* 2 Y_0)))))"
    statement_ends = {n for n in range(len(text)) if text[:n].count("(") == text[:n].count(")")}
    for n in range(len(text)):
        if n not in statement_ends:
            with pytest.raises(VnnlibError):
                vnnlib.parse(text[:n])


def test_damage_is_an_error_or_harmless() -> None:
    """Whatever the bytes, nothing but a VnnlibError comes out, and its position is within the text."""
    rng = random.Random(0)
    text = (
        HEADER
        + "(assert (or (and (<= Y_0 1e-3) (< Y_1 Y_0)) (and (= X_0 (* 2.5 (- Y_0))))))\n(declare-fun Y_2 () Real)"
    )
    lines = text.count("\n") + 1
    for _ in range(500):
        damaged = bytearray(text.encode())
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randint(0, 2)] = rng.choice(
                [b"", b"(", b")", b" ", b";", b"-", b"\xff", b"7", b"and"]
            )
        try:
            vnnlib.parse(bytes(damaged))
        except VnnlibError as error:
            assert 1 <= error.line <= lines and error.column >= 1


def test_depth_is_limited() -> None:
    with pytest.raises(UnsupportedVnnlib, match="nested"):
        vnnlib.parse(HEADER + "(assert " + "(and " * 20_000)


def test_products_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dnf.MOST_DISJUNCTS == 2_000_000
    monkeypatch.setattr(dnf, "MOST_DISJUNCTS", 1024)
    clause = "(assert (or (<= Y_0 0) (<= Y_1 0)))\n"
    assert vnnlib.parse(HEADER + clause * 10).n_disjuncts == 1024
    with pytest.raises(UnsupportedVnnlib, match=r":16:1: the product of the disjunctions has more than 1024"):
        vnnlib.parse(HEADER + clause * 50)
    with pytest.raises(UnsupportedVnnlib, match=r":6:9: more than 1024 disjuncts"):
        vnnlib.parse(HEADER + "(assert (or" + "(<= Y_0 0)" * 1025 + "))")


def test_rows_in_all_disjuncts_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnf, "MOST_ITEMS", 100)
    rows = "(assert (<= Y_0 1))" * 51
    with pytest.raises(UnsupportedVnnlib, match="more than 100 comparisons"):
        vnnlib.parse(HEADER + "(assert (or (<= Y_0 0) (<= Y_1 0)))" + rows)
