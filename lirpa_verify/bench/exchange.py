"""The competition's own files: `results.csv` and counterexamples, written and read.

`results.csv` has no header; its columns are category, onnx, vnnlib, prepare time, result, run time. A
witness lies beside it as `YEAR_CATEGORY/MODEL_PROPERTY.counterexample.gz`, without the line `sat`; where a folder
of a single category has a `results.csv` of its own, in the same folder.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lirpa_verify.bench import database
from lirpa_verify.bench.errors import BenchError
from lirpa_verify.bench.instance import Instance, below, plain, stem
from lirpa_verify.bench.match import pairs
from lirpa_verify.bench.outcome import run_id
from lirpa_verify.bench.row import Row
from lirpa_verify.results import write_atomically

# What the competition's scoring makes of words, by how they begin; the first that fits counts.
_WORDS = (
    ("unsat", "unsat"),
    ("holds", "unsat"),
    ("sat", "sat"),
    ("violated", "sat"),
    ("timed-out", "timeout"),
    ("timeout", "timeout"),
    ("run_instance_timeout", "timeout"),
    ("prepare_instance_timeout", "timeout"),
    ("no_result_in_file", "unknown"),
    ("prepare_instance_error_", "unknown"),
    ("error_nonmaximal", "unknown"),
    ("unknown", "unknown"),
    ("error", "error"),
)
_OFFICIAL = {"memout": "unknown", "crash": "error"}  # words that the competition does not have


@dataclass(frozen=True)
class Published:
    """A line of somebody's `results.csv`."""

    category: str
    onnx: str
    vnnlib: str
    row: Row


def witness_name(onnx: str, vnnlib: str) -> str:
    """`MODEL_PROPERTY.counterexample.gz`, with the subfolders of `onnx/` in front, as in the competition."""
    return "_".join([*below(onnx, "onnx"), stem(onnx), stem(vnnlib)]) + ".counterexample.gz"


def export(db: sqlite3.Connection, run: str, file: Path, folder: Path, year: int) -> tuple[int, int]:
    """Write a run's first repeat below `folder`; the numbers of lines and of witnesses written."""
    rows = db.execute(
        "SELECT category, onnx, vnnlib, coalesce(prepare_seconds, 0), verdict, seconds, witness"
        " FROM task JOIN result ON task = id WHERE run = ? AND repeat = 0 ORDER BY id",
        (run_id(db, run, file),),
    ).fetchall()
    text, written = io.StringIO(), 0
    lines = csv.writer(text, lineterminator="\n")
    for category, onnx, vnnlib, prepare_seconds, verdict, seconds, witness in rows:
        word = _OFFICIAL.get(verdict, verdict)
        lines.writerow([category, onnx, vnnlib, f"{prepare_seconds:.6f}", word, f"{seconds:.6f}"])
        if verdict == "sat" and witness is not None:
            target = folder / f"{year}_{category}" / witness_name(onnx, vnnlib)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(witness)  # is compressed already
            written += 1
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "results.csv", text.getvalue())
    return len(rows), written


def read_results(file: Path) -> list[Published]:
    """The lines of a `results.csv` (or `.csv.gz`), with the witnesses that lie beside it."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BenchError(f"{file}: {error}") from error
    return list(_lines(text, file))


def _lines(text: str, file: Path) -> Iterator[Published]:
    reader = csv.reader(text.splitlines())
    for cells in reader:
        if not any(cell.strip() for cell in cells) or cells[0].strip().lower() == "category":
            continue
        if len(cells) < 6:
            raise BenchError(f"{file}, line {reader.line_num}: {len(cells)} columns instead of 6")
        category, onnx, vnnlib, prepare, word, seconds = (cell.strip() for cell in cells[:6])
        verdict = _verdict(word)
        if verdict is None:
            raise BenchError(f"{file}, line {reader.line_num}: the result {word!r} is no word of the competition")
        try:
            times = float(prepare or 0), float(seconds or 0)
        except ValueError:
            times = math.nan, math.nan
        if not all(math.isfinite(value) for value in times):
            raise BenchError(f"{file}, line {reader.line_num}: the times {prepare!r} and {seconds!r} are no numbers")
        witness = _witness_beside(file, category, onnx, vnnlib) if verdict == "sat" else ""
        detail = "" if word == verdict else word
        yield Published(
            category, plain(onnx), plain(vnnlib), Row(verdict, times[1], times[0], detail, witness, host="")
        )


def _verdict(word: str) -> str | None:
    word = word.lower()
    return "unknown" if not word else next((known for start, known in _WORDS if word.startswith(start)), None)


def _witness_beside(file: Path, category: str, onnx: str, vnnlib: str) -> str:
    name = witness_name(onnx, vnnlib)
    folders = [file.parent, file.parent / category, *sorted(file.parent.glob(f"[0-9][0-9][0-9][0-9]_{category}"))]
    path = next((folder / name for folder in folders if (folder / name).exists()), None)
    try:
        return "" if path is None else gzip.decompress(path.read_bytes()).decode(errors="replace")
    except (OSError, EOFError) as error:
        raise BenchError(f"{path}: {error}") from error


def import_results(db: sqlite3.Connection, file: Path, name: str, like: str | None) -> tuple[int, int]:
    """Store somebody's results as a run; how many lines it has, and how many are instances of the run `like`.

    Those take over its files, time limits, and expectations, so that witnesses can be checked.
    """
    if db.execute("SELECT 1 FROM run WHERE name = ?", (name,)).fetchone():
        raise BenchError(f"there is a run '{name}' already; choose another name")
    published: dict[tuple[str, str, str], Published] = {}
    for each in read_results(file):
        published.setdefault((each.category, each.onnx, each.vnnlib), each)  # overheads are measured more than once
    known = _known(db, like)
    partner = {(its.category, its.onnx, its.vnnlib): task for task, its in pairs(known, published.values())}
    run = database.begin_run(db, name, {"imported": str(file)})
    for key, each in published.items():
        task = partner.get(key)
        instance = Instance(each.category, each.onnx, each.vnnlib, Path())
        if task is not None:
            instance = replace(instance, expected=task.expected)
        (made,) = database.add_tasks(db, run, [instance], [task.timeout if task else math.inf], 1)
        with database.transaction(db):
            files = (task.model, task.property) if task else ("", "")
            db.execute("UPDATE task SET model = ?, property = ? WHERE id = ?", (*files, made.id))
        database.record(db, None, [(made.id, each.row)])
    return len(published), len(partner)


def _known(db: sqlite3.Connection, like: str | None) -> list[database.Task]:
    if like is None:
        return []
    rows = db.execute(
        "SELECT task.id, category, onnx, vnnlib, repeat, model, property, timeout, expected"
        " FROM task JOIN run ON run.id = run WHERE name = ? AND repeat = 0",
        (like,),
    )
    return [database.Task(*row) for row in rows]
