"""How long the parser takes for large property files, and how much memory.

The files are made up here, in the sizes and shapes of the largest ones of the competition. Each is read
in a process of its own, which has imported the package already when the clock starts.

    python benchmarks/vnnlib_parse.py             # all of them
    python benchmarks/vnnlib_parse.py FILE..      # other files
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click

_CHILD = """
import json, resource, sys, time
import vnnlib
began = time.perf_counter()
query = vnnlib.read(sys.argv[1])
seconds = time.perf_counter() - began
# VmHWM is this program's own peak; ru_maxrss would count that of the parent before exec as well
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
peak = int(peak[0]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, peak / 1024, query.n_disjuncts, query.n_boxes, query.n_rows]))
"""


def _declarations(n_inputs: int, n_outputs: int) -> Iterator[str]:
    yield from (f"(declare-const X_{i} Real)\n" for i in range(n_inputs))
    yield from (f"(declare-const Y_{j} Real)\n" for j in range(n_outputs))


def one_large_assert(rng: random.Random) -> Iterator[str]:
    """11,080 disjuncts of 617 comparisons: a box of 308 inputs and one output bound in each."""
    yield from _declarations(308, 1)
    yield "(assert (or\n"
    for disjunct in range(11_080):
        values = [f"{rng.random():.16f}" if rng.random() < 0.05 else rng.choice(["0.0", "1.0"]) for _ in range(308)]
        bounds = " ".join(f"(>= X_{i} {value}) (<= X_{i} {value})" for i, value in enumerate(values))
        yield f"(and {bounds} ({'<=' if disjunct % 2 else '>='} Y_0 -1e-5))\n"
    yield "))\n"


def many_disjuncts(rng: random.Random) -> Iterator[str]:
    """120,000 disjuncts of three comparisons, in pairs of the same box."""
    yield from _declarations(1, 1)
    yield "(assert (or\n"
    for _ in range(60_000):
        lower, output = rng.random(), rng.random()
        box = f"(>= X_0 {lower:.16f}) (<= X_0 {lower + 1e-6:.16f})"
        yield f"  (and {box} (<= Y_0 {output:.16f}))\n"
        yield f"  (and {box} (>= Y_0 {output + 0.01:.16f}))\n"
    yield "))\n"


def many_asserts(rng: random.Random) -> Iterator[str]:
    """301,057 assertions: the box of a 3x224x224 image and one comparison of outputs."""
    yield from _declarations(150_528, 1000)
    for i in range(150_528):
        value = rng.uniform(-2.2, 2.6)
        yield f"(assert (<= X_{i} {value + 1e-3!r}))\n(assert (>= X_{i} {value!r}))\n"
    yield "(assert (>= Y_1 Y_0))\n"


def image(rng: random.Random) -> Iterator[str]:
    """A CIFAR-10 robustness property: 3,072 inputs, nine disjuncts over the outputs."""
    yield from _declarations(3072, 10)
    for i in range(3072):
        value = rng.uniform(-2.0, 2.0)
        yield f"(assert (<= X_{i} {value + 0.01:.8f}))\n(assert (>= X_{i} {value - 0.01:.8f}))\n"
    yield "(assert (or\n" + "".join(f"\t(and (>= Y_{j} Y_0))\n" for j in range(1, 10)) + "))\n"


def small(rng: random.Random) -> Iterator[str]:
    """Five inputs, four disjuncts."""
    yield from _declarations(5, 5)
    yield from (f"(assert (<= X_{i} {rng.random()}))\n(assert (>= X_{i} -0.5))\n" for i in range(5))
    yield "(assert (or\n" + "".join(f"  (and (<= Y_{j} Y_0))\n" for j in range(1, 5)) + "))\n"


GENERATORS: tuple[Callable[[random.Random], Iterator[str]], ...] = (
    small,
    image,
    many_disjuncts,
    many_asserts,
    one_large_assert,
)


def _measure(path: Path, repeat: int) -> tuple[float, float, int, int, int]:
    """Seconds (the best of ``repeat``), peak MiB, disjuncts, boxes, rows."""
    command = [sys.executable, "-c", _CHILD, str(path)]
    runs = []
    for _ in range(repeat):
        child = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[1])
        runs.append(json.loads(child.stdout))
    return (min(run[0] for run in runs), max(run[1] for run in runs), *runs[0][2:])


@click.command(help=__doc__)
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--repeat", default=3, show_default=True, help="Runs of each file; the fastest counts.")
def main(files: tuple[Path, ...], repeat: int) -> None:
    click.echo(f"{'file':<28}{'MB':>8}{'disjuncts':>11}{'boxes':>8}{'rows':>9}{'seconds':>10}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for source in files or GENERATORS:
            if isinstance(source, Path):
                path = source.resolve()
            else:
                path = Path(folder) / f"{source.__name__}.vnnlib"
                with path.open("w") as file:
                    file.writelines(source(random.Random(0)))
            seconds, peak, disjuncts, boxes, rows = _measure(path, repeat)
            size = path.stat().st_size / 1e6
            row = f"{path.name:<28}{size:>8.2f}{disjuncts:>11}{boxes:>8}{rows:>9}{seconds:>10.4f}{peak:>10.0f}"
            click.echo(row)


if __name__ == "__main__":
    main()
