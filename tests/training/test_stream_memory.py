"""The memory of a training on streamed rows does not grow with the rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("resource", reason="peak memory is asked for as Unix has it")

from stream_memory import write_rows

SCRIPT = Path(__file__).with_name("stream_memory.py")
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""What is freed goes back to the system at once, so that peaks are of what lives and not of what allocators keep."""


def measured(backbone: Path, *cases: str) -> list[dict[str, Any]]:
    """What trainings on ``<how>:<folder>`` took, each in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(backbone), *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, env=os.environ | RETURNED)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_four_times_the_rows_take_no_more_memory(tiny_backbone: Path, tmp_path: Path) -> None:
    small, large = write_rows(tmp_path / "small", 4000, width=512), write_rows(tmp_path / "large", 16_000, width=512)
    few, many, in_memory = measured(tiny_backbone, f"streamed:{small}", f"streamed:{large}", f"in-memory:{large}")
    assert (few["rows"], few["steps"]) == (4000, 8)
    assert (many["rows"], many["steps"]) == (in_memory["rows"], in_memory["steps"]) == (16_000, 32)
    # The vectors of the further rows alone are 25 MB.
    assert many["peak_mb"] - few["peak_mb"] < 8
    assert in_memory["peak_mb"] - few["peak_mb"] > 60


@pytest.mark.slow
@pytest.mark.timeout(1700)
def test_an_epoch_of_a_million_rows_takes_no_more_memory_than_one_of_a_tenth(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    tenth = write_rows(tmp_path / "tenth", 100_000, width=8, files=4)
    million = write_rows(tmp_path / "million", 1_000_000, width=8, files=20)
    few, many = measured(tiny_backbone, f"streamed:{tenth}", f"streamed:{million}")
    assert (few["rows"], few["steps"]) == (100_000, 200)
    assert (many["rows"], many["steps"]) == (1_000_000, 2000)
    # The bytes of the further rows in their files are 60 MB, and some hundred once they are read.
    assert many["peak_mb"] - few["peak_mb"] < 16
