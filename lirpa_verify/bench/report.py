"""A report on a run: what a terminal shows, and the same as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lirpa_verify.bench.contradictions import Contradiction, contradictions
from lirpa_verify.bench.instance import stem
from lirpa_verify.bench.outcome import Outcome, Run
from lirpa_verify.bench.plots import cactus, scatter
from lirpa_verify.bench.svg import Axis, seconds_axis
from lirpa_verify.bench.table import COLUMNS, Line, table
from lirpa_verify.bench.textplot import text_plot
from lirpa_verify.results import write_atomically

_SYMBOLS = "ox+*#@"


@dataclass(frozen=True)
class Report:
    """Everything that a report says, in whichever form."""

    run: Run
    others: Sequence[Run]
    contradictions: list[Contradiction]
    lines: list[Line]

    @property
    def unchecked(self) -> int:
        """How many `sat` nobody has replayed yet."""
        return sum(outcome.verdict == "sat" and not outcome.checked for outcome in self.run.outcomes)


def make_report(run: Run, others: Sequence[Run]) -> Report:
    return Report(run, others, contradictions(run, others), table(run, others))


def headline(report: Report) -> str:
    """How it went, in one line."""
    total = report.lines[-1]
    parts = [f"{total.solved} of {total.instances} solved ({total.verified} verified, {total.falsified} falsified)"]
    parts.append(f"{total.wrong} wrong")
    parts.append(f"{total.points} points")
    if report.run.open:
        parts.append(f"{report.run.open} not run yet")
    if report.unchecked:
        parts.append(f"witnesses not checked yet (lirpa-bench check): {report.unchecked}")
    return ", ".join(parts)


def text_report(report: Report) -> str:
    """Contradictions first, then the table, then the plots."""
    sections = [f"{report.run.name}: {headline(report)}"]
    if report.contradictions:
        rows = [(*_names(c.outcome), c.says, c.against) for c in report.contradictions]
        head = ("category", "model", "property", "answer", "against it")
        sections.append("CONTRADICTIONS\n" + aligned([head, *rows]))
    numbers = range(1, len(COLUMNS))
    sections.append(aligned([COLUMNS, *(line.cells() for line in report.lines)], right=numbers))
    sections.append(_cactus_text([report.run, *report.others]))
    sections += [_scatter_text(report.run, other) for other in report.others]
    return "\n\n".join(sections) + "\n"


def aligned(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Cells in columns; those numbered in `right` are flush right."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    flush_right = set(right)
    lines = []
    for row in rows:
        cells = (c.rjust(w) if i in flush_right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths)))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _names(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.category, stem(outcome.onnx), stem(outcome.vnnlib)


def _cactus_text(runs: Sequence[Run]) -> str:
    curves = [cactus(run) for run in runs]
    most = max(5, *map(len, curves))
    times = [seconds for curve in curves for _, seconds in curve]
    series = [(_SYMBOLS[i % len(_SYMBOLS)], run.name, curve) for i, (run, curve) in enumerate(zip(runs, curves))]
    return text_plot(Axis("instances solved", 0, most), seconds_axis("time of each, seconds", times), series)


def _scatter_text(run: Run, other: Run) -> str:
    both = [(a.seconds, b.seconds) for a, b, _ in scatter(run, other) if a.solved and b.solved]
    axis = seconds_axis(f"{run.name}, seconds", [seconds for pair in both for seconds in pair])
    upright = Axis(f"{other.name}, seconds", axis.low, axis.high, True)
    steps = [axis.low * (axis.high / axis.low) ** (k / 63) for k in range(64)]
    diagonal = (".", "equally fast", [(step, step) for step in steps])
    return text_plot(axis, upright, [diagonal, ("o", "solved by both", both)])


def write_csv_files(report: Report, folder: Path) -> None:
    """`categories.csv`, `contradictions.csv`, `instances.csv`, `cactus.csv` and, with other runs, `scatter.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "categories.csv", COLUMNS, (line.cells() for line in report.lines))
    _write(
        folder / "contradictions.csv",
        ("category", "onnx", "vnnlib", "answer", "against"),
        ((*c.outcome.key, c.says, c.against) for c in report.contradictions),
    )
    _write(
        folder / "instances.csv",
        ("category", "onnx", "vnnlib", "expected", "timeout", "verdict", "seconds", "witness", "repeats", "detail"),
        (
            (*o.key, o.expected, o.timeout, o.verdict, f"{o.seconds:.4f}", o.checked, o.repeats, o.detail)
            for o in report.run.outcomes
        ),
    )
    curves = ((run.name, n, f"{s:.4f}") for run in (report.run, *report.others) for n, s in cactus(run))
    _write(folder / "cactus.csv", ("run", "solved", "seconds"), curves)
    if report.others:
        pairs = (
            (other.name, *a.key, a.verdict, f"{a.seconds:.4f}", b.verdict, f"{b.seconds:.4f}")
            for other in report.others
            for a, b, _ in scatter(report.run, other)
        )
        head = ("other", "category", "onnx", "vnnlib", "verdict", "seconds", "other verdict", "other seconds")
        _write(folder / "scatter.csv", head, pairs)


def _write(file: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_atomically(file, text.getvalue())
