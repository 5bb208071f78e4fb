"""The process that runs one task after the other for ``mmadapters.features.worker_pool``, within limits.

Tasks arrive as pickles on standard input, since they come from the process that started this one. Results go back as
JSON and plain bytes: a process that reads hostile files may have been taken over, and nothing that it says is
unpickled.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import struct
import sys
import time
from contextlib import suppress
from typing import IO, Any

import numpy as np

from mmadapters.errors import MissingDependencyError
from mmadapters.features.outcome import Decoded, Status, one_line

FRAME = struct.Struct(">Q")
"""Length in bytes of the pickle or JSON that follows; after the JSON of a result follow the array's bytes, C order."""
NUMBERS = "biuf"
"""Kinds of arrays that are handed over."""
GRACE_SECONDS = 2.0
"""How much later than its parent this process ends a task that takes too long, for the case that there is no parent."""


def serve(seconds: float, memory_bytes: int) -> None:
    """Run tasks until standard input ends.

    Args:
        seconds: The longest time that a task may take.
        memory_bytes: The most memory that tasks may take beyond what the process has at its start.
    """
    tasks, results = _take_over_pipes()
    _limit_memory(memory_bytes)
    _send(results, {"ready": True})
    while len(prefix := tasks.read(FRAME.size)) == FRAME.size:
        pickled = tasks.read(*FRAME.unpack(prefix))
        _limit_time(seconds)
        header, values = _run(pickled, seconds)
        _send(results, header, values)
        _lift_time_limit()
        if header.get("memory"):
            return


def _take_over_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep standard input and output for the protocol, so that what libraries print does no harm."""
    tasks = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
        sys.stderr.flush()
        os.dup2(nothing.fileno(), 2)
    return tasks, results


def _run(pickled: bytes, seconds: float) -> tuple[dict[str, Any], np.ndarray | None]:
    """Return the header of the result and its values."""
    started = time.perf_counter()
    try:
        function, argument = pickle.loads(pickled)
    except Exception as error:
        return {"fault": "function", "message": one_line(f"{type(error).__name__}: {error}")}, None
    decoded: Any
    try:
        decoded = function(argument)
    except MissingDependencyError as error:
        return {"fault": "dependency", "message": str(error)}, None
    except MemoryError:
        return {"status": Status.ERROR.value, "memory": True, "seconds": time.perf_counter() - started}, None
    except BaseException as error:
        decoded = Decoded(None, Status.ERROR, one_line(f"{type(error).__name__}: {error}"))
    if not isinstance(decoded, Decoded):
        return {"fault": "function", "message": f"it returned {type(decoded).__name__} instead of Decoded"}, None
    header: dict[str, Any] = {
        "status": Status(decoded.status).value,
        "error": one_line(decoded.error),
        "seconds": time.perf_counter() - started,
    }
    if decoded.values is None:
        return header, None
    values = np.ascontiguousarray(decoded.values)
    if values.dtype.kind not in NUMBERS:
        return {"fault": "function", "message": f"it returned an array of {values.dtype}, which holds no numbers"}, None
    return {**header, "dtype": values.dtype.str, "shape": decoded.values.shape}, values


def _send(results: IO[bytes], header: dict[str, Any], values: np.ndarray | None = None) -> None:
    text = json.dumps(header).encode()
    results.write(FRAME.pack(len(text)) + text)
    if values is not None:
        results.write(values.reshape(-1).view(np.uint8).data)
    results.flush()


def _limit_memory(memory_bytes: int) -> None:
    """Limit the address space, leave no core dumps, and be the first to go where the machine runs out of memory."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("900")
    used = 0
    with suppress(OSError), open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    wanted = used + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    # macOS refuses the limit where the process has mapped more already.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))


def _limit_time(seconds: float) -> None:
    """Let the kernel end the process by itself, in case that the parent that would do it is gone."""
    try:
        import resource
    except ImportError:  # Windows
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _lift_time_limit() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
