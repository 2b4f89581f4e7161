"""Ground truth for small ReLU networks: exact values in rational arithmetic, minima over all activation patterns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import highspy
import numpy as np
from random_networks import Dense


def exact_value(module: Dense, x: Sequence[float]) -> list[Fraction]:
    """The outputs of a ReLU network without any rounding."""
    values = [Fraction(v) for v in x]
    for k, (weight, bias) in enumerate(zip(module.weights, module.biases)):
        values = [max(v, Fraction(0)) for v in values] if k else values
        columns = [[Fraction(w) for w in column] for column in weight.T.tolist()]
        values = [
            sum((w * v for w, v in zip(column, values)), Fraction(b)) for column, b in zip(columns, bias.tolist())
        ]
    return values


def rounded_up(value: Fraction) -> float:
    """The smallest float that is not below the value."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def linear_minimum(
    cost: np.ndarray, matrix: np.ndarray, limit: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """The least ``cost . x`` with ``matrix x <= limit`` in a box, and where; None where there is no such x."""
    solver = highspy.Highs()
    for option, setting in (("output_flag", False), ("threads", 1)):  # the programs under test use one thread too
        solver.setOptionValue(option, setting)
    for c, low, high in zip(cost, lower, upper):
        solver.addVar(low, high)
        solver.changeColCost(solver.getNumCol() - 1, c)
    index = np.arange(len(cost), dtype=np.int32)
    for row, bound in zip(matrix, limit):
        solver.addRow(-highspy.kHighsInf, bound, len(index), index, row)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return solver.getInfo().objective_function_value, np.array(solver.getSolution().col_value)


def minimum(
    module: Dense,
    rows: np.ndarray,
    rhs: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
) -> tuple[float, np.ndarray] | None:
    """The least ``rows[0] . y`` among points with ``rows[k] . y <= rhs[k]`` for k > 0, and where it is.

    Every activation pattern is one linear program.
    """
    hidden = [len(b) for b in module.biases[:-1]]
    best: tuple[float, np.ndarray] | None = None
    for pattern in itertools.product((0.0, 1.0), repeat=sum(hidden)):
        signs = np.split(np.array(pattern), np.cumsum(hidden)[:-1])
        slope, offset = np.eye(len(lower)), np.zeros(len(lower))
        matrix, limit = [], []
        for sign, weight, bias in zip(signs, module.weights, module.biases):
            slope, offset = slope @ weight.numpy(), offset @ weight.numpy() + bias.numpy()
            direction = 1 - 2 * sign  # z <= 0 where off, -z <= 0 where on
            matrix.append((slope * direction).T)
            limit.append(-offset * direction)
            slope, offset = slope * sign, offset * sign
        slope, offset = (
            slope @ module.weights[-1].numpy(),
            offset @ module.weights[-1].numpy() + module.biases[-1].numpy(),
        )
        matrix.append(rows[1:] @ slope.T)
        limit.append(rhs[1:] - rows[1:] @ offset)
        found = linear_minimum(slope @ rows[0], np.concatenate(matrix), np.concatenate(limit), lower, upper)
        if found is not None:
            value = found[0] + float(offset @ rows[0])
            best = (value, found[1]) if best is None or value < best[0] else best
    return best
