"""Processes that take turns, and what their times come to."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import turns
import worker
from names import FULL
from turns import Comparison, ContenderEnded, spread, summary

FAKE_WORKER = """
import json, os, sys
made = json.loads(sys.argv[1])
def say(value):
    print(json.dumps(value), flush=True)
if made["contender"] == "broken":
    sys.exit("ImportError: no module named abacus")
say("ready")
asked = 0
for line in sys.stdin:
    part, count = line.split()
    if part == "end":
        known = {"peak_megabytes": made["megabytes"], "precision": "float32", "pid": os.getpid()}
        say(known | {"step_gigaflops": made["work"]})
        break
    asked += 1
    if asked > made.get("dies_after", 100):
        sys.exit(3)
    say(made["seconds"] * int(count) + asked / 1000)
"""


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "worker.py"
    script.write_text(FAKE_WORKER)
    monkeypatch.setattr(turns, "WORKER", script)
    monkeypatch.setattr(turns, "product_rate", lambda dtype: 4e9)


def comparison(**contenders: dict[str, Any]) -> Comparison:
    specifications = {name: {"contender": name, **values} for name, values in contenders.items()}
    return Comparison(specifications, next(iter(specifications)), turns=3, steps_a_turn=2)


A = {"seconds": 1.0, "megabytes": 1000, "work": 2.0}
B = {"seconds": 0.5, "megabytes": 700, "work": 1.0}


def test_ratios_are_taken_turn_by_turn(fake_worker: None) -> None:
    result = comparison(a=A, b=B).run()
    assert result["product_gigaflops"] == {"float32": 4.0}
    assert result["left_out"] == {}
    # Step and inference are asked once before the turns, and then one after the other.
    steps_of_a, steps_of_b = ([base * 2 + asked / 1000 for asked in (3, 5, 7)] for base in (1.0, 0.5))
    b = result["contenders"]["b"]
    assert b["step_seconds"]["turns"] == pytest.approx(steps_of_b)
    assert b["step_seconds"]["median"] == pytest.approx(1.005)
    assert b["infer_seconds"]["turns"] == pytest.approx([1.004, 1.006, 1.008])
    ratios = [own / other for own, other in zip(steps_of_b, steps_of_a, strict=True)]
    assert b["step_ratio"]["median"] == pytest.approx(ratios[1], rel=1e-4)
    assert b["memory_ratio"] == 0.7
    assert b["step_limit_ratio"] == 0.5
    # One gigaflop at four a second takes a quarter of a second.
    assert b["step_to_limit"] == pytest.approx(1.005 / 0.25)
    assert "infer_to_limit" not in b
    assert result["contenders"]["a"]["pid"] != b["pid"]


def test_who_fails_at_the_start_is_left_out_with_the_reason(fake_worker: None) -> None:
    result = comparison(a=A, broken={}, b=B).run()
    assert list(result["contenders"]) == ["a", "b"]
    assert result["left_out"] == {"broken": "ImportError: no module named abacus"}


def test_without_the_reference_there_is_no_result(fake_worker: None) -> None:
    with pytest.raises(ContenderEnded, match="reference 'broken' cannot be measured: ImportError: no module"):
        comparison(broken={}, b=B).run()
    missing = comparison(a=A)
    missing.reference = "ours compiled"
    with pytest.raises(ContenderEnded, match="reference 'ours compiled' is not among"):
        missing.run()


def test_who_ends_between_its_turns_ends_the_measurement_and_no_process_is_left(fake_worker: None) -> None:
    with pytest.raises(ContenderEnded, match="status 3"):
        comparison(a=A, b={**B, "dies_after": 3}).run()
    assert [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE] == []


def test_rates_of_both_precisions_where_one_needs_them() -> None:
    known = {"peak_megabytes": 1, "step_gigaflops": 1.0}
    result = summary(
        {FULL: {"step": [1.0, 1.0]}, "ours bf16": {"step": [0.5, 0.5]}},
        {FULL: known | {"precision": "float32"}, "ours bf16": known | {"precision": "bfloat16"}},
        {"float32": [2e9, 2e9], "bfloat16": [8e9, 8e9]},
        FULL,
    )
    assert result["product_gigaflops"] == {"float32": 2.0, "bfloat16": 8.0}
    assert {name: value["step_to_limit"] for name, value in result["contenders"].items()} == {
        FULL: 2.0,
        "ours bf16": 4.0,
    }


def test_medians_and_quartiles() -> None:
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == {"median": 3.0, "quartile_1": 2.0, "quartile_3": 4.0}
    assert spread([0.123456789]) == {"median": 0.12346, "quartile_1": 0.12346, "quartile_3": 0.12346}


class Counting:
    """A contender that counts what it is asked for."""

    parts = ("step",)

    def __init__(self) -> None:
        self.steps = 0

    def step(self, eagerly: bool = False) -> None:
        self.steps += 1

    def known(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def saved_bytes(self) -> int:
        return 2_000_000


def test_a_worker_answers_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "make_contender", lambda specification: Counting())
    clock = iter([1.0, 4.0])
    monkeypatch.setattr("worker.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("worker.torch.set_num_threads", lambda threads: None)
    answers = io.StringIO()
    worker.serve({"contender": "counting", "threads": 1}, ["step 3\n", "end 0\n", "step 1\n"], answers)
    ready, seconds, end = (json.loads(line) for line in answers.getvalue().splitlines())
    assert (ready, seconds) == ("ready", 1.0)
    assert end.pop("peak_megabytes") * 2**20 >= psutil.Process().memory_info().rss * 0.99
    assert end == {"steps": 3, "step_gigaflops": 0.0, "file_megabytes": 2.0}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere only ru_maxrss tells")
def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it() -> None:
    child = f"import sys; sys.path.insert(0, {str(Path(worker.__file__).parent)!r}); import worker; "
    child += "import resource; print(worker.peak_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    parent = (
        f"import subprocess, sys; held = bytes([1]) * (900 * 2**20); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    output = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True, env={**os.environ}
    ).stdout
    peak, inherited = (int(value) for value in output.split())
    assert peak < 800 * 2**20 < inherited
