"""Writes the reference from the docstrings: python docs/make_api.py"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import lirpa_verify

SECTIONS = {
    "Bounds of modules": ("Bounded", "Bounds", "LinearBounds", "UnsupportedOperator"),
    "Perturbations": (
        "Perturbation", "Box", "linf", "exact", "ball", "Ball", "l0", "Sparse", "Zonotope", "ConstrainedBox", "words",
        "Words", "EmptySet",
    ),
    "Training": ("robust_loss", "train", "Task", "Plan", "Linear", "Smoothed", "Adaptive", "shuffled",
                 "certified_accuracy", "Accuracy"),
    "Files": ("export_instance", "load_network", "Network", "verify", "output_ranges", "Options", "Deadline", "Result",
              "Witness", "Progress", "Replayer", "replay", "confirm"),
}  # fmt: skip


def reference() -> str:
    parts = [
        "# Reference\n",
        "Everything that `import lirpa_verify` offers, from its docstrings by `python docs/make_api.py`. "
        "[library.md](library.md) is the tutorial.\n",
    ]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [entry(name, getattr(lirpa_verify, name), 3) for name in names]
    return "\n".join(parts)


def entry(name: str, value: Any, level: int) -> str:
    """A heading with the signature, the docstring, and the methods of a class."""
    parts = [f"{'#' * level} `{name}{signature(value)}`\n", text(value)]
    if inspect.isclass(value):
        fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        own = {f.name for f in fields}
        for method, member in vars(value).items():
            documented = inspect.isfunction(member) or isinstance(member, property)
            if documented and not method.startswith("_") and method not in own and inspect.getdoc(member):
                shown = signature(member) if inspect.isfunction(member) else ""
                parts += [f"{'#' * (level + 1)} `{name}.{method}{shown}`\n", text(member)]
    return "\n".join(parts)


def signature(value: Any) -> str:
    if isinstance(value, property) or (inspect.isclass(value) and issubclass(value, Exception)):
        return ""
    try:
        found = inspect.signature(value)
    except ValueError:
        return ""
    shown = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values() if p.name != "self"]
    plain = [p.replace(default=Shown()) if inspect.isfunction(p.default) else p for p in shown]
    return str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))


class Shown:
    """A default value that is a function: its address would differ from run to run."""

    def __repr__(self) -> str:
        return "<function>"


def text(value: Any) -> str:
    """The docstring; its lists of arguments, results and errors as Markdown lists."""
    lines, listed = [], False
    for line in (inspect.getdoc(value) or "").splitlines():
        stripped = line.strip()
        if stripped in ("Args:", "Returns:", "Raises:"):
            lines += [f"**{stripped[:-1]}**", ""]
            listed = True
        elif listed and line.startswith("    ") and not line.startswith("        "):
            name, colon, rest = stripped.partition(": ")
            entry_like = colon and " " not in name
            lines.append(
                f"- `{name}`: {rest}" if entry_like else f"- {stripped}" if not lines[-1].strip() else f"  {stripped}"
            )
        elif listed and line.startswith("        "):
            lines.append(f"  {stripped}")
        else:
            listed = listed and not stripped
            lines.append(line)
    return "\n".join(lines).replace("``", "`") + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "api.md").write_text(reference())
