"""Every error a user can cause, typed; the command line turns each into one line and exit status 2."""

from __future__ import annotations


class LirpaError(Exception):
    """Base of all errors with a message meant for the user."""


class ModelError(LirpaError):
    """The model file cannot be read, is malformed, or disagrees with onnxruntime."""


class UnsupportedOperator(LirpaError):
    """The network uses an operation that has no bound rule; the verdict is `unknown`."""

    def __init__(self, operator: str, node: str, detail: str = "") -> None:
        self.operator, self.node, self.detail = operator, node, detail
        super().__init__(f"operator {operator} at node '{node}' is not supported" + (f": {detail}" if detail else ""))


class PropertyMismatch(LirpaError):
    """Model and property do not fit together (numbers of inputs or outputs)."""
