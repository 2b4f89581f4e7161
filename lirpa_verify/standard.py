"""The command line that the VNN-LIB 2.0 standard asks of solvers: `verify`, `supports`, `--name`.

Standard output has verdicts and capabilities only.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from lirpa_verify.cli import CONTEXT, options, run
from lirpa_verify.clock import process_started
from lirpa_verify.supervisor import Work

# What can be said without looking at the engine. Verdicts are about real numbers, whatever the models' types.
CAPABILITIES = {
    "--onnx-element-types": ("real",),
    "--vnnlib-versions": ("1.0", "2.0"),
    "--hidden-node-theories": ("NH",),
    "--multiple-input-output-theories": ("SIO", "MIO"),
    "--multiple-network-theories": ("SNET", "MENET", "MINET", "MNET"),
    "--multiple-node-comparison-theories": ("SNC", "MNC"),
    "--arithmetic-complexity-theories": ("BND", "OUTC", "LIN", "POLY"),
    "--optimised-disjunctive-reasoning": ("true",),
    "--serialise-assignments": ("false",),
}


def _models(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    models: dict[str, str] = {}
    for pair in value:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"{pair} is not NAME=MODEL")
        if name in models:
            raise click.BadParameter(f"two models for the network {name}")
        models[name] = path
    return models


@click.group(context_settings=CONTEXT, invoke_without_command=True)
@click.option("--name", is_flag=True, help="Print the name of this program.")
def command(name: bool) -> int:
    """The commands of the VNN-LIB 2.0 standard."""
    if name:
        sys.stdout.write("lirpa-verify\n")
    return 0


@command.command("verify")
@click.argument("query", type=click.Path())
@click.option(
    "--network", "models", multiple=True, required=True, callback=_models, metavar="NAME=MODEL",
    help="The model (ONNX) of a network that the query declares; once for each, but for copies (equal-to).",
)  # fmt: skip
@options
@click.pass_obj
def verify(work: Work, query: str, **options: Any) -> int:
    """Decide whether QUERY (VNN-LIB) is satisfiable.

    The first line of standard output is `sat` (an assignment follows), `unsat`, `unknown` or `timed-out`.
    """
    start = process_started(options.pop("started"))
    return run(work, start, property=query, timed_out="timed-out", **options)


@command.command("supports", context_settings={"ignore_unknown_options": True})  # capabilities look like options
@click.argument("capability", type=click.Choice(tuple(CAPABILITIES)), metavar="CAPABILITY")
def supports(capability: str) -> int:
    """Say what this program can do, a line each."""
    sys.stdout.write("".join(f"{word}\n" for word in CAPABILITIES[capability]))
    return 0
