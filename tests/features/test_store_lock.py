"""The lock: one holder at a time, gone with its process, and not held by what was forked from it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmadapters.errors import DataError
from mmadapters.features.store_lock import FolderLock

HOLDER = """
import sys
from pathlib import Path
from mmadapters.features.store_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

PARENT = """
import os, sys
from pathlib import Path
from mmadapters.features.store_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if os.fork() == 0:
    assert not lock.is_held
    lock.release()
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""


def started(program: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_one_lock_at_a_time(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    assert first.is_held
    with pytest.raises(DataError) as caught:
        FolderLock(tmp_path)
    assert str(caught.value) == (
        f"Another writer has the feature store '{tmp_path}' open, in this process or another. Wait until it is closed, "
        "or write into another folder and merge the two with `mmadapters store compact`."
    )
    first.release()
    first.release()
    assert not first.is_held
    second = FolderLock(tmp_path)
    assert second.is_held
    first.release()
    assert second.is_held
    second.release()


def test_a_refused_lock_leaves_no_file_handle(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(DataError):
            FolderLock(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    lock.release()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_forgotten_lock_is_released(tmp_path: Path) -> None:
    FolderLock(tmp_path)
    gc.collect()
    FolderLock(tmp_path).release()


def test_the_lock_of_another_process_goes_when_it_is_killed(tmp_path: Path) -> None:
    with started(HOLDER, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="Another writer has the feature store"):
            FolderLock(tmp_path)
        process.kill()
        process.wait()
        FolderLock(tmp_path).release()


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no fork here")
def test_a_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    with started(PARENT, tmp_path) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        with pytest.raises(DataError, match="Another writer has the feature store"):
            FolderLock(tmp_path)
        process.kill()
        process.wait()
        os.kill(worker, 0)
        FolderLock(tmp_path).release()
        os.kill(worker, signal.SIGKILL)


def test_a_program_that_is_started_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=signal.pause)
    process.start()
    lock.release()
    FolderLock(tmp_path).release()
    process.kill()
    process.join()
