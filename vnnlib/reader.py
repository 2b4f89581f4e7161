"""The way in: a file or a text to its normal form. The first word tells the version of the language."""

from __future__ import annotations

import os
import re

from vnnlib.errors import UnsupportedVnnlib
from vnnlib.interface import Interface
from vnnlib.normal_form import normal_form
from vnnlib.property import Property
from vnnlib.text import Text, read_text

_VERSIONED = re.compile(rb"\s*\(\s*vnnlib-version\b")


def read(path: str | os.PathLike[str]) -> Property:
    """The property in the file ``path``, or else ``path.gz``; raises VnnlibError for what cannot be read."""
    return _of_one_network(read_text(path))


def parse(data: bytes | str, source: str = "<string>") -> Property:
    """The property that ``data`` spells; ``source`` is what error messages call it."""
    return _of_one_network(_text(data, source))


def read_query(path: str | os.PathLike[str]) -> tuple[Property, Interface | None]:
    """The property in a file, and what it is about; None for VNN-LIB 1.0, which is always about one network."""
    return _query(read_text(path))


def parse_query(data: bytes | str, source: str = "<string>") -> tuple[Property, Interface | None]:
    """The same of a text."""
    return _query(_text(data, source))


def _text(data: bytes | str, source: str) -> Text:
    return Text.of(source, data.encode() if isinstance(data, str) else data)


def _query(text: Text) -> tuple[Property, Interface | None]:
    if _VERSIONED.match(text.data):
        from vnnlib import version_2  # most queries do not need it

        query, interface = version_2.parse_query(text)
        return normal_form(query), interface
    from vnnlib import version_1

    return normal_form(version_1.parse_query(text)), None


def _of_one_network(text: Text) -> Property:
    prop, interface = _query(text)
    if interface is not None and not interface.plain:
        message = "the query is about several networks or products of variables"
        raise text.error(0, message, "one network and linear constraints", UnsupportedVnnlib)
    return prop
