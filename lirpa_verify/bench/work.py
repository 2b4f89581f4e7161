"""What runs a task on this machine: warm workers, or the competition's scripts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lirpa_verify.bench.cold import ColdStarts
from lirpa_verify.bench.effort import Effort
from lirpa_verify.bench.row import Row
from lirpa_verify.bench.task import Task
from lirpa_verify.bench.warm import warm_workers


@contextmanager
def local_work(effort: Effort) -> Iterator[Callable[[Task], Row]]:
    """A function that runs tasks on this machine, also from several threads; enter it in the main thread."""
    if not effort.cold:
        yield warm_workers(effort)
        return
    with tempfile.TemporaryDirectory(prefix="lirpa-bench-", ignore_cleanup_errors=True) as scratch:
        yield ColdStarts(effort, Path(scratch))
