"""The way in: a file or a text to its normal form."""

from __future__ import annotations

import os

from vnnlib.normal_form import normal_form
from vnnlib.parser import parse_query
from vnnlib.property import Property
from vnnlib.text import Text, read_text


def read(path: str | os.PathLike[str]) -> Property:
    """The property in the file ``path``, or else ``path.gz``; raises VnnlibError for what cannot be read."""
    return normal_form(parse_query(read_text(path)))


def parse(data: bytes | str, source: str = "<string>") -> Property:
    """The property that ``data`` spells; ``source`` is what error messages call it."""
    return normal_form(parse_query(Text.of(source, data.encode() if isinstance(data, str) else data)))
