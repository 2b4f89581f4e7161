"""The commands of `lirpa-bench` that look at results: report, compare, check, import, export, list."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from lirpa_verify.bench import database
from lirpa_verify.bench.cli_options import DATABASE
from lirpa_verify.results import write_atomically

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("report")
@click.argument("run", default="main")
@click.option("--against", multiple=True, metavar="RUN", help="Compare with this run (may be repeated).")
@click.option("--html", type=_FILE, help="Write one self-contained page here.")
@click.option("--csv", "csv_folder", type=_FOLDER, help="Write the tables as CSV files into this folder.")
@DATABASE
def report(run: str, against: tuple[str, ...], html: Path | None, csv_folder: Path | None, db: Path) -> int:
    """Show how RUN went: contradictions, a table of categories, plots.

    A run is the NAME of one in the database, or FILE:NAME of one in another.
    """
    from lirpa_verify.bench.outcome import find_run
    from lirpa_verify.bench.report import make_report, text_report, write_csv_files

    made = make_report(find_run(run, db), [find_run(other, db) for other in against])
    if csv_folder is not None:
        write_csv_files(made, csv_folder)
    if html is not None:
        from lirpa_verify.bench.page import html_report

        write_atomically(html, html_report(made))
    click.echo(text_report(made), nl=False)
    return 0


@click.command("compare")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@DATABASE
def compare(before: str, after: str, as_json: bool, db: Path) -> int:
    """Show what changed from run A to run B. Exit status 1 if something is contradictory or lost."""
    from lirpa_verify.bench.compare import compare
    from lirpa_verify.bench.compare_text import comparison_json, comparison_text
    from lirpa_verify.bench.outcome import find_run

    comparison = compare(find_run(before, db), find_run(after, db))
    click.echo(json.dumps(comparison_json(comparison)) if as_json else comparison_text(comparison, before, after))
    return 1 if comparison.is_worse else 0


@click.command("check")
@click.argument("run", default="main")
@DATABASE
def check(run: str, db: Path) -> int:
    """Replay every stored witness of RUN with onnxruntime. Exit status 1 if one does not hold."""
    from lirpa_verify.bench.check import check_all
    from lirpa_verify.bench.contradictions import HOLDS
    from lirpa_verify.bench.outcome import run_id

    connection = database.open_database(db)
    counts: dict[str, int] = {}
    for witnessed, outcome, detail in check_all(connection, run_id(connection, run, db)):
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome not in HOLDS:
            click.echo(f"{witnessed.category} {witnessed.onnx} {witnessed.vnnlib}: {outcome}  {detail}".rstrip())
    total = sum(counts.values())
    click.echo(f"witnesses: {total}" + "".join(f", {outcome} {number}" for outcome, number in counts.items()))
    return 0 if sum(counts.get(outcome, 0) for outcome in HOLDS) == total else 1


@click.command("import")
@click.argument("file", type=_FILE)
@click.option("--name", required=True, help="Name of the run, the tool's for example.")
@click.option("--like", metavar="RUN", help="Take files and expectations from this run.")
@DATABASE
def import_command(file: Path, name: str, like: str | None, db: Path) -> int:
    """Read somebody's published results.csv, and the counterexamples beside it, as a run."""
    from lirpa_verify.bench.exchange import import_results
    from lirpa_verify.bench.outcome import run_id

    connection = database.open_database(db, create=True)
    if like is not None:
        run_id(connection, like, db)
    lines, matched = import_results(connection, file, name, like)
    click.echo(f"{lines} results" + (f", {matched} of them of instances of '{like}'" if like else ""))
    return 0


@click.command("export")
@click.argument("folder", type=_FOLDER)
@click.option("--run", default="main", show_default=True, help="Which run.")
@click.option("--year", type=int, help="Year in the names of categories.  [default: this one]")
@DATABASE
def export(folder: Path, run: str, year: int | None, db: Path) -> int:
    """Write a run as the competition does: results.csv and YEAR_CATEGORY/*.counterexample.gz."""
    from lirpa_verify.bench.exchange import export

    lines, witnesses = export(database.open_database(db), run, db, folder, year or time.localtime().tm_year)
    click.echo(f"{lines} results and {witnesses} witnesses in {folder}")
    return 0


@click.command("list")
@DATABASE
def list_command(db: Path) -> int:
    """List the runs of a database."""
    from lirpa_verify.bench.outcome import load_run, run_names
    from lirpa_verify.bench.report import aligned

    connection = database.open_database(db)
    rows: list[tuple[str, ...]] = [("run", "instances", "solved", "open", "options")]
    for name in run_names(connection):
        run = load_run(connection, name, db)
        given: dict[str, Any] = {key: value for key, value in run.options.items() if value not in (None, "", False)}
        options = ", ".join(f"{key} {value}" for key, value in given.items())
        solved = sum(outcome.solved for outcome in run.outcomes)
        rows.append((name, str(len(run.outcomes)), str(solved), str(run.open), options))
    click.echo(aligned(rows, right=(1, 2, 3)))
    return 0


COMMANDS = (report, compare, check, import_command, export, list_command)
