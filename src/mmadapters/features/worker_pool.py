"""Worker processes with limits: a task that takes too long, too much memory or its process down ends as an outcome."""

from __future__ import annotations

import math
import pickle
import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from mmadapters.errors import ConfigurationError, MMAdaptersError
from mmadapters.features.outcome import Decoded, Status
from mmadapters.features.worker_process import WorkerDiedError, WorkerError, WorkerProcess

__all__ = ["GuardedPool", "WorkerError", "run_guarded"]

Argument = TypeVar("Argument")

_LONGEST_SECONDS = 86_400.0
_Tasks = queue.SimpleQueue[tuple[Hashable, bytes] | None]
_Results = queue.SimpleQueue[tuple[Hashable, Decoded | MMAdaptersError]]


class GuardedPool:
    """Worker processes that run functions on files which may do them harm.

    A task that takes longer than ``seconds`` ends as ``TIMEOUT``; one that needs too much memory or brings its process
    down ends as ``ERROR``. Its worker is replaced, and the other tasks never notice. The processes are fresh
    interpreters that import what the functions need, not the main script or what it has loaded::

        with GuardedPool(workers=4, seconds=60) as pool:
            for key, decoded in pool.run((path, decode, path) for path in paths):
                ...

    Leaving the block, by an exception or an interrupt too, ends all processes. Where the main process is killed, its
    workers end by themselves, at the latest when their task's time is over. One thread uses the pool.

    Args:
        workers: Number of processes.
        seconds: The longest time that a task may take, on the clock; at most a day.
        memory_bytes: The most memory that tasks may take beyond what a process has at its start, in address space.
            Windows knows no such limit.

    Raises:
        ConfigurationError: If a setting is not above 0.
    """

    def __init__(self, workers: int, seconds: float = 120.0, memory_bytes: int = 4 << 30) -> None:
        for name, value in (("workers", workers), ("seconds", seconds), ("memory_bytes", memory_bytes)):
            if not 0 < value < math.inf:
                raise ConfigurationError(f"{name}={value!r} cannot be used. Give a number above 0.")
        self.workers = int(workers)
        self.seconds = min(float(seconds), _LONGEST_SECONDS)
        self.memory_bytes = int(memory_bytes)
        self._tasks: _Tasks = queue.SimpleQueue()
        self._results: _Results = queue.SimpleQueue()
        self._outstanding = 0
        self._closed = threading.Event()
        self._supervisors: list[_Supervisor] = []

    def __enter__(self) -> GuardedPool:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def outstanding(self) -> int:
        """Number of tasks that were submitted and whose results ``completed`` has not yielded yet."""
        return self._outstanding

    def submit(self, key: Hashable, function: Callable[[Argument], Decoded], argument: Argument) -> None:
        """Hand over a task, without waiting.

        Whoever submits bounds how much is under way, since results wait in memory until they are asked for; ``run``
        does that.

        Args:
            key: Comes back with the result.
            function: What to run: picklable, of a module that a fresh interpreter can import.
            argument: What to run it on; picklable.

        Raises:
            ConfigurationError: If function or argument cannot be pickled, or the pool is closed.
        """
        if self._closed.is_set():
            raise ConfigurationError("A task was given to a pool that is closed. Make a new pool.")
        try:
            pickled = pickle.dumps((function, argument), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise ConfigurationError(
                f"{function!r} or its argument cannot be sent to a worker process: {error}. Give a function of a "
                "module, or an instance of a class of one that has __call__."
            ) from error
        self._start()
        self._outstanding += 1
        self._tasks.put((key, pickled))

    def completed(self) -> Iterator[tuple[Hashable, Decoded]]:
        """Yield keys and results in the order in which tasks end, until none is outstanding.

        More tasks may be submitted meanwhile.

        Raises:
            ConfigurationError: If a function cannot be loaded in a worker, or does not return a ``Decoded``.
            MissingDependencyError: If it needs a package that is not installed.
            WorkerError: If processes cannot be started.
        """
        while self._outstanding and not self._closed.is_set():
            key, result = self._results.get()
            self._outstanding -= 1
            if isinstance(result, Exception):
                raise result
            yield key, result

    def run(
        self, tasks: Iterable[tuple[Hashable, Callable[[Argument], Decoded], Argument]], ahead: int | None = None
    ) -> Iterator[tuple[Hashable, Decoded]]:
        """Run tasks, a bounded number of them at a time.

        Args:
            tasks: Key, function and argument of each; taken one by one as there is room.
            ahead: The most tasks that are under way or whose result waits; None for one more than twice the workers.

        Yields:
            Key and result, in the order in which tasks end.

        Raises:
            ConfigurationError: As ``submit`` and ``completed``.
            MissingDependencyError: As ``completed``.
            WorkerError: As ``completed``.
        """
        room = 2 * self.workers + 1 if ahead is None else max(1, ahead)
        waiting = iter(tasks)
        completed = self.completed()
        task = next(waiting, None)
        while task is not None or self._outstanding:
            while task is not None and self._outstanding < room:
                self.submit(*task)
                task = next(waiting, None)
            result = next(completed, None)
            if result is None:
                return
            yield result

    def close(self) -> None:
        """End all processes, busy ones too, and forget what was not yielded."""
        self._closed.set()
        try:
            for supervisor in self._supervisors:
                supervisor.kill()
                self._tasks.put(None)
        finally:
            for supervisor in self._supervisors:
                supervisor.join()

    def _start(self) -> None:
        if self._supervisors or self._closed.is_set():
            return
        self._supervisors = [
            _Supervisor(self._tasks, self._results, self._closed, self.seconds, self.memory_bytes)
            for _ in range(self.workers)
        ]
        for supervisor in self._supervisors:
            supervisor.start()
        threading.Thread(target=self._kill_late_ones, name="mmadapters-watch", daemon=True).start()

    def _kill_late_ones(self) -> None:
        while not self._closed.wait(min(0.1, self.seconds / 10)):
            now = time.monotonic()
            for supervisor in self._supervisors:
                supervisor.kill_if_late(now)


def run_guarded(
    function: Callable[[Argument], Decoded], argument: Argument, seconds: float = 120.0, memory_bytes: int = 4 << 30
) -> Decoded:
    """Run a function on one file in a process of its own; for many files use ``GuardedPool``.

    Args:
        function: What to run: picklable, of a module that a fresh interpreter can import.
        argument: What to run it on; picklable.
        seconds: The longest time that it may take, on the clock.
        memory_bytes: The most memory that it may take.

    Returns:
        What the function returned, or why it did not.

    Raises:
        ConfigurationError: If a limit is not above 0, or the function cannot be run in another process.
        MissingDependencyError: If it needs a package that is not installed.
        WorkerError: If the process cannot be started.
    """
    with GuardedPool(1, seconds, memory_bytes) as pool:
        pool.submit(None, function, argument)
        return next(pool.completed())[1]


class _PoolClosedError(Exception):
    """There is no more work."""


class _Supervisor(threading.Thread):
    """Keeps one worker process alive and gives it tasks."""

    def __init__(
        self, tasks: _Tasks, results: _Results, closed: threading.Event, seconds: float, memory_bytes: int
    ) -> None:
        super().__init__(name="mmadapters-supervisor", daemon=True)
        self._tasks = tasks
        self._results = results
        self._closed = closed
        self._limits = (seconds, memory_bytes)
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None

    def run(self) -> None:
        """Work until the pool is closed."""
        try:
            self._start_early()
            while (task := self._tasks.get()) is not None:
                key, pickled = task
                result: Decoded | MMAdaptersError
                try:
                    result = self._outcome(pickled)
                except MMAdaptersError as error:
                    self._bury()
                    result = error
                self._results.put((key, result))
        except _PoolClosedError:
            pass
        finally:
            self._bury()

    def kill(self) -> None:
        """End the process, whatever it does."""
        with self._lock:
            if self._worker is not None:
                self._worker.kill()

    def kill_if_late(self, now: float) -> None:
        """End the process if its task has taken too long."""
        with self._lock:
            if self._worker is not None:
                self._worker.kill_if_late(now)

    def _start_early(self) -> None:
        """Start the process before there is a task; what goes wrong will go wrong again, and then have a task."""
        try:
            self._ready_worker()
        except WorkerError:
            self._bury()

    def _outcome(self, pickled: bytes) -> Decoded:
        while True:
            started = time.monotonic()
            worker = self._ready_worker()
            fresh = worker.tasks_done == 0
            try:
                reply = worker.run(pickled)
            except WorkerDiedError:
                return Decoded(None, *self._bury(), seconds=time.monotonic() - started)
            if worker.late:
                self._bury()
            if reply.decoded is not None:
                return reply.decoded
            self._bury()
            # What earlier tasks left behind may have taken the room: only a new process can tell.
            if fresh:
                text = f"decoding it takes more than {self._limits[1] >> 20:,} MiB of memory"
                return Decoded(None, Status.ERROR, text, time.monotonic() - started)

    def _ready_worker(self) -> WorkerProcess:
        with self._lock:
            if self._closed.is_set():
                raise _PoolClosedError
            if self._worker is not None and not self._worker.is_alive():
                self._worker.bury()
                self._worker = None
            if self._worker is None:
                self._worker = WorkerProcess(*self._limits)
            worker = self._worker
        worker.wait_until_ready()
        return worker

    def _bury(self) -> tuple[Status, str]:
        with self._lock:
            worker, self._worker = self._worker, None
        return (Status.ERROR, "") if worker is None else worker.bury()
