"""What the verifier can bound: the ATen calls that have a lowering rule, and the operators they become."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import lirpa_verify.operators
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.operators.base import Operator


def supported_calls() -> tuple[str, ...]:
    """Names of ATen calls, without overloads, in alphabetical order."""
    return tuple(sorted(RULES))


def operator_classes() -> dict[str, str]:
    """Operators by class name, each with the first line of its description."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(lirpa_verify.operators.__path__):
        content = importlib.import_module(f"lirpa_verify.operators.{module.name}")
        for name, item in inspect.getmembers(content, inspect.isclass):
            if item.__module__ == content.__name__ and issubclass(item, Operator) and "forward" in vars(item):
                found[name] = (inspect.getdoc(item) or "").splitlines()[0]
    found.pop(Operator.__name__, None)
    return dict(sorted(found.items()))
