"""One instance of a suite, and how the same instance is recognised under different paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instance:
    """A network, a property and how long to try, as a suite lists them."""

    category: str
    onnx: str  # as listed, relative to `folder`
    vnnlib: str
    folder: Path
    timeout: float | None = None  # seconds; None: the list does not say
    expected: str = ""  # "sat", "unsat" or "": not known

    @property
    def model(self) -> Path:
        return self.folder / self.onnx

    @property
    def property(self) -> Path:
        return self.folder / self.vnnlib


def plain(name: str) -> str:
    """A listed name without what differs from copy to copy: a leading `./`, and `.gz`."""
    return str(PurePosixPath(name.strip())).removesuffix(".gz")


def stem(name: str) -> str:
    """The file's name alone, without folders and suffixes: what the competition names witnesses after."""
    return PurePosixPath(plain(name)).name.removesuffix(".onnx").removesuffix(".vnnlib")


def below(name: str, folder: str) -> tuple[str, ...]:
    """The subfolders of a listed name after its last part called `folder` (`onnx/medical/a.onnx`: `medical`)."""
    parts = PurePosixPath(plain(name)).parts[:-1]
    last = max((i for i, part in enumerate(parts) if part == folder), default=None)
    return parts[last + 1 :] if last is not None else ()
