"""The command `lirpa-verify`: options in, verdict out.

This process stays light (no torch, no numpy): it starts the worker, watches over it, and writes the
answer.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from lirpa_verify import __version__
from lirpa_verify.clock import process_started
from lirpa_verify.files import missing_file, named_models
from lirpa_verify.interrupts import Interrupted, finish_by, hold, interrupt_at
from lirpa_verify.memory import budget_bytes
from lirpa_verify.messages import Answer, BadInput, Failure, Job, Outcome
from lirpa_verify.methods import DEVICES, METHODS
from lirpa_verify.results import exit_status, json_text, results_text, write_atomically
from lirpa_verify.streams import abandon, open_standard_streams, tell
from lirpa_verify.supervisor import Limits, Work, supervise, time_limits
from lirpa_verify.terminal import Terminal, log_level

DEFAULT_TIMEOUT = 3600.0
CONTEXT = {"help_option_names": ["-h", "--help"]}


def _seconds(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise click.BadParameter("must be a positive number of seconds")
    return value


def options(command: Callable[..., int]) -> Callable[..., int]:
    """What every command that verifies takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--timeout", type=float, default=DEFAULT_TIMEOUT, show_default=True, callback=_seconds,
        help="Seconds to answer in.",
    ),
    click.option("--results-file", type=click.Path(), help="Write the answer (and witness) here as well."),
    click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True),
    click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True, help="How to prove."),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random."),
    click.option("--bounds", is_flag=True, help="Print the certified range of every output instead of a verdict."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    click.option("-v", "--verbose", count=True, help="Log to standard error; twice for more."),
    click.option("-q", "--quiet", is_flag=True, help="The answer, and nothing on standard error but errors."),
    click.option("--debug", is_flag=True, help="Show tracebacks and library warnings."),
    click.option("--started", type=float, hidden=True, help="When the caller started, in seconds since 1970."),
)  # fmt: skip


@click.command(context_settings=CONTEXT)
@click.argument("model", type=click.Path())
@click.argument("property", type=click.Path())
@options
@click.version_option(__version__, prog_name="lirpa-verify")
@click.pass_obj
def command(work: Work, model: str, **options: Any) -> int:
    """Decide whether any input in PROPERTY (VNN-LIB) makes MODEL (ONNX) violate it.

    The first line of standard output is `sat` (a violation exists; a witness follows), `unsat` (none
    exists), `unknown` or `timeout`. Exit status: 0 for any of these, 2 for bad usage or bad input,
    1 for an error in this program.

    `lirpa-verify verify QUERY --network NAME=MODEL ..` is the command of the VNN-LIB 2.0 standard, for queries
    about several networks. `lirpa-verify operators` lists the operators that can be bounded.
    """
    start = process_started(options.pop("started"))
    try:
        models = named_models(model)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="MODEL") from error
    return run(work, start, models=models, **options)


def run(
    work: Work,
    start: float,
    *,
    models: Mapping[str, str],
    property: str,
    timeout: float,
    results_file: str | None,
    device: str,
    method: str,
    seed: int,
    bounds: bool,
    as_json: bool,
    verbose: int,
    quiet: bool,
    debug: bool,
    timed_out: str = "timeout",
) -> int:
    """Do one run, publish its outcome, and return the exit status; `timed_out` is how to say that the time was up."""
    target = _results_path(results_file, [*models.values(), property])
    verbosity = -1 if quiet else verbose
    done_by, kill_at = time_limits(start, timeout, time.monotonic())
    job = Job(
        task="bounds" if bounds else "verify",
        models=models,
        property=property,
        deadline=done_by,
        method=method,
        device=device,
        seed=seed,
        log_level=log_level(verbosity),
        debug=debug,
    )
    terminal, end = Terminal(start, verbosity), start + timeout
    outcome, status = _supervised(job, work, kill_at, end, terminal)
    unread = ""
    try:
        finish_by(end)
        _publish(outcome, target, as_json, timed_out, terminal, time.monotonic() - start)
    except Interrupted as interrupted:
        abandon(sys.stdout)
        unread, status = f"lirpa-verify: error: {interrupted}, but nobody has read the answer", interrupted.status
    with contextlib.suppress(Interrupted):
        finish_by(end)
        if unread:
            tell(unread)
        else:
            _explain(outcome, verbosity, debug, time.monotonic() - start)
        hold()
    return status


def _supervised(job: Job, work: Work, kill_at: float, end: float, terminal: Terminal) -> tuple[Outcome, int]:
    """What comes of the job, and the exit status that says so."""
    try:
        interrupt_at((kill_at + end) / 2)  # should what is shown meanwhile block
        outcome = missing_file(*job.models.values(), job.property) or supervise(
            job, work, Limits(kill_at, budget_bytes()), terminal
        )
        hold()
    except Interrupted as interrupted:
        if interrupted.late:
            return Answer("timeout", reason=str(interrupted)), 0
        return Answer("unknown", reason=str(interrupted)), interrupted.status
    return outcome, exit_status(outcome)


def _results_path(name: str | None, sources: Sequence[str]) -> Path | None:
    """Where the answer goes: somewhere that can be written to, and that the question does not come from."""
    if name is None:
        return None
    path = Path(name)
    folder = path.absolute().parent
    problem = ""
    if path.is_dir():
        problem = "it is a folder"
    elif not folder.is_dir():
        problem = f"{folder} is no folder"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        problem = "permission denied"
    elif path.is_file() and any(Path(source).exists() and path.samefile(source) for source in sources):
        problem = "the question is read from it"
    if problem:
        raise click.BadParameter(f"cannot write {name}: {problem}", param_hint="--results-file")
    return path


def _publish(
    outcome: Outcome, target: Path | None, as_json: bool, timed_out: str, terminal: Terminal, seconds: float
) -> None:
    """Write the answer: first to the file that a harness waits for, then to standard output."""
    failed: OSError | None = None
    if target is not None:
        try:
            write_atomically(target, results_text(outcome, timed_out))
        except OSError as error:
            failed = error  # standard output still gets the answer
    terminal.close()
    plain = "" if isinstance(outcome, BadInput | Failure) else results_text(outcome, timed_out)
    _print(json_text(outcome, seconds) if as_json else plain)
    if failed is not None:
        raise click.BadParameter(f"cannot write {target}: {failed.strerror}", param_hint="--results-file")


def _print(text: str) -> None:
    """To standard output, all of it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon(sys.stdout)  # whoever read it has seen enough
    except OSError as error:
        abandon(sys.stdout)
        raise click.ClickException(f"cannot write standard output: {error.strerror}") from error


def _explain(outcome: Outcome, verbosity: int, debug: bool, seconds: float) -> None:
    """Say on standard error what the answer leaves open."""
    if isinstance(outcome, BadInput | Failure):
        if debug and outcome.trace:
            tell(outcome.trace)
        hint = "" if debug or isinstance(outcome, BadInput) else " (a bug in lirpa-verify; --debug shows where)"
        tell(f"lirpa-verify: error: {outcome.message}{hint}")
        return
    undecided = isinstance(outcome, Answer) and outcome.verdict in ("unknown", "timeout")
    if verbosity >= 1 or (verbosity == 0 and undecided):
        what = f"{outcome.verdict}: {outcome.reason}" if isinstance(outcome, Answer) else "done"
        tell(f"[{seconds:7.2f} s] {what}")


def main(arguments: Sequence[str] | None = None, work: Work | None = None) -> NoReturn:
    """Entry point of the console script; `work` is what the worker process runs (tests replace it)."""
    open_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status, message = _invoke(words, work), ""
    except click.ClickException as error:
        lines = (line.strip() for line in error.format_message().splitlines())
        status, message = error.exit_code, f"error: {' '.join(lines)}"
    except click.Abort:
        status, message = 128 + signal.SIGINT, ""
    except BrokenPipeError:
        status, message = 0, ""  # whoever read our output has seen enough
    except OSError as error:
        status, message = 1, f"error: {error}"
    except Exception as error:
        if "--debug" in words:
            tell(traceback.format_exc())
        status, message = 1, f"internal error: {type(error).__name__}: {error}"
    _leave(status, message)


def _invoke(words: Sequence[str], work: Work | None) -> object:
    """The exit status of a command; `operators` and those of the VNN-LIB 2.0 standard are about no property."""
    if words == ["operators"]:
        from lirpa_verify.listing import operators_text

        _print(operators_text())
        return 0
    chosen: click.Command = command
    if words[:1] in (["verify"], ["supports"], ["--name"]):
        from lirpa_verify.standard import command as chosen
    if work is None:
        from lirpa_verify import worker

        work = worker.work
    return chosen.main(words, prog_name="lirpa-verify", standalone_mode=False, obj=work)


def _leave(status: object, message: str) -> NoReturn:
    """End at once: the answer is out, and taking the interpreter down costs tens of milliseconds."""
    code = status if isinstance(status, int) else 0
    try:
        if message:
            tell(f"lirpa-verify: {message}")
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except (OSError, Interrupted):  # a full disk, or nobody reads
        code = code or 1
    os._exit(code)
