"""The process that does the work: reads the files, verifies, and sends the answer to its supervisor.

It may be killed at any moment, so it writes no results itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from lirpa_verify.allocator import keep_freed_memory
from lirpa_verify.memory import allocation_failed
from lirpa_verify.messages import Answer, BadInput, Failure, Job, Log, News, Outcome, Prepared, Ranges, Tensor

if TYPE_CHECKING:
    import numpy as np

    import vnnlib
    from lirpa_verify.network import Network
    from lirpa_verify.verdict import Progress, Result

_NEWS_INTERVAL = 0.1  # seconds

_log = logging.getLogger("lirpa_verify.worker")


def work(job: Job, connection: Connection, parent: int | None = None) -> None:
    """Do `job`, send what happens, and end this process.

    `parent` is the process that forked this one, unless that is the supervisor itself.
    """
    _detach(parent)
    try:
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone: nobody is left to tell
            _send_logs(connection, job)
            connection.send(_outcome(job, connection))
            connection.close()
    finally:
        sys.stderr.flush()
        os._exit(0)  # skip the teardown of torch, which takes a few tenths of a second


def _detach(forked_by: int | None = None) -> None:
    """Die with the supervisor, leave signals to it, and keep its standard output clean."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(2, 1)  # whatever a library prints must not precede the verdict
    if sys.platform == "linux":
        set_parent_death_signal = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # should the system run out of memory, let it end us and not the supervisor
    parent = multiprocessing.parent_process()
    expected = forked_by if forked_by is not None or parent is None else parent.pid
    if expected is not None and os.getppid() != expected:
        os._exit(1)  # the supervisor died before it could be watched
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # dumping gigabytes after a crash would outlast the deadline


class _Handler(logging.Handler):
    """Sends log records to the supervisor, which owns the terminal."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(Log(record.levelno, self.format(record)))


def _send_logs(connection: Connection, job: Job) -> None:
    if not job.debug:
        warnings.simplefilter("ignore")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in ("lirpa_verify", "vnnlib"):
        logger = logging.getLogger(name)
        logger.addHandler(_Handler(connection))
        logger.setLevel(job.log_level)
        logger.propagate = False


def _outcome(job: Job, connection: Connection) -> Outcome:
    from lirpa_verify.errors import LirpaError, UnsupportedOperator

    try:
        return _run(job, connection)
    except UnsupportedOperator as error:
        return Answer("unknown", reason=str(error))
    except LirpaError as error:
        return BadInput(str(error), traceback.format_exc())
    except BrokenPipeError:
        raise
    except Exception as error:
        if _memory_ran_out(error):
            return Answer("unknown", reason="out of memory", cause="memory")
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def _run(job: Job, connection: Connection) -> Outcome:
    import vnnlib

    prop = interface = None
    if job.task != "prepare":
        try:
            prop, interface = vnnlib.read_query(job.property)  # first: needs no torch, its errors come at once
        except vnnlib.UnsupportedVnnlib as error:
            return Answer("unknown", reason=_naming(job.property, error))  # like an operator without a rule
        except vnnlib.VnnlibError as error:
            return BadInput(_naming(job.property, error), traceback.format_exc())
        except OSError as error:
            return BadInput(f"{job.property}: {error.strerror or error}", traceback.format_exc())

    _import_torch()
    from lirpa_verify.errors import ModelError
    from lirpa_verify.network import load_network

    _check_device(job.device)
    networks: dict[str, Network] = {}  # by path
    for path in dict.fromkeys(job.models.values()):
        _log.info("reading %s", path)
        try:
            networks[path] = load_network(path)
        except ModelError as error:
            return BadInput(_naming(path, error), traceback.format_exc())
    if prop is None:
        return Prepared()
    if interface is not None:
        return _prove_query(job, networks, prop, interface, connection)
    return _prove(job, networks, prop, connection)


def _prove(job: Job, networks: dict[str, Network], prop: vnnlib.Property, connection: Connection) -> Outcome:
    """A property in VNN-LIB 1.0."""
    from lirpa_verify.deadline import Deadline
    from lirpa_verify.errors import PropertyMismatch
    from lirpa_verify.strategy import Options, output_ranges, verify

    if len(networks) > 1:
        raise PropertyMismatch(f"{job.property} is about one network, but there are {len(networks)} models")
    [network] = networks.values()
    _check_fit(job, network, prop)
    deadline = Deadline(job.deadline)
    options = Options(method=job.method, device=job.device, seed=job.seed)
    if job.task == "bounds":
        lower, upper = output_ranges(network, prop, deadline, options)
        return Ranges(tuple(lower.tolist()), tuple(upper.tolist()))
    return _answer(verify(network, prop, deadline, options, _reporter(connection)))


def _prove_query(
    job: Job, networks: dict[str, Network], prop: vnnlib.Property, interface: vnnlib.Interface, connection: Connection
) -> Outcome:
    """A query in VNN-LIB 2.0."""
    from lirpa_verify.deadline import Deadline
    from lirpa_verify.query.decide import decide, ranges
    from lirpa_verify.query.fit import model_paths
    from lirpa_verify.strategy import Options

    declared = [networks[path] for path in model_paths(interface, job.models)]
    deadline = Deadline(job.deadline)
    options = Options(method=job.method, device=job.device, seed=job.seed)
    if job.task == "bounds":
        lower, upper = ranges(prop, interface, declared, deadline, options)
        return Ranges(tuple(lower.tolist()), tuple(upper.tolist()))
    result = decide(prop, interface, declared, deadline, options, _reporter(connection))
    return replace(_answer(result), tensors=_tensors(interface))


def _tensors(interface: vnnlib.Interface) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(tensor.name, tensor.element_type, tensor.shape, tensors is network.outputs)
        for network in interface.networks
        for tensors in (network.inputs, network.outputs)
        for tensor in tensors
    )


def _import_torch() -> None:
    """Import torch, with what must be settled before."""
    # By default idle OpenMP threads spin. Where a core is shared with anybody else that makes small
    # operations up to 50 times slower (measured on 2 cores); a proof is thousands of small operations.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    keep_freed_memory()
    gc.disable()  # it would walk torch's many objects again and again
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def _check_device(device: str) -> None:
    import torch

    from lirpa_verify.errors import LirpaError

    if device == "cuda" and not torch.cuda.is_available():
        raise LirpaError("--device cuda: torch finds no CUDA device on this machine")


def _check_fit(job: Job, network: Network, prop: vnnlib.Property) -> None:
    from lirpa_verify.errors import PropertyMismatch

    for what, specs, declared in (
        ("inputs", network.recording.inputs, prop.n_inputs),
        ("outputs", network.recording.output_specs, prop.n_outputs),
    ):
        has = sum(_size(spec.shape) for spec in specs)
        if has != declared:
            raise PropertyMismatch(f"{job.property} declares {declared} {what}, but {network.model_path} has {has}")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _naming(path: str, error: Exception) -> str:
    """The error's message, with the file's name in front unless it is in there."""
    message = str(error)
    return message if path in message else f"{path}: {message}"


def _reporter(connection: Connection) -> Callable[[Progress], None]:
    """Passes news on, at most some ten times a second so that a talkative search is not slowed down."""
    last_phase, last_time = "", 0.0

    def report(progress: Progress) -> None:
        nonlocal last_phase, last_time
        now = time.monotonic()
        if progress.phase != last_phase or now - last_time >= _NEWS_INTERVAL:
            last_phase, last_time = progress.phase, now
            connection.send(News(progress.phase, int(progress.open), int(progress.closed), float(progress.worst)))

    return report


def _answer(result: Result) -> Answer:
    statistics = {key: value.item() if hasattr(value, "item") else value for key, value in result.statistics.items()}
    if result.verdict != "sat":
        return Answer(result.verdict, result.reason, statistics=statistics)
    if result.witness is None:
        raise AssertionError("the search answered sat without a witness")
    return Answer("sat", result.reason, _decimal(result.witness.x), _decimal(result.witness.y), statistics)


def _decimal(values: np.ndarray) -> tuple[str, ...]:
    """As many digits as the type needs to be read back exactly: 9 for float32, 17 for float64."""
    digits = 17 if values.dtype.itemsize > 4 else 9
    pattern = " ".join([f"%.{digits}g"] * values.size)  # one formatting for all: 150,000 numbers in 0.1 s
    return tuple((pattern % tuple(values.ravel().tolist())).split())


def _memory_ran_out(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return allocation_failed(error)
