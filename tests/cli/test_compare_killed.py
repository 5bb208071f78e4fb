"""``mmadapters compare`` with real processes: killed in the middle, it goes on and gives the same table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from compare_run import write_comparison_run

METHODS: list[Any] = ["adapters", "majority", {"name": "logistic_regression", "options": {"cs": [1.0]}}]
TIMED = ("seconds", "peak_memory_bytes")

pytestmark = pytest.mark.slow


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mmadapters", "compare", "compare.yaml", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


def result(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    comparison = json.loads((folder / "comparison.json").read_text())
    contenders = [{k: v for k, v in each.items() if k not in TIMED} for each in comparison["contenders"]]
    return {**comparison, "contenders": contenders}, comparison["contenders"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_it_goes_on_and_gives_the_same_table(
    tmp_path: Path, tiny_backbone: Path, number: signal.Signals
) -> None:
    write_comparison_run(tmp_path, tiny_backbone, METHODS, [0])
    whole = command(tmp_path, "--set", "output_dir=whole")
    _, error = whole.communicate(timeout=300)
    assert whole.returncode == 0, error
    killed = command(tmp_path)
    wanted = tmp_path / "out" / "runs" / "majority" / "text" / "seed-0" / "job.json"
    deadline = time.monotonic() + 200
    while not wanted.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(killed.pid).children()
    killed.send_signal(number)
    killed.communicate(timeout=60)
    assert killed.returncode == (-9 if number == signal.SIGKILL else 143)
    assert children
    assert psutil.wait_procs(children, timeout=30)[1] == []
    first = tmp_path / "out" / "runs" / "adapters" / "votes+table" / "seed-0" / "result.json"
    before = first.stat().st_mtime_ns
    again = command(tmp_path)
    _, error = again.communicate(timeout=300)
    assert again.returncode == 0, error
    assert "1 of 3 runs are finished" in " ".join(error.split())
    assert first.stat().st_mtime_ns == before
    found, contenders = result(tmp_path / "out")
    assert found == result(tmp_path / "whole")[0]
    for contender in contenders:
        assert contender["peak_memory_bytes"]["mean"] > 100 * 2**20
