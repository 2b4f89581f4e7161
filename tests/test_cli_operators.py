"""`lirpa-verify operators` lists what can be bounded."""

import subprocess
import sys


def test_operators_are_listed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lirpa_verify", "operators"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "ReLU" in done.stdout and "convolution" in done.stdout
    assert not done.stderr
