"""The solver of linear programs prints nothing."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from lirpa_verify.quiet_highs import QuietHighs
solver = QuietHighs()
solver.addVar(-1.0, 2.0)
solver.changeColCost(0, 1.0)
solver.run()
assert solver.getInfo().objective_function_value == -1.0
"""


def test_nothing_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""
