"""The bytes of a property: where they come from, and how a position in them is reported."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from vnnlib.errors import VnnlibError

_GZIP_MAGIC = b"\x1f\x8b"
_COMMENT = re.compile(rb";[^\n]*")
_TOKEN = re.compile(rb"\([^\s()]*|\)|[^\s()]+")
_LONGEST_QUOTE = 40


@dataclass(frozen=True)
class Text:
    """Bytes without comments; every byte that is left is at its original offset."""

    source: str
    data: bytes

    @staticmethod
    def of(source: str, data: bytes) -> Text:
        if b";" in data:
            data = _COMMENT.sub(lambda comment: b" " * len(comment.group()), data)
        return Text(source, data)

    def error(
        self, offset: int, message: str, expected: str | None = None, kind: type[VnnlibError] = VnnlibError
    ) -> VnnlibError:
        line_start = self.data.rfind(b"\n", 0, offset) + 1
        line = self.data.count(b"\n", 0, offset) + 1
        return kind(self.source, line, offset - line_start + 1, message, expected)

    def quote(self, offset: int) -> str:
        """The token at ``offset`` as it is shown in a message, a parenthesis together with what it sticks to."""
        token = _TOKEN.match(self.data, offset)
        if token is None:
            return "end of file"
        shown = token.group()[:_LONGEST_QUOTE].decode("ascii", "backslashreplace")
        return f"`{shown}`" if token.end() - offset <= _LONGEST_QUOTE else f"`{shown}...`"


def read_text(path: str | os.PathLike[str]) -> Text:
    """The file ``path``, else ``path.gz``; what is compressed is told by its first bytes, not by its name."""
    file = Path(path)
    if not file.exists():
        compressed = file.with_name(file.name + ".gz")
        if not compressed.exists():
            raise FileNotFoundError(f"neither {file} nor {compressed} exists")
        file = compressed
    data = file.read_bytes()
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise VnnlibError(str(file), 1, 1, f"damaged gzip data ({error})", "a complete gzip stream") from error
    return Text.of(str(file), data)
