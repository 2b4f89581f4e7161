"""Options that several commands of `lirpa-bench` share."""

from __future__ import annotations

from pathlib import Path

import click

DATABASE = click.option(
    "--db",
    type=click.Path(path_type=Path),
    default="lirpa-bench.sqlite",
    show_default=True,
    help="The database.",
)
