"""The standard streams as a command may find them: closed, full, or a pipe that nobody reads."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def open_standard_streams() -> None:
    """Opens those that are closed to nothing, before their numbers go to other files."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")


def tell(text: str) -> None:
    """A line on standard error; what cannot be told must not come between the answer and its reader."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def abandon(stream: TextIO) -> None:
    """What is left in the stream's buffer goes nowhere, as a write to where it should have gone would not end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
