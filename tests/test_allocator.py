"""Memory that was freed is used again without asking the system for it."""

import os
import platform
import subprocess
import sys

import pytest

CHURN = """
import resource
import sys
import torch
from lirpa_verify.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        tensors = [torch.ones(2**23) for _ in range(4)]
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages(4)
print(pages(10))
"""


def faults(choice: str, **environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", CHURN, choice]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_freed_memory_is_used_again() -> None:
    given_back = faults("leave")
    assert faults("keep") < given_back / 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_settings_of_the_environment_are_respected() -> None:
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="0") > faults("keep")
