"""Says at once what a worker would find out only after its imports: that a file is not there."""

from __future__ import annotations

import os

from lirpa_verify.messages import BadInput


def missing_file(*names: str) -> BadInput | None:
    """What is wrong with the first unusable name; a file may also be there compressed, as `NAME.gz`."""
    for name in names:
        if not os.path.exists(name) and not os.path.exists(name + ".gz"):
            return BadInput(f"{name}: no such file")
        if os.path.isdir(name):
            return BadInput(f"{name}: is a folder")
    return None
