"""Products of variables, numbered as if they were further outputs."""

from __future__ import annotations

from fractions import Fraction

from vnnlib.linear import Linear, total

_MOST_TERMS = 100_000


class TooManyTerms(ValueError):
    """Multiplying out would exceed what is sensible to hold."""


class Products:
    """A table that grows as polynomials are multiplied; of one product there is one number."""

    def __init__(self, n_outputs: int) -> None:
        self._n_outputs = n_outputs
        self._numbers: dict[tuple[int, ...], int] = {}
        self.factors: list[tuple[int, ...]] = []  # the variables of each product, in the order of the numbers

    def multiply(self, operands: list[Linear]) -> Linear:
        """The product of polynomials, which are linear in variables and products."""
        result, *others = operands
        for other in others:
            if not other.terms:
                result = result.scaled(other.constant)
            elif not result.terms:
                result = other.scaled(result.constant)
            else:
                result = self._expanded(result, other)
        return result

    def _expanded(self, a: Linear, b: Linear) -> Linear:
        if len(a.terms) * len(b.terms) > _MOST_TERMS:
            raise TooManyTerms(f"a product has more than {_MOST_TERMS} terms")
        terms: dict[int, Fraction] = {}
        for v, c in a.terms.items():
            for w, d in b.terms.items():
                number = self._number(v, w)
                terms[number] = terms.get(number, Fraction(0)) + c * d
        products = Linear(a.constant * b.constant, {number: c for number, c in terms.items() if c})
        return total([products, *(Linear(terms=x.scaled(y.constant).terms) for x, y in ((a, b), (b, a)))])

    def _number(self, v: int, w: int) -> int:
        factors = tuple(sorted((*self._factors_of(v), *self._factors_of(w))))
        if factors not in self._numbers:
            self._numbers[factors] = 2 * (self._n_outputs + len(self.factors)) + 1
            self.factors.append(factors)
        return self._numbers[factors]

    def _factors_of(self, variable: int) -> tuple[int, ...]:
        product = (variable >> 1) - self._n_outputs
        if variable % 2 == 0 or product < 0:
            return (variable,)
        return self.factors[product]
