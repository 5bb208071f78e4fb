"""``mmadapters train`` ended by SIGTERM goes on with ``--resume``, and the artefact is the same, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
TIMED = ("runtime", "per_second", "preparation_time")


def write_run(folder: Path, backbone: Path) -> Path:
    random = np.random.default_rng(0)
    words = random.integers(0, len(WORDS), 64)
    rows = {"plot": [WORDS[word] for word in words], "genre": ["war" if word < 3 else "peace" for word in words]}
    pd.DataFrame({**rows, "year": random.integers(1950, 2020, 64)}).to_csv(folder / "rows.csv", index=False)
    run = {
        "data": {"train": "rows.csv", "split": {"validation": 0.25}, "text": "plot", "label": "genre"},
        "modalities": {"table": {"numeric": ["year"]}},
        "model": {"backbone": str(backbone)},
        "adapter": {"bottleneck_size": 8},
        "training": {
            "num_train_epochs": 40,
            "per_device_train_batch_size": 4,
            "checkpoint_steps": 5,
            "early_stopping_patience": None,
            "use_cpu": True,
        },
        "output_dir": "run",
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(run))
    return file


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mmadapters", "train", "run.yaml", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


def result_of(output: Path) -> tuple[bytes, list[dict], dict]:
    metrics = json.loads((output / "metrics.json").read_text())
    log = [{name: value for name, value in entry.items() if not name.endswith(TIMED)} for entry in metrics["log"]]
    return (output / "artefact" / "adapter_model.safetensors").read_bytes(), log, metrics["splits"]


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on(tiny_backbone: Path, tmp_path: Path) -> None:
    write_run(tmp_path, tiny_backbone)
    process = command(tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    deadline = time.monotonic() + 120
    while not (checkpoints / "checkpoint-20").is_dir() and not list(checkpoints.glob("checkpoint-[3-9]?")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "stopped by SIGTERM after step" in told
    assert "mmadapters train --resume" in told
    assert not (tmp_path / "run" / "artefact").exists()
    again = command(tmp_path)
    _, told = again.communicate(timeout=120)
    assert again.returncode == 2
    assert "has the checkpoints of a run that did not end" in told
    resumed = command(tmp_path, "--resume")
    _, told = resumed.communicate(timeout=240)
    assert resumed.returncode == 0
    assert "going on after step" in told
    whole = command(tmp_path, "--set", "output_dir=whole")
    whole.communicate(timeout=240)
    assert whole.returncode == 0
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")
