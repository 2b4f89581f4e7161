"""A comparison of two runs in words, and for programs."""

from __future__ import annotations

from typing import Any

from lirpa_verify.bench.compare import KINDS, Change, Comparison
from lirpa_verify.bench.instance import stem
from lirpa_verify.bench.outcome import Outcome
from lirpa_verify.bench.report import aligned


def comparison_text(comparison: Comparison, before: str, after: str) -> str:
    """The pairs that changed, gravest first, and a summary."""
    lines = []
    if comparison.changes:
        rows = [("change", "category", "model", "property", before, after), *map(_row, comparison.changes)]
        lines += [aligned(rows), ""]
    counts = [f"{number} {kind}" for kind in KINDS if (number := comparison.count(kind))]
    lines.append(f"{comparison.pairs} instances in both: " + (", ".join(counts) or "no change"))
    if comparison.only_before or comparison.only_after:
        lines.append(f"only in {before}: {comparison.only_before}, only in {after}: {comparison.only_after}")
    if comparison.speedup is not None:
        lines.append(
            f"solved by both: {comparison.seconds_before:.1f} s before, {comparison.seconds_after:.1f} s after;"
            f" each {comparison.speedup:.2f} times as fast in the geometric mean"
        )
    return "\n".join(lines)


def _row(change: Change) -> tuple[str, ...]:
    one = change.before
    return change.kind, one.category, stem(one.onnx), stem(one.vnnlib), _said(one), _said(change.after)


def _said(outcome: Outcome) -> str:
    return f"{outcome.verdict} {outcome.seconds:.2f} s"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The same as one object."""
    changes = [
        {
            "change": change.kind,
            "category": change.before.category,
            "onnx": change.before.onnx,
            "vnnlib": change.before.vnnlib,
            "before": {"verdict": change.before.verdict, "seconds": change.before.seconds},
            "after": {"verdict": change.after.verdict, "seconds": change.after.seconds},
        }
        for change in comparison.changes
    ]
    return {
        "pairs": comparison.pairs,
        "only_before": comparison.only_before,
        "only_after": comparison.only_after,
        "seconds_before": comparison.seconds_before,
        "seconds_after": comparison.seconds_after,
        "speedup": comparison.speedup,
        "changes": changes,
    }
