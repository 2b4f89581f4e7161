"""Finds instances: in a competition's `instances.csv`, in a folder of benchmarks, in a list of one's own.

Layouts of VNN-COMP: 2021 `BENCHMARK/BENCHMARK_instances.csv`; 2022 to 2025
`benchmarks/BENCHMARK/instances.csv`; 2026 `benchmarks/BENCHMARK/1.0/instances.csv` (and `2.0`). All
are lists of `onnx,vnnlib,timeout` without a header, relative to their own folder. A list with a
header may have its columns in any order, and the columns `category` and `expected` besides.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from lirpa_verify.bench.errors import SuiteError
from lirpa_verify.bench.instance import Instance, plain

_VERSION_FOLDER = re.compile(r"\d+\.\d+")
_COLUMNS = {
    "category": "category",
    "onnx": "onnx",
    "model": "onnx",
    "vnnlib": "vnnlib",
    "property": "vnnlib",
    "timeout": "timeout",
    "timeout_s": "timeout",
    "timeout_seconds": "timeout",
    "expected": "expected",
}
_EXPECTED = {"sat": "sat", "violated": "sat", "unsat": "unsat", "holds": "unsat"}


@dataclass(frozen=True)
class Selection:
    """Which instances of a suite are wanted."""

    categories: Sequence[str] = ()  # patterns of the shell; none: all
    names: Sequence[str] = ()  # patterns or parts of the model's or the property's name; none: all
    first: int | None = None  # at most so many of each category
    version: str = "1.0"  # which VNN-LIB version, where a benchmark comes in several


def find_instances(paths: Iterable[Path], selection: Selection) -> list[Instance]:
    """The wanted instances of all paths, in the order of their lists, each once.

    Raises SuiteError for a path that is not there, a list that cannot be read, and if nothing is found.
    """
    found: dict[tuple[str, str, str], Instance] = {}
    for path in paths:
        for instance in _instances(path, selection.version):
            found.setdefault((instance.category, plain(instance.onnx), plain(instance.vnnlib)), instance)
    if not found:
        raise SuiteError("no instances found; a suite is an instances.csv or a folder with such files in it")
    chosen = list(_select(found.values(), selection))
    if not chosen:
        raise SuiteError(f"none of the {len(found)} instances matches the filters")
    return chosen


def _select(instances: Iterable[Instance], selection: Selection) -> Iterator[Instance]:
    taken: dict[str, int] = {}
    for instance in instances:
        if selection.categories and not any(fnmatch(instance.category, pattern) for pattern in selection.categories):
            continue
        if selection.names and not any(_named(instance, pattern) for pattern in selection.names):
            continue
        taken[instance.category] = taken.get(instance.category, 0) + 1
        if selection.first is None or taken[instance.category] <= selection.first:
            yield instance


def _named(instance: Instance, pattern: str) -> bool:
    return any(pattern in name or fnmatch(name, pattern) for name in (instance.onnx, instance.vnnlib))


def _instances(path: Path, version: str) -> Iterator[Instance]:
    if path.is_dir():
        lists = list(_lists_below(path, version))
        if not lists:
            raise SuiteError(f"{path}: no instances.csv in this folder or below")
        for file in lists:
            yield from read_list(file)
    elif path.exists():
        yield from read_list(path)
    else:
        raise SuiteError(f"{path}: no such file or folder")


def _lists_below(folder: Path, version: str) -> Iterator[Path]:
    """Every list of instances below `folder`, sorted; of a benchmark in several versions one only."""
    for place, folders, files in os.walk(folder):
        versions = [name for name in folders if _VERSION_FOLDER.fullmatch(name)]
        versions = [name for name in versions if (Path(place, name) / "instances.csv").exists()]
        if len(versions) > 1:
            wanted = version if version in versions else min(versions)
            folders[:] = [name for name in folders if name not in versions or name == wanted]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if re.fullmatch(r"(.+_)?instances\.csv", name))


def read_list(file: Path) -> list[Instance]:
    """The instances of one list. Lines that are empty or start with `#` do not count."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    columns: Sequence[str] = ("onnx", "vnnlib", "timeout")
    instances: list[Instance] = []
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    for cells in reader:
        if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
            continue
        names = [_COLUMNS.get(cell.strip().lower(), "") for cell in cells]
        if not instances and {"onnx", "vnnlib"} <= set(names):
            columns = names
            continue
        fields = {name: cell.strip() for name, cell in zip(columns, cells) if name}
        instances.append(_instance(fields, file, reader.line_num))
    return instances


def _instance(fields: dict[str, str], file: Path, line: int) -> Instance:
    if not fields.get("onnx") or not fields.get("vnnlib"):
        raise SuiteError(f"{file}, line {line}: a model and a property are needed")
    timeout = None
    if fields.get("timeout"):
        try:
            timeout = float(fields["timeout"])
        except ValueError:
            timeout = math.nan
        if not (math.isfinite(timeout) and timeout > 0):
            raise SuiteError(f"{file}, line {line}: the timeout {fields['timeout']!r} is no positive number of seconds")
    return Instance(
        category=fields.get("category") or category_of(file),
        onnx=fields["onnx"],
        vnnlib=fields["vnnlib"],
        folder=file.absolute().parent,
        timeout=timeout,
        expected=_EXPECTED.get(fields.get("expected", "").lower(), ""),
    )


def category_of(file: Path) -> str:
    """The benchmark that a list belongs to: its folder, or the one above a folder named after a version."""
    folder = file.absolute().parent
    return folder.parent.name if _VERSION_FOLDER.fullmatch(folder.name) else folder.name
