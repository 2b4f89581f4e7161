"""`python -m lirpa_verify.prepare MODEL`: read a model ahead of time, so that later runs start faster.

Reading fills the cache of recorded networks. A model that cannot be read is reported, not failed:
the run itself will answer for it, and a harness would skip an instance whose preparation failed.
"""

from __future__ import annotations

import signal
import sys
import time

from lirpa_verify.clock import process_started
from lirpa_verify.files import missing_file, named_models
from lirpa_verify.memory import budget_bytes
from lirpa_verify.messages import Answer, BadInput, Failure, Job
from lirpa_verify.streams import open_standard_streams, tell
from lirpa_verify.supervisor import Limits, supervise, time_limits
from lirpa_verify.terminal import Terminal, log_level
from lirpa_verify.worker import work

TIMEOUT = 300.0  # half of what the competition allows


def main() -> int:
    """Read the model named on the command line; 0 unless that name is missing."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing has to be tidied up
    open_standard_streams()
    if len(sys.argv) != 2:
        tell("usage: python -m lirpa_verify.prepare MODEL.onnx")
        return 2
    start = process_started()
    done_by, kill_at = time_limits(start, TIMEOUT, time.monotonic())
    try:
        models = named_models(sys.argv[1])
    except ValueError as error:
        tell(f"not prepared: {error}")
        return 0
    job = Job(task="prepare", models=models, property="", deadline=done_by, log_level=log_level(0))
    outcome = missing_file(*models.values()) or supervise(
        job, work, Limits(kill_at, budget_bytes()), Terminal(start, -1)
    )
    problem = ""
    if isinstance(outcome, Answer):
        problem = outcome.reason
    elif isinstance(outcome, BadInput | Failure):
        problem = outcome.message
    what = f"not prepared: {problem}" if problem else f"ready in {time.monotonic() - start:.1f} s"
    tell(f"{sys.argv[1]}: {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
