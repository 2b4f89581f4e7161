"""The command `lirpa-bench`."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from lirpa_verify import __version__
from lirpa_verify.bench.cli_options import DATABASE
from lirpa_verify.bench.cli_read import COMMANDS
from lirpa_verify.bench.errors import BenchError
from lirpa_verify.methods import DEVICES, METHODS

_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="lirpa-bench")
def command(debug: bool) -> None:
    """Run lirpa-verify over suites of instances, and report.

    Exit status: 0 if all is well; 1 if something is not (a row is missing, a witness does not hold, a
    comparison shows a loss); 2 for bad usage or bad input; 130 or 143 when interrupted.
    """


@command.command("run")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@DATABASE
@click.option("--name", default="main", show_default=True, help="Name of the run in the database.")
@click.option("--category", "categories", multiple=True, help="Only categories like this (may be repeated).")
@click.option("--match", "names", multiple=True, help="Only models or properties named like this (may be repeated).")
@click.option("--first", type=_COUNT, help="At most so many instances of each category.")
@click.option("--vnnlib", "version", default="1.0", show_default=True, help="VNN-LIB version, where there are several.")
@click.option("--timeout", type=_POSITIVE, default=300.0, show_default=True, help="Seconds, where the list has none.")
@click.option("--cap", type=_POSITIVE, help="Upper limit of all timeouts, in seconds.")
@click.option("--repeat", "repeats", type=_COUNT, default=1, show_default=True, help="Run every instance so often.")
@click.option("--jobs", type=_COUNT, default=1, show_default=True, help="Instances at the same time.")
@click.option("--threads", type=_COUNT, help="Threads of each instance.  [default: cores / jobs]")
@click.option("--memory", type=_POSITIVE, help="GiB that an instance may hold.  [default: 90 % of what is free]")
@click.option("--cold", is_flag=True, help="Start the competition's scripts instead of warm workers.")
@click.option(
    "--scripts", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The folder of those scripts."
)
@click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True, help="How to prove.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--cluster", help="Address or scheduler file of a Dask cluster that does the work.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per instance.")
def run_command(**options: Any) -> int:
    """Run the instances of PATH...: an instances.csv, a folder of benchmarks, or a list of your own.

    The same command again continues where the run was stopped.
    """
    from lirpa_verify.bench.effort import Effort
    from lirpa_verify.bench.run import Plan, run
    from lirpa_verify.bench.suite import Selection

    memory, jobs = options["memory"], options["jobs"]
    effort = Effort(
        method=options["method"],
        device=options["device"],
        seed=options["seed"],
        memory=None if memory is None else int(memory * 2**30),
        threads=options["threads"] or max(1, (os.cpu_count() or 1) // jobs),
        cold=options["cold"],
        scripts=_scripts(options["scripts"]) if options["cold"] else "",
    )
    return run(
        Plan(
            paths=options["paths"],
            database=options["db"],
            name=options["name"],
            selection=Selection(options["categories"], options["names"], options["first"], options["version"]),
            effort=effort,
            timeout=options["timeout"],
            cap=options["cap"],
            repeats=options["repeats"],
            jobs=jobs,
            cluster=options["cluster"],
            as_json=options["as_json"],
        )
    )


for reading in COMMANDS:
    command.add_command(reading)


def _scripts(folder: Path | None) -> str:
    """The folder with `run_instance.sh`: the one given, else the checkout that this code is in."""
    folder = folder or Path(__file__).resolve().parents[2]
    if not (folder / "run_instance.sh").exists():
        raise click.BadParameter(f"no run_instance.sh in {folder}", param_hint="--scripts")
    return str(folder.resolve())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the console script."""
    shown = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = command.main(shown, prog_name="lirpa-bench", standalone_mode=False)
    except click.ClickException as error:
        print(f"lirpa-bench: error: {error.format_message()}", file=sys.stderr)
        status = error.exit_code
    except (BenchError, sqlite3.OperationalError) as error:
        if "--debug" in shown:
            traceback.print_exc()
        print(f"lirpa-bench: error: {error}", file=sys.stderr)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except BrokenPipeError:
        status = 0  # whoever read our output has seen enough
    _leave(status if isinstance(status, int) else 0)


def _leave(status: int) -> NoReturn:
    """End at once, and with this process its workers, whatever they are doing."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            continue
        except OSError:
            status = status or 1
    os._exit(status)
