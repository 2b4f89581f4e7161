"""The batch grows while that pays, and comes back where it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lirpa_verify.search.batch_size import LONGEST_ROUND, BatchSize


def settle(seconds: Callable[[int], float], limit: int = 2**14, rounds: int = 60) -> list[int]:
    size, seen = BatchSize(64, limit), []
    for _ in range(rounds):
        seen.append(size.now)
        size.learn(size.now, seconds(size.now))
    return seen


def test_overhead_makes_batches_large() -> None:
    assert settle(lambda n: 0.1 + 1e-5 * n)[-1] == 2**14


def test_rounds_stay_short() -> None:
    sizes = settle(lambda n: 0.1 + 0.02 * n)
    assert all(0.1 + 0.02 * n <= LONGEST_ROUND for n in sizes[-20:])


@pytest.mark.parametrize("best", [8, 256, 2048])
def test_the_fastest_size_is_found(best: int) -> None:
    """Beyond some size a cache is too small and every box costs more."""
    sizes = settle(lambda n: 1e-3 + 1e-5 * n * max(1.0, n / best))
    assert max(sizes[-20:]) <= 4 * best or best < 64
    assert min(sizes[-20:]) >= best // 4


def test_what_was_not_full_teaches_nothing() -> None:
    size = BatchSize(64, 1024)
    size.learn(3, 100.0)
    assert size == BatchSize(64, 1024)
