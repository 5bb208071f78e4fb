"""Worker processes that are killed, crash, run out of memory or talk nonsense; the pool goes on."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import guard_tasks as tasks
import numpy as np
import psutil
import pytest

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features.guard import GuardedPool, run_guarded
from mmadapters.features.outcome import Decoded, Status
from mmadapters.features.worker_pool import WorkerError

MEMORY = 256 << 20
POOL_OF_ONE = 1
"""Processes of the pool that many tests share."""


def worker_processes(parent: int | None = None) -> list[int]:
    """The worker processes below a process; zombies count, as they have no command line and no other reason to be."""
    children = psutil.Process(parent).children()
    return [
        child.pid
        for child in children
        if child.status() == psutil.STATUS_ZOMBIE or "mmadapters.features.worker" in " ".join(child.cmdline())
    ]


@pytest.fixture(autouse=True, scope="module")
def _leaves_no_process():
    yield
    assert worker_processes() == []


@pytest.fixture(scope="module")
def pool_of_one(_leaves_no_process: None):
    with GuardedPool(1, 60, MEMORY) as pool:
        yield pool


def only_result(pool: GuardedPool, function, argument) -> Decoded:
    pool.submit("key", function, argument)
    ((key, decoded),) = list(pool.completed())
    assert key == "key"
    return decoded


def test_results_come_back_with_their_keys() -> None:
    with GuardedPool(2, 60, MEMORY) as pool:
        found = dict(pool.run((number, tasks.square, float(number)) for number in range(20)))
        assert pool.outstanding == 0
    assert {key: float(decoded.values[0]) for key, decoded in found.items()} == {n: float(n * n) for n in range(20)}
    assert all(decoded.status is Status.OK and decoded.seconds > 0 for decoded in found.values())


@pytest.mark.parametrize(
    "values",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.array([[np.nan, np.inf], [-0.0, 1e-300]]),
        np.zeros((0, 3), np.float32),
        np.array(7, np.int64),
        np.arange(12, dtype=np.float16).reshape(3, 4).T,
        np.array([True, False]),
        np.arange(3, dtype=">i4"),
    ],
)
def test_arrays_of_numbers_come_back_as_they_are(pool_of_one: GuardedPool, values: np.ndarray) -> None:
    decoded = only_result(pool_of_one, tasks.give_back, values)
    assert (decoded.status, decoded.error) == (Status.DEGRADED, "a remark")
    assert (decoded.values.shape, decoded.values.dtype) == (values.shape, values.dtype)
    np.testing.assert_array_equal(decoded.values, values)


def test_a_callable_with_settings_is_a_function_too(pool_of_one: GuardedPool) -> None:
    assert only_result(pool_of_one, tasks.Multiply(3.0), 2.0).values == 6.0


@pytest.mark.parametrize(
    ("function", "argument", "error"),
    [
        (tasks.fail, "first line\nsecond line", "ValueError: first line"),
        (tasks.fail, "x" * 1000, "ValueError: xxx"),
        (tasks.refuse, "the file is odd", "MediaError: the file is odd"),
        (tasks.exit_python, None, "SystemExit: 3"),
        (tasks.crash, None, "the process that decoded it ended (SIGSEGV)"),
        (tasks.leave, 7, "the process that decoded it ended (exit status 7)"),
        (tasks.take_memory, 1024, "decoding it takes more than 256 MiB of memory"),
        (tasks.answer_nonsense, struct.pack(">Q", 1 << 40), "answered nonsense"),
        (tasks.answer_nonsense, struct.pack(">Q", 4) + b"nope", "answered nonsense"),
        (tasks.answer_nonsense, struct.pack(">Q", 2) + b"[]", "answered nonsense"),
    ],
)
def test_what_goes_wrong_in_a_process_is_an_error_of_its_task(
    pool_of_one: GuardedPool, function, argument, error: str
) -> None:
    decoded = only_result(pool_of_one, function, argument)
    assert (decoded.values, decoded.status) == (None, Status.ERROR)
    assert error in decoded.error
    assert len(decoded.error) <= 300
    assert only_result(pool_of_one, tasks.square, 2.0).values == 4.0


@pytest.mark.parametrize(
    "header",
    [
        {"status": "ok", "error": "", "seconds": 0, "dtype": "O", "shape": [1]},
        {"status": "ok", "error": "", "seconds": 0, "dtype": "f8", "shape": [1 << 40]},
        {"status": "ok", "error": "", "seconds": 0, "dtype": "f8", "shape": [-1, -1]},
        {"status": "ok", "error": "", "seconds": 0, "dtype": "f8", "shape": "x"},
        {"status": "fine", "error": "", "seconds": 0},
        {"status": "ok"},
    ],
)
def test_results_that_no_worker_sends_are_not_believed(pool_of_one: GuardedPool, header: dict) -> None:
    text = json.dumps(header).encode()
    decoded = only_result(pool_of_one, tasks.answer_nonsense, struct.pack(">Q", len(text)) + text)
    assert (decoded.values, decoded.status) == (None, Status.ERROR)
    assert "answered nonsense" in decoded.error


def test_what_libraries_print_does_no_harm(pool_of_one: GuardedPool) -> None:
    assert only_result(pool_of_one, tasks.chatter, 3.0).values == 9.0


@pytest.mark.parametrize("function", [tasks.wait_for_ever, tasks.spin_without_the_gil])
def test_a_task_that_hangs_is_killed_and_the_others_go_on(function) -> None:
    with GuardedPool(2, 0.5, MEMORY) as pool:
        pool.submit("hangs", function, None)
        for number in range(4):
            pool.submit(number, tasks.square, float(number))
        found = list(pool.completed())
    assert {key for key, _ in found} == {"hangs", 0, 1, 2, 3}
    hung = dict(found)["hangs"]
    assert (hung.values, hung.status) == (None, Status.TIMEOUT)
    assert hung.error == "decoding it took longer than 0.5 s"
    assert 0.5 <= hung.seconds < 5
    assert all(decoded.status is Status.OK for key, decoded in found if key != "hangs")


def test_a_worker_keeps_its_process_until_that_is_no_use_any_more() -> None:
    with GuardedPool(1, 60, MEMORY) as pool:
        first = only_result(pool, tasks.process_id, None).values
        assert only_result(pool, tasks.process_id, None).values == first
        only_result(pool, tasks.crash, None)
        second = only_result(pool, tasks.process_id, None).values
        assert second != first
        os.kill(int(second), signal.SIGKILL)
        psutil.wait_procs([psutil.Process(int(second))], timeout=0.1)
        assert only_result(pool, tasks.process_id, None).status is Status.OK
        assert len(worker_processes()) == 1 + POOL_OF_ONE


def test_memory_that_earlier_tasks_keep_is_not_held_against_a_task() -> None:
    with GuardedPool(1, 60, MEMORY) as pool:
        ids = [int(only_result(pool, tasks.keep_memory, 150).values) for _ in range(3)]
    assert len(set(ids)) == 3


def test_a_process_has_one_thread_for_numbers_and_leaves_no_core(pool_of_one: GuardedPool) -> None:
    worker = psutil.Process(int(only_result(pool_of_one, tasks.process_id, None).values))
    assert worker.environ()["OMP_NUM_THREADS"] == "1"
    assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    limit, _ = worker.rlimit(psutil.RLIMIT_AS)
    assert MEMORY < limit < MEMORY + (8 << 30)


def test_run_takes_tasks_only_as_there_is_room(pool_of_one: GuardedPool) -> None:
    taken: list[int] = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number, tasks.square, float(number)
            number += 1

    results = pool_of_one.run(endless(), ahead=3)
    for count in range(1, 6):
        next(results)
        assert len(taken) <= count + 3
    rest = list(pool_of_one.completed())
    assert len(rest) == len(taken) - 1 - 5
    assert list(pool_of_one.run([])) == []


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (tasks.need_a_package, MissingDependencyError, "A package is not installed: pip install it"),
        (tasks.return_a_number, ConfigurationError, "it returned float instead of Decoded"),
        (tasks.return_objects, ConfigurationError, "an array of object"),
        (tasks.BreaksWhenLoaded(), ConfigurationError, "cannot be run in a worker process: ValueError"),
    ],
)
def test_what_is_wrong_with_every_file_is_raised(pool_of_one: GuardedPool, function, error, message: str) -> None:
    with pytest.raises(error, match=message):
        only_result(pool_of_one, function, 1.0)
    assert only_result(pool_of_one, tasks.square, 2.0).values == 4.0


def test_a_function_that_cannot_be_sent_is_refused(pool_of_one: GuardedPool) -> None:
    with pytest.raises(ConfigurationError, match="cannot be sent to a worker process"):
        pool_of_one.submit(1, lambda argument: tasks.square(0), 1.0)
    assert pool_of_one.outstanding == 0


@pytest.mark.parametrize("settings", [{"workers": 0}, {"seconds": 0}, {"seconds": float("inf")}, {"memory_bytes": -1}])
def test_settings_are_above_zero(settings: dict) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        GuardedPool(**{"workers": 1, **settings})


def test_a_pool_whose_processes_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmadapters.features.worker_process._PROGRAM", "raise ImportError('no module')")
    with GuardedPool(1, 60, MEMORY) as pool:
        for _ in range(2):
            with pytest.raises(WorkerError, match="cannot be started: ImportError: no module"):
                only_result(pool, tasks.square, 1.0)
    monkeypatch.setattr(sys, "executable", "/absent/python")
    with pytest.raises(WorkerError, match="cannot be started"):
        run_guarded(tasks.square, 1.0)


def test_one_call_needs_no_pool() -> None:
    assert run_guarded(tasks.square, 3.0, 60, MEMORY).values == 9.0
    assert run_guarded(tasks.wait_for_ever, None, 0.2, MEMORY).status is Status.TIMEOUT


def test_an_exception_ends_all_processes_and_busy_ones_too(tmp_path: Path) -> None:
    pool = GuardedPool(2, 600, MEMORY)
    with pytest.raises(KeyError, match="mine"):
        fail_with_busy_workers(pool, tmp_path / "busy")
    assert len(worker_processes()) <= POOL_OF_ONE
    assert list(pool.completed()) == []
    with pytest.raises(ConfigurationError, match="closed"):
        pool.submit(None, tasks.square, 1.0)
    pool.close()


def fail_with_busy_workers(pool: GuardedPool, marker: Path) -> None:
    with pool:
        for _ in range(5):
            pool.submit(None, tasks.wait_for_ever, marker)
        wait_for(marker)
        raise KeyError("mine")


MAIN = """
import sys
import signal
import guard_tasks
# A shell that starts this in the background has interrupts ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from mmadapters.features.guard import GuardedPool
with GuardedPool(2, 600) as pool:
    pool.submit(0, guard_tasks.wait_for_ever, __import__("pathlib").Path(sys.argv[1]))
    for result in pool.completed():
        print(result)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_main_process(tmp_path: Path, sent: signal.Signals) -> None:
    marker = tmp_path / "busy"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", MAIN, str(marker)], stderr=subprocess.PIPE, env=environment) as main:
        busy = psutil.Process(wait_for(marker))
        idle = [psutil.Process(pid) for pid in worker_processes(main.pid) if pid != busy.pid]
        assert len(idle) == 1
        main.send_signal(sent)
        try:
            _, errors = main.communicate(timeout=30)
        finally:
            main.kill()
    assert (b"KeyboardInterrupt" in errors) == (sent is signal.SIGINT)
    if sent is not signal.SIGINT:
        # Nobody was left to end the busy one; it ends with its task's time, which is long here.
        busy.kill()
    _, alive = psutil.wait_procs([busy, *idle], timeout=10)
    assert alive == []


def test_an_orphan_ends_when_its_task_has_had_its_time(tmp_path: Path) -> None:
    marker = tmp_path / "busy"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    program = MAIN.replace("600", "0.5").replace(
        "import sys", "import sys; import mmadapters.features.worker_process as w; w.WorkerProcess.kill_if_late = None"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(marker)], stderr=subprocess.PIPE, env=environment
    ) as main:
        busy = psutil.Process(wait_for(marker))
        main.kill()
    _, alive = psutil.wait_procs([busy], timeout=20)
    assert alive == []


def wait_for(marker: Path) -> int:
    """Wait until a worker has written its process id."""
    limit = time.monotonic() + 60
    while not marker.exists() or not marker.read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)
    return int(marker.read_text())
