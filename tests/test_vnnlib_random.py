"""Random queries against an evaluator that shares nothing with the parser: regular expressions and recursion."""

from __future__ import annotations

import itertools
import operator
import random
import re
from fractions import Fraction

import numpy as np
import pytest

import vnnlib
from vnnlib import tokens

N_INPUTS, N_OUTPUTS = 2, 2
NAMES = ["X_0", "X_1", "Y_0", "Y_1"]
OPERATORS = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq, "==": operator.eq,
}  # fmt: skip
# Dyadic, so that coefficients are exact; few, so that ties between points and bounds happen often.
VALUES = [-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]


def number(rng: random.Random) -> str:
    value = rng.choice(VALUES)
    return rng.choice([repr(value), f"{value:.3f}", f"{value:.2e}", f"{value:g}"])


def term(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.5:
        return number(rng) if rng.random() < 0.4 else rng.choice(NAMES)
    head = rng.choice("+-*")
    if head == "*":
        factors = [number(rng), term(rng, depth - 1), number(rng)][: rng.randint(1, 3)]
        rng.shuffle(factors)
        return f"(* {' '.join(factors)})"
    return f"({head} {' '.join(term(rng, depth - 1) for _ in range(rng.randint(1, 3)))})"


def comparison(rng: random.Random) -> str:
    if rng.random() < 0.6:  # the usual shapes
        right = rng.choice([number(rng), rng.choice(NAMES)])
        return f"({rng.choice(['<=', '>=', '<=', '>=', '=', '<'])} {rng.choice(NAMES)} {right})"
    return f"({rng.choice(list(OPERATORS))} {term(rng, 2)} {term(rng, 2)})"


def formula(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        return comparison(rng)
    gap = rng.choice(["", " ", "\n\t", " ; and ( so on\n"])
    return f"({rng.choice(['and', 'or'])} {gap.join(formula(rng, depth - 1) for _ in range(rng.randint(1, 4)))})"


def query(rng: random.Random) -> str:
    declarations = [f"(declare-const {name} Real)" for name in NAMES]
    bounds = [f"(assert ({op} X_{i} {bound}))" for i in range(N_INPUTS) for op, bound in (("<=", 1), (">=", -1))]
    asserts = bounds + [f"(assert {formula(rng, rng.randint(0, 4))})" for _ in range(rng.randint(0, 3))]
    rng.shuffle(asserts)
    return "\n".join(declarations + asserts)


def evaluate(text: str, point: dict[str, Fraction]) -> bool:
    """Whether all assertions of ``text`` hold, by definition."""
    words = iter(re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)))

    def expression() -> object:
        word = next(words)
        if word != "(":
            return point[word] if word in point else Fraction(word)
        head = next(words)
        arguments = list(iter(lambda: operand(), None))
        if head in ("and", "or"):
            return (all if head == "and" else any)(arguments)
        if head in OPERATORS:
            return OPERATORS[head](*arguments)
        if head == "+":
            return sum(arguments)
        if head == "-":
            return -arguments[0] if len(arguments) == 1 else arguments[0] - sum(arguments[1:])
        result = Fraction(1)
        for argument in arguments:
            result *= argument
        return result

    def operand() -> object:
        nonlocal words
        word = next(words)
        if word == ")":
            return None
        words = itertools.chain([word], words)
        return expression()

    for _ in re.findall(r"\(declare", text):
        for _ in range(5):
            next(words)
    for _ in re.findall(r"\(assert", text):
        assert (next(words), next(words)) == ("(", "assert")
        if not expression():
            return False
        assert next(words) == ")"
    return True


@pytest.mark.parametrize("seed", range(150))
def test_random_queries(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(tokens, "_BLOCK", rng.randint(1, 200))
    text = query(rng)
    parsed = vnnlib.parse(text)
    for _ in range(40):
        point = [rng.choice(VALUES) if rng.random() < 0.8 else rng.randint(-9, 9) / 8 for _ in NAMES]
        expected = evaluate(text, {name: Fraction(value) for name, value in zip(NAMES, point)})
        assert parsed.evaluate(np.array(point[:N_INPUTS]), np.array(point[N_INPUTS:])) == expected, (text, point)
