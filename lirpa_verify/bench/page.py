"""The report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape

from lirpa_verify.bench.instance import stem
from lirpa_verify.bench.outcome import Outcome, Run
from lirpa_verify.bench.plots import cactus_svg, scatter_svg
from lirpa_verify.bench.report import Report, headline
from lirpa_verify.bench.row import mark
from lirpa_verify.bench.table import COLUMNS

_STYLE = """
:root { --ink: #1a1a1a; --paper: #fff; --pale: #f2f4f6; --rule: #c8ccd0; --bad: #b00020; --good: #00693e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #16181a; --pale: #24282c; --rule: #4a5056; --bad: #ff8a94; --good: #6fd6a3; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { background: var(--pale); } td.number, th.number { text-align: right; }
td.words { white-space: normal; min-width: 12rem; overflow-wrap: anywhere; }
tbody th { position: sticky; left: 0; font-weight: 600; }
tfoot th, tfoot td { font-weight: 600; background: var(--pale); }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-size: .875rem; }
svg { width: 100%; height: auto; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg text { fill: var(--ink); } .grid { stroke: var(--rule); stroke-width: .7; }
.frame { fill: none; stroke: var(--ink); stroke-width: 1; }
summary { cursor: pointer; margin: 1rem 0 .5rem; font-weight: 600; }
@media (max-width: 40rem) {
  table { font-size: .75rem; } th, td { padding: .2rem .35rem; }
  td.name { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
}
@media print {
  :root { --ink: #000; --paper: #fff; --pale: #f2f2f2; --rule: #999; --bad: #000; --good: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; } .wide { overflow: visible; } table { font-size: 7.5pt; }
  th, td { padding: .1rem .3rem; } td.name, td.words { white-space: normal; overflow-wrap: anywhere; min-width: 0; }
  tbody th { position: static; } .plots { grid-template-columns: 1fr 1fr; }
  h2, summary { break-after: avoid; } figure, tr { break-inside: avoid; } .bad { text-decoration: underline; }
}
"""


def html_report(report: Report) -> str:
    """The page: contradictions, the table, the plots, every instance, where and how it was run."""
    run = report.run
    sections = [
        f"<h1>{escape(run.name)}</h1><p>{escape(headline(report))}.</p>",
        _contradictions(report),
        f"<h2>Categories</h2>{_categories(report)}",
        f"<h2>Times</h2>{_plots(report)}",
        _instances(run),
        f"<h2>How it was run</h2>{_circumstances(run)}",
    ]
    written = time.strftime("%Y-%m-%d %H:%M %Z")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>lirpa-bench: {escape(run.name)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(sections)
        + f"\n<p><small>Written by lirpa-bench, {escape(written)}.</small></p></body></html>\n"
    )


def _contradictions(report: Report) -> str:
    if not report.contradictions:
        return '<p class="good">No answer contradicts an expected one, another run, or the replay of its witness.</p>'
    rows = (
        "<tr>"
        + f'<th scope="row">{escape(c.outcome.category)}</th>'
        + _cell(stem(c.outcome.onnx), "name")
        + _cell(stem(c.outcome.vnnlib), "name")
        + _cell(c.says, "bad name")
        + _cell(c.against, "words")
        + "</tr>"
        for c in report.contradictions
    )
    head = _head(("category", "model", "property", "answer", "against it"), ())
    return f'<h2 class="bad">Contradictions</h2>{_table(head, rows)}'


def _categories(report: Report) -> str:
    numbers = range(1, len(COLUMNS))
    *lines, total = [line.cells() for line in report.lines]
    body = (_numbers(cells) for cells in lines)
    note = ""
    if report.others:
        names = ", ".join(other.name for other in report.others)
        note = f"<p><small>Score: 100 for the most points among this run and {escape(names)}.</small></p>"
    return _table(_head(COLUMNS, numbers), body, _numbers(total)) + note


def _numbers(cells: Sequence[str]) -> str:
    first, *rest = cells
    wrong = COLUMNS.index("wrong") - 1
    tail = (_cell(cell, "number bad" if i == wrong and cell != "0" else "number") for i, cell in enumerate(rest))
    return f'<tr><th scope="row">{escape(first)}</th>{"".join(tail)}</tr>'


def _plots(report: Report) -> str:
    figures = [(cactus_svg([report.run, *report.others]), "How many instances are solved within which time each.")]
    figures += [
        (scatter_svg(report.run, other), f"A point per instance: {report.run.name} against {other.name}.")
        for other in report.others
    ]
    drawn = (f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for svg, caption in figures)
    return f'<div class="plots">{"".join(drawn)}</div>'


def _instances(run: Run) -> str:
    columns = ("category", "model", "property", "verdict", "expected", "seconds", "limit s", "witness", "remarks")
    rows = (_instance(outcome) for outcome in run.outcomes)
    table = _table(_head(columns, (5, 6)), rows)
    return f"<details><summary>All {len(run.outcomes)} instances</summary>{table}</details>"


def _instance(outcome: Outcome) -> str:
    judged = mark(outcome.verdict, outcome.expected)
    colour = {"right": "good", "WRONG": "bad"}.get(judged, "")
    limit = "" if outcome.timeout is None else f"{outcome.timeout:g}"
    cells = [
        _cell(stem(outcome.onnx), "name"),
        _cell(stem(outcome.vnnlib), "name"),
        _cell(outcome.verdict, colour),
        _cell(outcome.expected),
        _cell(f"{outcome.seconds:.2f}", "number"),
        _cell(limit, "number"),
        _cell(outcome.checked),
        _cell(outcome.detail, "words"),
    ]
    return f'<tr><th scope="row">{escape(outcome.category)}</th>{"".join(cells)}</tr>'


def _circumstances(run: Run) -> str:
    options = ", ".join(f"{name} {value}" for name, value in run.options.items() if value not in (None, "", False))
    tables = []
    for facts in run.sessions:
        rows = (f'<tr><th scope="row">{escape(k)}</th>{_cell(str(v), "words")}</tr>' for k, v in facts.items())
        tables.append(_table("", rows))
    return f"<p>Options: {escape(options)}.</p>{''.join(tables)}"


def _head(columns: Sequence[str], numbers: Iterable[int]) -> str:
    right = set(numbers)
    cells = (
        f'<th scope="col"{" class=number" if i in right else ""}>{escape(name)}</th>' for i, name in enumerate(columns)
    )
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _table(head: str, rows: Iterable[str], foot: str = "") -> str:
    end = f"<tfoot>{foot}</tfoot>" if foot else ""
    return f'<div class="wide"><table>{head}<tbody>{"".join(rows)}</tbody>{end}</table></div>'


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
