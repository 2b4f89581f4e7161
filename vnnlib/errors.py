"""What goes wrong with a property file, and where."""

from __future__ import annotations


class VnnlibError(Exception):
    """The text is not a well-formed VNN-LIB query. ``line`` and ``column`` count from 1, columns in bytes."""

    def __init__(self, source: str, line: int, column: int, message: str, expected: str | None = None) -> None:
        self.source = source
        self.line = line
        self.column = column
        self.message = message
        self.expected = expected
        super().__init__(source, line, column, message, expected)

    def __str__(self) -> str:
        text = f"{self.source}:{self.line}:{self.column}: {self.message}"
        return text if self.expected is None else f"{text}, expected {self.expected}"


class UnsupportedVnnlib(VnnlibError):
    """The text may well mean something, but not within the fragment that is read here."""
