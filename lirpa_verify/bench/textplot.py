"""Plots of characters, for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from lirpa_verify.bench.svg import Axis

WIDTH, HEIGHT = 64, 16  # characters


def text_plot(x: Axis, y: Axis, series: Sequence[tuple[str, str, Sequence[tuple[float, float]]]]) -> str:
    """Points of series ``(symbol, name, points)``; where two meet, the later series is seen."""
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for symbol, _, points in series:
        for across, up in points:
            column = min(WIDTH - 1, int(x.place(across) * WIDTH))
            row = min(HEIGHT - 1, int(y.place(up) * HEIGHT))
            grid[HEIGHT - 1 - row][column] = symbol
    marks = {HEIGHT - 1 - min(HEIGHT - 1, int(y.place(tick) * HEIGHT)): f"{tick:g}" for tick in y.ticks()}
    margin = max(map(len, marks.values()))
    lines = [y.label]
    lines += [f"{marks.get(i, ''):>{margin}} |{''.join(row).rstrip()}" for i, row in enumerate(grid)]
    lines.append(f"{'':{margin}} +{'-' * WIDTH}")
    below = [" "] * (WIDTH + 8)
    for tick in x.ticks():
        at = int(x.place(tick) * WIDTH)
        below[at : at + len(f"{tick:g}")] = f"{tick:g}"
    lines.append(f"{'':{margin}}  {''.join(below).rstrip()}   {x.label}")
    lines.append(", ".join(f"{symbol} {name}" for symbol, name, _ in series))
    return "\n".join(lines)
