"""Suites are found in every year's layout, filtered, and refused with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_helpers import suite

from lirpa_verify.bench.errors import SuiteError
from lirpa_verify.bench.instance import below, plain, stem
from lirpa_verify.bench.suite import Selection, find_instances, read_list

PLAIN = [("onnx/a.onnx", "vnnlib/p.vnnlib", 100), ("./onnx/b.onnx", "./vnnlib/q.vnnlib", "30.5\r")]


def names(found: list) -> list[tuple[str, str]]:
    return [(instance.category, stem(instance.onnx)) for instance in found]


@pytest.mark.parametrize(
    "place",
    ["acasxu/acasxu_instances.csv", "benchmarks/acasxu/instances.csv", "benchmarks/acasxu/1.0/instances.csv"],
    ids=["2021", "2022 to 2025", "2026"],
)
def test_layouts(tmp_path: Path, place: str) -> None:
    suite(tmp_path, PLAIN, place)
    suite(tmp_path, [("x.onnx", "x.vnnlib", 1)], ".git/instances.csv")
    found = find_instances([tmp_path], Selection())
    assert names(found) == [("acasxu", "a"), ("acasxu", "b")]
    assert [instance.timeout for instance in found] == [100, 30.5]
    assert found[0].model == (tmp_path / place).parent / "onnx/a.onnx"


def test_of_several_versions_one_is_taken(tmp_path: Path) -> None:
    suite(tmp_path, PLAIN[:1], "one/1.0/instances.csv")
    suite(tmp_path, PLAIN[1:], "one/2.0/instances.csv")
    suite(tmp_path, PLAIN[1:], "two/2.0/instances.csv")
    assert names(find_instances([tmp_path], Selection())) == [("one", "a"), ("two", "b")]
    assert names(find_instances([tmp_path], Selection(version="2.0"))) == [("one", "b"), ("two", "b")]


def test_header_in_any_order(tmp_path: Path) -> None:
    rows = [("vnnlib", "timeout_s", "reference_s", "onnx", "category", "expected")]
    rows += [("p.vnnlib", "9", "1.5", "a.onnx", "here", "violated"), ("p.vnnlib", "", "", "b.onnx", "", "unknown")]
    file = suite(tmp_path / "mine", ["#comment", *rows], "list.csv")
    first, second = read_list(file)
    assert (first.category, first.timeout, first.expected) == ("here", 9, "sat")
    assert (second.category, second.timeout, second.expected) == ("mine", None, "")


def test_filters(tmp_path: Path) -> None:
    rows = [(f"onnx/net{i}.onnx", f"vnnlib/prop{i % 2}.vnnlib", 5) for i in range(6)]
    suite(tmp_path, rows, "one/instances.csv")
    suite(tmp_path, rows, "other/instances.csv")
    assert len(find_instances([tmp_path], Selection())) == 12
    assert names(find_instances([tmp_path], Selection(categories=["o*r"], first=2))) == [
        ("other", "net0"),
        ("other", "net1"),
    ]
    assert names(find_instances([tmp_path / "one"], Selection(names=["net3", "*/prop0.*"]))) == [
        ("one", "net0"),
        ("one", "net2"),
        ("one", "net3"),
        ("one", "net4"),
    ]
    with pytest.raises(SuiteError, match="none of the 12 instances matches"):
        find_instances([tmp_path], Selection(categories=["nothing"]))


def test_an_instance_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    file = suite(tmp_path, [("a.onnx", "p.vnnlib", 5), ("./a.onnx.gz", "p.vnnlib", 5)])
    assert len(find_instances([file, tmp_path], Selection())) == 1


def test_a_cell_with_commas_is_one_cell(tmp_path: Path) -> None:
    file = suite(tmp_path, [("\"[('f', 'onnx/a.onnx'), ('g', 'onnx/b.onnx')]\"", "p.vnnlib", 5)])
    assert read_list(file)[0].onnx == "[('f', 'onnx/a.onnx'), ('g', 'onnx/b.onnx')]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.onnx,p.vnnlib,5\na.onnx,q.vnnlib,soon\n", "instances.csv, line 2: the timeout 'soon'"),
        ("a.onnx,p.vnnlib,-1\n", "line 1: the timeout '-1'"),
        ("a.onnx\n", "line 1: a model and a property"),
        ("", "no instances found"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "instances.csv").write_text(text)
    with pytest.raises(SuiteError, match=message):
        find_instances([tmp_path], Selection())


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"no instances\.csv"):
        find_instances([tmp_path], Selection())
    with pytest.raises(SuiteError, match="no such file"):
        find_instances([tmp_path / "nowhere"], Selection())


def test_names() -> None:
    assert plain("./onnx/a.onnx.gz") == "onnx/a.onnx"
    assert stem("x/onnx/a.b.onnx.gz") == "a.b"
    assert below("safe/onnx/medical/a.onnx", "onnx") == ("medical",)
    assert below("a.onnx", "onnx") == ()
