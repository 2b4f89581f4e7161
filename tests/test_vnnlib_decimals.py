"""Decimal numerals become the nearest float64, whichever way they are read."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np

import vnnlib
from vnnlib.decimals import PADDING, read_indices, read_numerals
from vnnlib.linear import exact_numeral


def columns(words: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    buffer = np.frombuffer(("(".join(words) + " " * PADDING).encode(), dtype=np.uint8)
    length = np.array([len(word) for word in words])
    return buffer, np.cumsum(length + 1) - length - 1, length


def numerals(rng: random.Random) -> list[str]:
    words = ["0", "-0", "0.0", "1", "-1", "007", "0.1", "0.30", "9007199254740993", "9007199254740992", "1e22", "1e23"]
    words += ["18446744073709551616", "9999999999999999999", "0.00000000000000000001", "8.5e-324", "2.5e-324", "1e-400"]
    words += ["1.7976931348623157e308", "4503599627370496.5", "4503599627370497.5", "0." + "3" * 60, "1" + "0" * 60]
    for _ in range(3000):
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 22)))
        point = rng.randint(1, len(digits))
        word = digits[:point] + ("." + digits[point:] if point < len(digits) else "")
        word += rng.choice(["", "", "", f"e{rng.randint(-330, 280)}", f"E+{rng.randint(0, 20)}"])
        words.append(rng.choice(["", "-"]) + word)
    # numbers as programs print them, and decimals next to the midpoint of two doubles
    for _ in range(1000):
        value = rng.uniform(-4, 4)
        words += [repr(value), f"{value:.18f}", repr(float(np.float32(value)))]
        middle = (Fraction(abs(value)) + Fraction(float(np.nextafter(abs(value), 5)))) / 2
        digits = int(middle * 10**17)
        words += [f"{(digits + n) // 10**17}.{(digits + n) % 10**17:017d}" for n in (0, 1)]
    return words


def test_rounding_is_correct() -> None:
    words = numerals(random.Random(0))
    value, good = read_numerals(*columns(words))
    assert good.all()
    # Fractions round correctly when they are divided, and are not what the parser uses here
    expected = [Fraction(word).numerator / Fraction(word).denominator for word in words]
    np.testing.assert_array_equal(value, expected)


def test_exact_numerals() -> None:
    assert exact_numeral(b"-0.1") == Fraction(-1, 10)
    assert exact_numeral(b"25e-1") == Fraction(5, 2)
    assert exact_numeral(b"1e-999999999") == 0  # at once, not after computing 10**999999999
    assert exact_numeral(b"0." + b"1" * 5000) == Fraction(float("0." + "1" * 5000))
    assert exact_numeral(b"1e400") is exact_numeral(b"x") is None


def test_what_is_no_numeral() -> None:
    words = [
        "",
        "-",
        ".",
        "-.5",
        "5.",
        "1.2.3",
        "1..2",
        "--1",
        "1-2",
        "+1",
        "1e",
        "1e+",
        "e5",
        "1_0",
        "1 0",
        "nan",
        "x",
    ]
    words += ["1e999", "-" + "9" * 400, "0x1", "1.5f", "1,5", "1" + "." * 23]
    _, good = read_numerals(*columns(words))
    assert not good.any()


def test_indices() -> None:
    words = ["0", "7", "10", "999999999", "", "01", "00", "1a", "-1", "1234567890", "1.0"]
    value, good = read_indices(*columns(words))
    assert value[good].tolist() == [0, 7, 10, 999999999]
    assert good.tolist() == [True] * 4 + [False] * 7


def test_eighteen_digits_in_a_file() -> None:
    text = "(declare-const X_0 Real)(assert (>= X_0 0.123456789012345678))(assert (<= X_0 0.623456789012345678))"
    query = vnnlib.parse(text)
    assert (query.lower[0, 0], query.upper[0, 0]) == (0.123456789012345678, 0.623456789012345678)
