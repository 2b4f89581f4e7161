"""The plots of a report: what is drawn in them, apart from how."""

from __future__ import annotations

from collections.abc import Sequence

from lirpa_verify.bench.instance import stem
from lirpa_verify.bench.match import pairs
from lirpa_verify.bench.outcome import Outcome, Run
from lirpa_verify.bench.svg import COLOURS, DASHES, Axis, Frame, document, seconds_axis, shape

_KINDS = {
    "sat": ("triangle", COLOURS[1], "falsified by both"),
    "unsat": ("circle", COLOURS[0], "verified by both"),
    "open": ("cross", COLOURS[2], "solved by one only (the other at the edge)"),
    "contradiction": ("cross", "#c00000", "contradictory answers"),
}


def cactus(run: Run) -> list[tuple[int, float]]:
    """How many instances are solved within how many seconds each: ``(1, fastest), ..., (solved, slowest)``."""
    times = sorted(outcome.seconds for outcome in run.outcomes if outcome.solved)
    return list(enumerate(times, start=1))


def cactus_svg(runs: Sequence[Run]) -> str:
    """One line per run: the further right, the more is solved; the lower, the faster."""
    curves = [cactus(run) for run in runs]
    everything = [seconds for curve in curves for _, seconds in curve]
    solved = max((len(curve) for curve in curves), default=0)
    frame = Frame(Axis("instances solved", 0, max(solved, 5)), seconds_axis("time of each, seconds", everything))
    parts = list(frame.grid())
    entries = []
    for i, (run, curve) in enumerate(zip(runs, curves)):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        parts.append(frame.line(curve, colour, dash, f"{run.name}: {len(curve)} solved"))
        symbol = f'<line x1="0" x2="20" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"/>'
        entries.append((symbol, f"{run.name} ({len(curve)})"))
    return document(parts, entries, "Cactus plot: instances solved against the time of each")


def scatter(run: Run, other: Run) -> list[tuple[Outcome, Outcome, str]]:
    """The pairs of instances that at least one of two runs has solved, and which kind each pair is."""
    return [(a, b, _kind(a, b)) for a, b in pairs(run.outcomes, other.outcomes) if a.solved or b.solved]


def _kind(a: Outcome, b: Outcome) -> str:
    if a.solved and b.solved:
        return a.verdict if a.verdict == b.verdict else "contradiction"
    return "open"


def scatter_svg(run: Run, other: Run) -> str:
    """A point per instance; below the diagonal the run is slower, above it the other one."""
    points = scatter(run, other)
    times = [each.seconds for a, b, _ in points for each in (a, b) if each.solved]
    axis = seconds_axis(f"{run.name}, seconds", times)
    # What is not solved lies on the far edge, beyond all times that are.
    edge = axis.high * 2
    x = Axis(axis.label, axis.low, edge, True)
    frame = Frame(x, Axis(f"{other.name}, seconds", axis.low, edge, True))
    parts = [*frame.grid(), frame.line([(x.low, x.low), (edge, edge)], "#888888", "2 3", "equally fast")]
    counts: dict[str, int] = dict.fromkeys(_KINDS, 0)
    for a, b, kind in points:
        counts[kind] += 1
        place = frame.at(a.seconds if a.solved else edge, b.seconds if b.solved else edge)
        title = f"{stem(a.onnx)} {stem(a.vnnlib)}: {a.verdict} {a.seconds:.2f} s, {b.verdict} {b.seconds:.2f} s"
        parts.append(shape(_KINDS[kind][0], *place, _KINDS[kind][1], title))
    entries = [
        (shape(form, 10, 0, colour), f"{text} ({counts[kind]})")
        for kind, (form, colour, text) in _KINDS.items()
        if counts[kind] or kind != "contradiction"
    ]
    return document(parts, entries, f"Scatter plot of times: {run.name} against {other.name}")
