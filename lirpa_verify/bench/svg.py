"""Small charts as SVG text: axes with units, a legend, and shapes that survive a black and white print.

Drawn for a width of 420 units, which is about a phone's: what is readable there is so on any larger screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 12.0, 46.0
_LINE = 17.0  # height of a line of the legend
_SHORT = 24  # characters of a legend's text that leave room for another beside it

# Okabe and Ito's colours, which people with any kind of colour blindness tell apart; and dashes, for print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2")


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, on a linear or logarithmic scale."""

    label: str
    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where between 0 and 1 a value lies; what is outside is moved to the end."""
        value = min(self.high, max(self.low, value))
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Powers of ten (and between few of them 2 and 5 times those), or some five round numbers."""
        if self.logarithmic:
            factors = (1, 2, 5) if self.high < 101 * self.low else (1,)
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = [factor * 10.0**k for k in decades for factor in factors]
            return [mark for mark in marks if self.low * (1 - 1e-9) <= mark <= self.high * (1 + 1e-9)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
        count = int((self.high - self.low) / step + 1e-9)
        return [self.low + k * step for k in range(count + 1)]


def seconds_axis(label: str, values: Iterable[float]) -> Axis:
    """A logarithmic axis around these times in seconds, with at least a decade."""
    times = [max(value, 1e-2) for value in values] or [1.0]
    low = max(step for step in _round_numbers(min(times)) if step <= min(times))
    high = min(step for step in _round_numbers(max(times)) if step >= max(times))
    return Axis(label, low, max(high, 10 * low), logarithmic=True)


def _round_numbers(near: float) -> list[float]:
    """1, 2 or 5 times a power of ten, some below `near` and some above."""
    decade = 10.0 ** math.floor(math.log10(near))
    return [factor * decade for factor in (0.5, 1, 2, 5, 10)]


@dataclass(frozen=True)
class Frame:
    """The area between two axes."""

    x: Axis
    y: Axis

    def at(self, x: float, y: float) -> tuple[float, float]:
        across, up = self.x.place(x), self.y.place(y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> Iterable[str]:
        """Grid lines, numbers at the ticks, labels of the axes."""
        x0, y0 = self.at(self.x.low, self.y.low)
        x1, y1 = self.at(self.x.high, self.y.high)
        for tick in self.x.ticks():
            x, _ = self.at(tick, self.y.low)
            yield f'<line class="grid" x1="{x:.1f}" y1="{y0:.1f}" x2="{x:.1f}" y2="{y1:.1f}"/>'
            yield f'<text x="{x:.1f}" y="{y0 + 16:.1f}" text-anchor="middle">{tick:g}</text>'
        for tick in self.y.ticks():
            _, y = self.at(self.x.low, tick)
            yield f'<line class="grid" x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{x0 - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        yield f'<rect class="frame" x="{x0:.1f}" y="{y1:.1f}" width="{x1 - x0:.1f}" height="{y0 - y1:.1f}"/>'
        yield f'<text x="{(x0 + x1) / 2:.1f}" y="{HEIGHT - 8:.1f}" text-anchor="middle">{escape(self.x.label)}</text>'
        middle = (y0 + y1) / 2
        yield (
            f'<text x="13" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 13 {middle:.1f})">'
            f"{escape(self.y.label)}</text>"
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, dash: str, title: str) -> str:
        placed = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in points)
        return (
            f'<polyline points="{placed}" fill="none" stroke="{colour}" stroke-width="2.2" '
            f'stroke-dasharray="{dash}"><title>{escape(title)}</title></polyline>'
        )


def shape(kind: str, x: float, y: float, colour: str, title: str = "") -> str:
    """A `circle`, `triangle` or `cross` of some 7 units around a place."""
    label = f"<title>{escape(title)}</title>" if title else ""
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour}" fill-opacity=".7">{label}</circle>'
    paths = {"triangle": "m0 -4.4 4.2 7.4h-8.4z", "cross": "m-3.5 -3.5 7 7m0 -7 -7 7"}
    paint = f'fill="{colour}" fill-opacity=".7"' if kind == "triangle" else f'stroke="{colour}" stroke-width="1.8"'
    return f'<path transform="translate({x:.1f} {y:.1f})" d="{paths[kind]}" {paint}>{label}</path>'


def legend(entries: Sequence[tuple[str, str]]) -> tuple[str, float]:
    """Symbols (drawn around 10, 0) with their texts, below the plot; and the height that this takes."""
    drawn = []
    columns = 2 if all(len(text) <= _SHORT for _, text in entries) else 1
    for i, (symbol, text) in enumerate(entries):
        x = 16 + (i % columns) * WIDTH / columns
        y = HEIGHT + 8 + (i // columns) * _LINE
        drawn.append(f'<g transform="translate({x:.1f} {y:.1f})">{symbol}<text x="26" y="4">{escape(text)}</text></g>')
    rows = math.ceil(len(entries) / columns)
    return "".join(drawn), rows * _LINE + 8


def document(parts: Iterable[str], entries: Sequence[tuple[str, str]], title: str) -> str:
    """The whole picture; `title` is what a screen reader says."""
    keys, extra = legend(entries)
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT + extra:g}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}{keys}</svg>'
    )
