"""What the server process of warm workers imports once, before it forks the first of them.

For the list of modules that `multiprocessing`'s fork server loads, and for nobody else: importing this module
ties the process to its parent. Nothing here may start a thread or run an operation of torch: threads do
not survive a fork, and a pool whose threads are missing waits for them for ever. onnxruntime starts one when it is
imported and stays out for that reason.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

from lirpa_verify.worker import _import_torch

SERVER = os.getpid()  # a worker whose parent is another process has lost its server

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(
        1, signal.SIGKILL
    )  # PR_SET_PDEATHSIG: a killed run leaves no server behind, nor its workers
_import_torch()
gc.disable()
import lirpa_verify.bench.cli  # noqa: E402 - the main module, which multiprocessing makes every worker import
import lirpa_verify.load.onnx_program  # noqa: E402
import lirpa_verify.network  # noqa: E402
import lirpa_verify.strategy  # noqa: E402, F401
import vnnlib  # noqa: E402, F401

gc.freeze()
gc.enable()
