"""A trained network leaves Python: ONNX and VNN-LIB files that `lirpa-verify` proves, compared with the library.

python examples/prove_exported.py --out FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from datasets import digits
from train_images import Settings, train_classifier

from lirpa_verify import export_instance, linf


def command_line(model: Path, prop: Path, timeout: float) -> str:
    """The first word that the command line prints."""
    command = [sys.executable, "-m", "lirpa_verify", str(model), str(prop), "--timeout", str(timeout)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]


def main(arguments: list[str] | None = None) -> list[tuple[bool, str, str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--radius", type=float, default=0.1)
    parser.add_argument("--examples", type=int, default=6)
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("exported"))
    given = parser.parse_args(arguments)
    data = digits()
    module, task = train_classifier(data, Settings(given.model, given.epochs, given.radius), robust=True)
    given.out.mkdir(parents=True, exist_ok=True)
    model = given.out / f"{given.model}.onnx"
    answers = []
    with torch.no_grad():
        for i in range(given.examples):
            x, label = data.floats(data.test[0][i : i + 1]), data.test[1][i : i + 1]
            box = linf(x, given.radius, 0, 1)
            certified = bool((task.bounded.margins(box, label, "crown") > 0).all())
            verdict = task.bounded.verify(box, labels=label, timeout=given.timeout)[0].verdict
            prop = given.out / f"image_{i}.vnnlib"
            export_instance(module, box, int(label), None if i else model, prop)
            answers.append((certified, verdict, command_line(model, prop, given.timeout)))
            print(f"{prop}: CROWN {'proves it' if certified else 'does not prove it'}, "
                  f"verify() says {verdict}, lirpa-verify says {answers[-1][2]}")  # fmt: skip
    return answers


if __name__ == "__main__":
    main()
