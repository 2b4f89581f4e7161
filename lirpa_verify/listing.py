"""`lirpa-verify operators`: what can be bounded."""

from __future__ import annotations

import textwrap

from lirpa_verify.graph.supported import operator_classes, supported_calls

WIDTH = 100


def operators_text() -> str:
    """The operators of the engine, a line each, and the tensor operations that are turned into them."""
    classes = operator_classes()
    column = max(len(name) for name in classes)
    lines = [f"{len(classes)} operators with interval rules and linear relaxations:"]
    lines += [f"  {name:{column}}  {description}" for name, description in classes.items()]
    calls = ", ".join(supported_calls())
    lines += ["", f"{len(supported_calls())} ATen operations that models are recorded as:"]
    lines += textwrap.wrap(calls, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines) + "\n"
