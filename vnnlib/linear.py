"""Linear expressions with exact coefficients, as the parser builds them from ``+``, ``-`` and ``*``."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from vnnlib.decimals import read_numeral

_LONGEST_EXACT_NUMERAL = 400  # what is longer, or has a larger exponent, is rounded to float64 at once


@dataclass
class Linear:
    """``constant + sum(terms[v] * v)``; the operations may reuse their operands' storage."""

    constant: Fraction = Fraction(0)
    terms: dict[int, Fraction] = field(default_factory=dict)

    def scaled(self, factor: Fraction) -> Linear:
        return Linear(self.constant * factor, {v: c * factor for v, c in self.terms.items() if c * factor})


def exact_numeral(token: bytes) -> Fraction | None:
    """The number that a numeral spells, None for what is no numeral or beyond float64."""
    value = read_numeral(token)
    if not abs(value) < float("inf"):
        return None
    _, _, exponent = token.lower().partition(b"e")
    long = len(token) > _LONGEST_EXACT_NUMERAL or abs(int(exponent or b"0")) > _LONGEST_EXACT_NUMERAL
    return Fraction(value) if long else Fraction(token.decode("ascii"))


def total(operands: list[Linear]) -> Linear:
    """The sum. It grows the operand with the most terms, so that long chains of sums take linear time."""
    result = max(operands, key=lambda operand: len(operand.terms))
    for operand in operands:
        if operand is result:
            continue
        result.constant += operand.constant
        for variable, coefficient in operand.terms.items():
            value = result.terms.get(variable, Fraction(0)) + coefficient
            if value:
                result.terms[variable] = value
            else:
                result.terms.pop(variable, None)
    return result


def difference(operands: list[Linear]) -> Linear:
    """First minus the others; a single operand is negated."""
    if len(operands) == 1:
        return operands[0].scaled(Fraction(-1))
    return total([operands[0], *(operand.scaled(Fraction(-1)) for operand in operands[1:])])


def product(operands: list[Linear]) -> Linear | None:
    """None if more than one factor depends on variables."""
    result = Linear(Fraction(1))
    for operand in operands:
        if result.terms and operand.terms:
            return None
        result = operand.scaled(result.constant) if operand.terms else result.scaled(operand.constant)
    return result
