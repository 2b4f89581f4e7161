"""What a person sees on standard error while a proof runs: log lines and, on a terminal, a live line."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Any

from lirpa_verify.messages import Log, News
from lirpa_verify.streams import tell

# -q, nothing, -v, -vv
_LEVELS = {-1: logging.CRITICAL, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


def log_level(verbosity: int) -> int:
    """The `logging` level from which lines are shown."""
    return _LEVELS[max(-1, min(2, verbosity))]


class Terminal:
    """Listens to a run and shows it; `close` takes the live line away."""

    def __init__(self, start: float, verbosity: int) -> None:
        self._start = start
        self._verbosity = verbosity
        self._level = log_level(verbosity)
        self._wants_live = verbosity >= 0 and sys.stderr.isatty()
        self._live: Any = None
        self._news = News("starting")

    def __call__(self, message: News | Log | None) -> None:
        if isinstance(message, Log):
            if message.level >= self._level:
                self.line(message.text)
        elif isinstance(message, News):
            if self._verbosity >= 2 or (self._verbosity == 1 and message.phase != self._news.phase):
                self.line(_describe(message))
            self._news = message
        if self._wants_live:
            try:
                self._redraw()
            except OSError:  # nobody sees it any more
                self._wants_live = False

    def line(self, text: str) -> None:
        """Print one line, with the time since the start, above the live line."""
        text = f"[{time.monotonic() - self._start:7.2f} s] {text}"
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            tell(text)

    def close(self) -> None:
        """Remove the live line; call it before anything else is printed."""
        if self._live is not None:
            with contextlib.suppress(OSError):  # a terminal that is gone needs no tidying
                self._live.stop()
            self._live = None
        self._wants_live = False

    def _redraw(self) -> None:
        from rich.console import Console  # here, because it takes longer to import than all else
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        elapsed = time.monotonic() - self._start
        self._live.update(Text(f"{elapsed:6.1f} s  {_describe(self._news)}", no_wrap=True), refresh=True)


def _describe(news: News) -> str:
    parts = [news.phase]
    if news.open or news.closed:
        parts.append(f"{news.open} open, {news.closed} closed")
    if news.worst == news.worst:  # not NaN
        parts.append(f"worst bound {news.worst:.4g}")
    return "  ".join(parts)
