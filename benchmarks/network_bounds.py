"""Processor time and peak memory of bounding networks over a property's box, per family of benchmarks.

FOLDER holds an `instances.csv` with the columns category, onnx and vnnlib. Every network is bounded with one
of its properties, in a process of its own; a family's row shows its slowest network.

    python benchmarks/network_bounds.py FOLDER [FAMILY..]
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import click

_CHILD = """
import json, sys, time
import torch, vnnlib
from lirpa_verify.bounds.crown import backward
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.network import load_network
from lirpa_verify.operators.base import Interval
from lirpa_verify.strategy import prepare

torch.set_grad_enabled(False)
began = time.process_time()
problem, graph = prepare(load_network(sys.argv[1]), vnnlib.read(sys.argv[2]))
seconds = {"load": time.process_time() - began}
box = Interval(problem.box.lower[:1], problem.box.upper[:1])
for method in ("ibp", "forward", "crown"):
    if method == "forward" and graph.n_inputs > 64:
        continue
    began = time.process_time()
    values = dict(enumerate(bound_nodes(graph, box, method, signs_first=method == "crown")))
    if method != "ibp":
        rows = problem.specification.output[:64].unsqueeze(0)
        backward(graph, {graph.output: rows}, values).lower(box)
    seconds[method] = time.process_time() - began
    peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(json.dumps({**seconds, "inputs": graph.n_inputs, "values": sum(n.size for n in graph.nodes),
                      "peak": int(peak[0]) / 1024}), flush=True)
"""


def measure(model: Path, prop: Path, limit: float) -> dict[str, float]:
    """Seconds per method (those reached within the limit), numbers of inputs and values, peak MiB."""
    command = [sys.executable, "-c", _CHILD, str(model), str(prop)]
    root = Path(__file__).parents[1]
    try:
        output = subprocess.run(command, capture_output=True, check=True, cwd=root, timeout=limit).stdout
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b"{}"
    found: dict[str, float] = json.loads(output.decode().strip().splitlines()[-1])
    return found


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("families", nargs=-1)
@click.option("--limit", default=900.0, show_default=True, help="Seconds for one network at most.")
def main(folder: Path, families: tuple[str, ...], limit: float) -> None:
    chosen: dict[str, dict[str, str]] = {}
    with (folder / "instances.csv").open() as file:
        for row in csv.DictReader(file):
            chosen.setdefault(row["category"], {}).setdefault(row["onnx"], row["vnnlib"])
    click.echo("| family | networks | inputs | values | load, s | ibp, s | forward, s | crown, s | peak, MiB |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for family, networks in sorted(chosen.items()):
        if families and family not in families:
            continue
        runs = [measure((folder / m).resolve(), (folder / p).resolve(), limit) for m, p in networks.items()]
        slowest = max(runs, key=lambda run: run.get("crown", limit))
        times = [f"{slowest[k]:.2f}" if k in slowest else "" for k in ("load", "ibp", "forward")]
        crown = f"{slowest['crown']:.2f}" if "crown" in slowest else f"over {limit:.0f}"
        sizes = [f"{slowest.get(k, 0):.0f}" for k in ("inputs", "values")]
        peak = f"{max(run.get('peak', 0) for run in runs):.0f}"
        click.echo(f"| {' | '.join([family, str(len(runs)), *sizes, *times, crown, peak])} |")


if __name__ == "__main__":
    main()
