"""Reports say what the results say: points, contradictions, tables, plots, comparisons."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lirpa_verify.bench.compare import compare
from lirpa_verify.bench.compare_text import comparison_json, comparison_text
from lirpa_verify.bench.contradictions import contradictions
from lirpa_verify.bench.match import pairs
from lirpa_verify.bench.outcome import Outcome, Run, merged
from lirpa_verify.bench.page import html_report
from lirpa_verify.bench.plots import cactus, cactus_svg, scatter_svg
from lirpa_verify.bench.points import points, scores
from lirpa_verify.bench.report import make_report, text_report, write_csv_files
from lirpa_verify.bench.svg import Axis, seconds_axis
from lirpa_verify.bench.table import table
from lirpa_verify.bench.textplot import text_plot


def outcome(
    name: str, verdict: str, seconds: float = 1.0, expected: str = "", checked: str = "", **rest: object
) -> Outcome:
    fields = {"category": "cat", "onnx": f"onnx/{name}.onnx", "vnnlib": f"vnnlib/{name}.vnnlib", **rest}
    return Outcome(expected=expected, timeout=20.0, verdict=verdict, seconds=seconds, checked=checked, **fields)  # type: ignore[arg-type]


def run(*outcomes: Outcome, name: str = "main") -> Run:
    return Run(name, {"cap": 20}, list(outcomes), sessions=[{"python": "3.11"}])


@pytest.mark.parametrize(
    ("verdict", "expected", "checked", "worth"),
    [
        ("unsat", "unsat", "", 10),
        ("unsat", "", "", 10),
        ("unsat", "sat", "", -150),
        ("sat", "sat", "exact", 10),
        ("sat", "sat", "tolerance", 10),
        ("sat", "", "", 10),  # nobody has looked yet
        ("sat", "unsat", "", -150),
        ("sat", "unsat", "exact", 10),  # the witness is right and the expectation is not
        ("sat", "sat", "fails", -150),
        ("sat", "sat", "missing", -150),
        ("sat", "sat", "malformed", -150),
        ("sat", "sat", "unusable", 10),  # says nothing of the witness
        ("timeout", "sat", "", 0),
        ("memout", "unsat", "", 0),
    ],
)
def test_points(verdict: str, expected: str, checked: str, worth: int) -> None:
    one = outcome("a", verdict, expected=expected, checked=checked)
    assert points(run(one)) == {one.key: worth}


def test_an_exact_witness_of_another_tool_refutes_unsat() -> None:
    mine = run(outcome("a", "unsat"), outcome("b", "unsat"))
    other = run(outcome("a", "sat", checked="exact"), outcome("b", "sat", checked="tolerance"), name="other")
    assert list(points(mine, [other]).values()) == [-150, 10]
    assert scores(mine, [other]) == {"cat": 0.0}
    assert scores(other, [mine]) == {"cat": 100.0}


def test_contradictions_are_found_and_listed_first() -> None:
    mine = run(
        outcome("a", "unsat"),
        outcome("b", "sat", expected="unsat", checked="exact"),
        outcome("c", "sat", checked="fails"),
        outcome("d", "timeout", expected="sat"),
    )
    other = run(outcome("a", "sat"), outcome("d", "unsat"), name="other")
    found = [(c.outcome.onnx, c.says, c.against) for c in contradictions(mine, [other])]
    assert found == [
        ("onnx/a.onnx", "unsat", "other: sat (witness not checked)"),
        ("onnx/b.onnx", "sat (witness holds)", "expected unsat"),
        ("onnx/c.onnx", "sat (witness: fails)", "the witness: fails"),
    ]
    text = text_report(make_report(mine, [other]))
    assert text.index("CONTRADICTIONS") < text.index("category  instances")


def test_table() -> None:
    outcomes = [outcome(str(i), "unsat", seconds=i + 1.0) for i in range(3)]
    outcomes += [outcome("s", "sat", 10.0), outcome("t", "timeout", 20.0), outcome("m", "memout", 4.0)]
    outcomes.append(outcome("w", "unsat", 1.0, expected="sat", category="second"))
    first, second, total = table(run(*outcomes))
    assert first.cells() == ["cat", "6", "4", "3", "1", "1", "1", "0", "2.50", "40.0", "40", ""]
    assert second.cells() == ["second", "1", "1", "1", "0", "0", "0", "1", "1.00", "1.0", "-150", ""]
    assert (total.instances, total.solved, total.wrong, total.points) == (7, 5, 1, -110)


def test_repeats_count_as_the_worst_of_them() -> None:
    again = [outcome("a", "unsat", 1.0), outcome("a", "unsat", 3.0), outcome("a", "unsat", 8.0)]
    (one,) = merged(again)
    assert (one.verdict, one.seconds, one.repeats) == ("unsat", 3.0, 3)
    (one,) = merged([*again, outcome("a", "timeout", 20.0)])
    assert (one.verdict, one.detail) == ("timeout", "1 times timeout, 3 times unsat")
    (one,) = merged([outcome("a", "sat", expected="sat"), outcome("a", "unsat", expected="sat")])
    assert one.verdict == "unsat"


def test_the_same_instances_are_found_under_other_paths() -> None:
    ours = [
        outcome("p", "unsat", category="safe", onnx="safe/onnx/medical/net.onnx"),
        outcome("p", "unsat", category="safe", onnx="safe/onnx/ruarobot/net.onnx"),
        outcome("p", "unsat", category="safe", onnx="safe/onnx/third/net.onnx"),
        outcome("x", "unsat"),
    ]
    theirs = [
        outcome("p", "sat", category="safe_2024", onnx="./benchmarks/safe_2024/onnx/ruarobot/net.onnx.gz"),
        outcome("p", "unsat", category="safe_2024", onnx="./benchmarks/safe_2024/onnx/medical/net.onnx"),
        outcome("p", "unsat", category="else", onnx="onnx/medical/net.onnx"),
        outcome("x", "unsat", category="one"),
        outcome("x", "unsat", category="two"),
    ]
    assert [(a.onnx.split("/")[2], b.category, b.verdict) for a, b in pairs(ours, theirs)] == [
        ("medical", "safe_2024", "unsat"),
        ("ruarobot", "safe_2024", "sat"),
    ]


def test_compare() -> None:
    kinds = {
        "same": ("unsat 2", "unsat 2.5"),
        "slower": ("unsat 2", "unsat 9"),
        "faster": ("sat 9", "sat 2"),
        "lost": ("unsat 2", "timeout 20"),
        "gained": ("memout 2", "sat 1"),
        "contradictory": ("unsat 2", "sat 2"),
        "other verdict": ("timeout 20", "crash 1"),
    }
    before, after = [], []
    for name, (a, b) in kinds.items():
        before.append(outcome(name, a.split()[0], float(a.split()[1])))
        after.append(outcome(name, b.split()[0], float(b.split()[1])))
    before.append(outcome("only", "unsat"))
    comparison = compare(run(*before), run(*after, name="new"))
    assert [(c.kind, c.before.onnx) for c in comparison.changes] == [
        (kind, f"onnx/{kind}.onnx") for kind in ("contradictory", "lost", "gained", "slower", "faster", "other verdict")
    ]
    assert (comparison.pairs, comparison.only_before, comparison.only_after) == (7, 1, 0)
    assert comparison.is_worse
    assert not compare(run(*before), run(*before)).is_worse
    text = comparison_text(comparison, "main", "new")
    assert "7 instances in both: 1 contradictory, 1 lost, 1 gained, 1 slower, 1 faster" in text
    assert len(comparison_json(comparison)["changes"]) == 6


def test_axes() -> None:
    assert Axis("", 0.1, 100, True).ticks() == pytest.approx([0.1, 1, 10, 100])
    assert Axis("", 2, 20, True).ticks() == [2, 5, 10, 20]
    assert Axis("", 0, 90).ticks() == [0, 20, 40, 60, 80]
    assert Axis("", 1, 100, True).place(10) == pytest.approx(0.5)
    assert Axis("", 1, 100, True).place(1e6) == 1.0
    axis = seconds_axis("s", [0.3, 7.0])
    assert (axis.low, axis.high) == (pytest.approx(0.2), pytest.approx(10))
    single = seconds_axis("s", [3.0])
    assert single.high >= 10 * single.low
    assert seconds_axis("s", []).high > 0


def test_cactus() -> None:
    mine = run(outcome("a", "unsat", 5.0), outcome("b", "timeout", 20.0), outcome("c", "sat", 0.5))
    assert cactus(mine) == [(1, 0.5), (2, 5.0)]
    plot = text_plot(Axis("solved", 0, 5), seconds_axis("seconds", [0.5, 5]), [("o", "main", cactus(mine))])
    assert plot.count("o") >= 2 and "seconds" in plot and "o main" in plot


def test_plots_have_axes_units_and_legends() -> None:
    mine = run(outcome("a", "unsat", 5.0), outcome("b", "timeout", 20.0), outcome("c", "sat", 0.5))
    other = run(outcome("a", "unsat", 2.0), outcome("b", "sat", 3.0), outcome("c", "unsat", 0.7), name="<other>")
    svg = cactus_svg([mine, other])
    assert "instances solved" in svg and "time of each, seconds" in svg
    assert "main (2)" in svg and "&lt;other&gt; (3)" in svg and "<other>" not in svg
    svg = scatter_svg(mine, other)
    assert "main, seconds" in svg and "&lt;other&gt;, seconds" in svg
    assert "verified by both (1)" in svg and "contradictory answers (1)" in svg and "solved by one only" in svg


class Tags(HTMLParser):
    """Checks that tags close in order and collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    mine = run(outcome("<b>&", "sat", expected="unsat", detail="1 < 2"), outcome("b", "timeout"))
    page = html_report(make_report(mine, [run(outcome("b", "unsat"), name="other")]))
    tags = Tags()
    tags.feed(page)
    assert (tags.open, tags.loads) == ([], [])
    assert "<script" not in page and "url(" not in page and "<b>&" not in page
    assert page.index("Contradictions") < page.index("Categories") < page.index("All 2 instances")


def test_an_empty_run_can_be_reported() -> None:
    empty = run()
    report = make_report(empty, [empty])
    assert "0 of 0 solved" in text_report(report)
    assert "<h2>Categories</h2>" in html_report(report)


def test_csv_files(tmp_path: Path) -> None:
    mine, other = run(outcome("a", "unsat", 1.5)), run(outcome("a", "sat", 2.0), name="other")
    write_csv_files(make_report(mine, [other]), tmp_path)
    tables = {file.stem: list(csv.DictReader(file.open())) for file in tmp_path.iterdir()}
    assert set(tables) == {"categories", "contradictions", "instances", "cactus", "scatter"}
    assert [line["category"] for line in tables["categories"]] == ["cat", "all"]
    assert tables["instances"][0]["seconds"] == "1.5000"
    assert tables["scatter"][0]["other verdict"] == "sat"
    assert tables["contradictions"][0]["against"] == "other: sat (witness not checked)"


def test_all_outcomes_are_in_the_page() -> None:
    outcomes = [replace(outcome(f"net{i}", "unsat"), category=f"c{i % 3}") for i in range(50)]
    page = html_report(make_report(run(*outcomes), []))
    assert set(re.findall(r"net\d+", page)) == {f"net{i}" for i in range(50)}
