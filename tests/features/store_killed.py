"""Kills writers of feature stores with SIGKILL: a program that ``test_store_killed`` runs.

``python store_killed.py <folder> <scenario>`` runs the scenario once to count its steps, and then once for each step in
a new process and a new folder ``killed-<step>``. That process tells by a pipe that it has come to the step, waits
there, and is killed. In the folders ``often-<number>`` it is killed at a random step, started again and killed again,
until it comes to its end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store_helpers import COLUMNS, TRAILER, write

from mmadapters.features import store_shard
from mmadapters.features.store import StoreColumn, compact

ROWS = 7
OFTEN = 10
OTHER_COLUMNS = [StoreColumn("poster", 3, False, "float32", "encoder-0"), TRAILER]


def prepare(scenario: str, folder: Path) -> None:
    """Bring a folder into the state in which the scenario finds it."""
    folder.mkdir(parents=True)
    if scenario == "append":
        write(folder / "store", range(3), COLUMNS)
    elif scenario == "overwrite":
        write(folder / "store", range(5), OTHER_COLUMNS)
    elif scenario == "compact":
        write(folder / "store", range(ROWS), COLUMNS)


def run(scenario: str, folder: Path) -> None:
    """Do what is interrupted; doing it again brings it to its end."""
    if scenario == "compact":
        if not (folder / "compact").exists():
            compact(folder / "store", folder / "compact", rows_per_shard=4)
    else:
        write(folder / "store", range(ROWS), COLUMNS, overwrite=scenario == "overwrite")


def intercept(on_step: Callable[[str], None]) -> None:
    """Call ``on_step`` before everything that changes what is on the disk, and some times within every shard."""

    def before(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            on_step(name)
            return function(*args, **kwargs)

        return stand_in

    writes = 0
    write_through = store_shard.DigestingFile.write

    def stand_in_for_write(file: store_shard.DigestingFile, content: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes % 9 == 0:
            file.flush()
            on_step("write")
        return write_through(file, content)

    os.fsync = before("fsync", do_not_wait)
    os.replace = before("replace", os.replace)
    os.unlink = before("unlink", os.unlink)
    store_shard.DigestingFile.write = stand_in_for_write  # type: ignore[method-assign]


def do_not_wait(_: int) -> None:
    """In the place of fsync: the next process sees what was written whether or not it has reached the disk."""


def steps_of(scenario: str, folder: Path) -> list[str]:
    """The steps of a whole run."""
    prepare(scenario, folder)
    read, write_end = os.pipe()
    if os.fork() == 0:
        steps: list[str] = []
        intercept(steps.append)
        run(scenario, folder)
        os.write(write_end, json.dumps(steps).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read, "rb") as pipe:
        return json.loads(pipe.read())


def killed_at(step: int, scenario: str, folder: Path) -> bool:
    """Run in a new process, kill it at a step, and return whether it came so far."""
    read, write_end = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        passed = 0

        def on_step(_: str) -> None:
            nonlocal passed
            if passed == step:
                os.write(write_end, b"x")
                while True:
                    signal.pause()
            passed += 1

        intercept(on_step)
        run(scenario, folder)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read, "rb") as pipe:
        reached = pipe.read(1) == b"x"
    if reached:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL if reached else status == 0
    return reached


def main(root: Path, scenario: str) -> None:
    os.fsync = do_not_wait
    steps = steps_of(scenario, root / "whole")
    for step in range(len(steps)):
        folder = root / f"killed-{step:03d}"
        prepare(scenario, folder)
        assert killed_at(step, scenario, folder)
    chance = random.Random(0)
    for chain in range(OFTEN):
        folder = root / f"often-{chain:02d}"
        prepare(scenario, folder)
        while killed_at(chance.randrange(len(steps)), scenario, folder):
            pass
    sys.stdout.write(json.dumps(steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
