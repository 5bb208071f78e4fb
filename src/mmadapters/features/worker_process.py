"""The parent's end of a worker process: starts it, gives it tasks, and buries it; ``worker`` is the other end."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mmadapters.errors import ConfigurationError, MissingDependencyError, MMAdaptersError
from mmadapters.features.outcome import Decoded, Status, one_line
from mmadapters.features.worker import FRAME, NUMBERS

_Result = TypeVar("_Result")

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mmadapters.features.worker import serve; "
    "serve(float(sys.argv[2]), int(sys.argv[3]))"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_START_SECONDS = 120.0
_LAST_GASP_SECONDS = 1.0
_MAX_HEADER_BYTES = 64 * 1024
_MAX_DIMENSIONS = 8


class WorkerError(MMAdaptersError, RuntimeError):
    """Worker processes cannot do their work, whatever the files are like."""


class WorkerDiedError(Exception):
    """The process ended, or says what cannot be understood."""


@dataclass(frozen=True)
class Reply:
    """What a worker says of a task.

    Attributes:
        decoded: The result; None where memory was short.
    """

    decoded: Decoded | None


class WorkerProcess:
    """A running worker. One thread uses it; any thread may ``kill`` it.

    Args:
        seconds: The longest time that a task may take, on the clock.
        memory_bytes: The most memory that tasks may take beyond what the process has at its start.

    Attributes:
        tasks_done: Number of tasks that it has answered.
        late: Whether it was killed as its time was over.
    """

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._deadline = math.inf
        self._ready = False
        self._nonsense = False
        self._eof = False
        self.tasks_done = 0
        self.late = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-c",
                    _PROGRAM,
                    json.dumps([*map(str, sys.path)]),
                    str(seconds),
                    str(memory_bytes),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, **_ONE_THREAD},
                # An interrupt of the terminal is for the main process alone.
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise WorkerError(f"A worker process cannot be started: {error.strerror}.") from error

    def wait_until_ready(self) -> None:
        """Wait for it to have imported what it needs.

        Raises:
            WorkerError: If it ends instead, or never comes so far.
        """
        if self._ready:
            return
        try:
            self._with_deadline(_START_SECONDS, self._read_header)
            self._ready = True
        except WorkerDiedError:
            said = self._last_words()
            self.bury()
            why = "it took too long" if self.late else said or "it ended"
            raise WorkerError(f"A worker process cannot be started: {why}.") from None

    def run(self, pickled: bytes) -> Reply:
        """Run a task.

        Args:
            pickled: Function and argument.

        Raises:
            WorkerDiedError: If the process ended, by ``kill`` too, or answers nonsense; ``bury`` says why.
            ConfigurationError: If it cannot load the function, or the function returns no ``Decoded``.
            MissingDependencyError: If the function needs a package that is not installed.
        """
        reply = self._with_deadline(self._seconds, lambda: self._exchange(pickled))
        self.tasks_done += 1
        return reply

    def is_alive(self) -> bool:
        """Whether it runs; a machine that is short of memory may end a process that does nothing."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()

    def kill_if_late(self, now: float) -> None:
        """End the process where its task has taken too long.

        Args:
            now: The time by ``time.monotonic``.
        """
        with self._lock:
            if now > self._deadline:
                self.late = True
                self._process.kill()

    def bury(self) -> tuple[Status, str]:
        """End the process, leave nothing of it behind, and return how its last task ended."""
        if not self._nonsense:
            # It may have closed its pipe and not quite ended.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_GASP_SECONDS if self._eof else 0)
        self._process.kill()
        code = self._process.wait()
        # Closing flushes what the process never read.
        for file in (self._process.stdin, self._process.stdout, self._stderr):
            with suppress(OSError):
                if file is not None:
                    file.close()
        if self.late or code in _ends_of_time():
            return Status.TIMEOUT, f"decoding it took longer than {self._seconds:g} s"
        if self._nonsense:
            return Status.ERROR, "the process that decoded it answered nonsense"
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return Status.ERROR, f"the process that decoded it ended ({how})"

    def _last_words(self) -> str:
        """Return the last line that it wrote before it was ready."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_GASP_SECONDS)
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        return one_line(said[-1]) if said else ""

    def _with_deadline(self, seconds: float, action: Callable[[], _Result]) -> _Result:
        with self._lock:
            self._deadline = time.monotonic() + seconds
        try:
            return action()
        except MMAdaptersError:
            raise
        except OSError as error:
            raise WorkerDiedError from error
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            self._nonsense = True
            raise WorkerDiedError from error
        finally:
            with self._lock:
                self._deadline = math.inf

    def _exchange(self, pickled: bytes) -> Reply:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(FRAME.pack(len(pickled)) + pickled)
        stdin.flush()
        header = self._read_header()
        if "fault" in header:
            raise _fault(header)
        if header.get("memory"):
            return Reply(None)
        values = self._read_array(header) if "dtype" in header else None
        return Reply(Decoded(values, Status(header["status"]), one_line(header["error"]), float(header["seconds"])))

    def _read_header(self) -> dict[str, Any]:
        (length,) = FRAME.unpack(self._read(FRAME.size))
        header = json.loads(self._read(length)) if length <= _MAX_HEADER_BYTES else None
        if not isinstance(header, dict):
            raise ValueError("no header")
        return header

    def _read_array(self, header: dict[str, Any]) -> np.ndarray:
        """Read an array; what is announced is checked, since a hostile file may have taken the process over."""
        dtype, shape = np.dtype(str(header["dtype"])), [int(size) for size in header["shape"]]
        size = dtype.itemsize * math.prod(shape)
        plain = dtype.kind in NUMBERS and len(shape) <= _MAX_DIMENSIONS and min(shape, default=0) >= 0
        if not plain or size > self._memory_bytes:
            raise ValueError("no array of numbers that the worker could hold")
        content = np.empty(size, np.uint8)
        self._fill(content.data)
        return content.view(dtype).reshape(shape)

    def _read(self, size: int) -> bytearray:
        content = bytearray(size)
        self._fill(memoryview(content))
        return content

    def _fill(self, room: memoryview) -> None:
        stdout: Any = self._process.stdout
        while room:
            got = stdout.readinto(room)
            if not got:
                self._eof = True
                raise WorkerDiedError
            room = room[got:]


def _fault(header: dict[str, Any]) -> MMAdaptersError:
    message = one_line(str(header.get("message")))
    if header["fault"] == "dependency":
        return MissingDependencyError(message)
    return ConfigurationError(
        f"A function cannot be run in a worker process: {message}. Give a function of a module that a fresh "
        "interpreter can import (not of the main script or of a notebook), which returns a Decoded."
    )


def _ends_of_time() -> set[int]:
    """Exit codes of a process that the kernel ended as its time was over."""
    return {-int(number) for name in ("SIGXCPU", "SIGALRM") if (number := getattr(signal, name, None)) is not None}
