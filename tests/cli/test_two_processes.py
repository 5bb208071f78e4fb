"""``torchrun -m mmadapters train``: two processes, one of which never sees a modality, train what one process does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from mmadapters.backbones import load_tokenizer
from mmadapters.data.batching import TrainingBatches

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
VECTOR = ["x", "y", "z"]
SEED, BATCH = 7, 4
# Not a multiple of the global batch: the last step has three rows.
ROWS = 91


def make_rows(n: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    plots = [
        " ".join([WORDS[word]] * int(length)) for word, length in zip(words, random.integers(1, 12, n), strict=True)
    ]
    vectors = random.normal(size=(n, 3))
    labels = ["|".join(name for name, true in (("war", word < 3), ("dark", vector[0] > 0)) if true) or "[]"
              for word, vector in zip(words, vectors, strict=True)]  # fmt: skip
    return pd.DataFrame({"plot": plots, "labels": labels, **dict(zip(VECTOR, vectors.T, strict=True))})


def run_file(folder: Path, backbone: Path, output: str, **training: Any) -> Path:
    run = {
        "data": {
            "train": "train.csv",
            "validation": "validation.csv",
            "text": "plot",
            "label": "labels",
            "label_separator": "|",
        },
        "modalities": {"poster": {"columns": VECTOR}},
        "model": {"backbone": str(backbone), "head_dropout": 0.0},
        "adapter": {"bottleneck_size": 8, "dropout": 0.0, "feature_dropout": 0.0},
        "training": {"num_train_epochs": 1, "class_weights": True, "learning_rate": 1e-2, "use_cpu": True, **training},
        "output_dir": output,
        "seed": SEED,
    }
    file = folder / f"{output}.yaml"
    file.write_text(yaml.safe_dump(run))
    return file


def command(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def log_of(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "metrics.json").read_text())["log"]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.parametrize("batches", [{}, {"max_tokens_per_batch": 48}])
def test_two_processes_train_what_one_does(tiny_backbone: Path, tmp_path: Path, batches: dict[str, int]) -> None:
    frame = make_rows(ROWS, seed=0)
    tokenizer = load_tokenizer(str(tiny_backbone))
    lengths = np.array([len(ids) for ids in tokenizer(frame["plot"].tolist())["input_ids"]])
    of_second = TrainingBatches(
        lengths, BATCH, SEED, max_tokens=batches.get("max_tokens_per_batch"), processes=2, process=1
    )
    blind = sorted(sum(of_second, []))
    assert abs(len(blind) - ROWS / 2) < 6
    frame.loc[blind, VECTOR] = None
    frame.to_csv(tmp_path / "train.csv", index=False)
    make_rows(21, seed=1).to_csv(tmp_path / "validation.csv", index=False)
    options = {"optim": "sgd", "per_device_train_batch_size": BATCH, "logging_strategy": "steps", "logging_steps": 1}
    two = run_file(tmp_path, tiny_backbone, "two", **options, **batches)
    # One process takes in turns what two take at once.
    one = run_file(tmp_path, tiny_backbone, "one", **{**options, "per_device_train_batch_size": 2 * BATCH})
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    told = command(tmp_path, *launch, "mmadapters", "train", two.name)
    assert len(re.findall("train: 91 rows", told)) == 1
    assert len(re.findall("saved to", told)) == 1
    artefact = load_file(tmp_path / "two" / "artefact" / "adapter_model.safetensors")
    assert all(torch.isfinite(value).all() for value in artefact.values())
    if batches:
        return
    command(tmp_path, "-m", "mmadapters", "train", one.name)
    expected = load_file(tmp_path / "one" / "artefact" / "adapter_model.safetensors")
    assert artefact.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(artefact[name], value, rtol=0, atol=1e-6, msg=name)
    together, alone = log_of(tmp_path / "two"), log_of(tmp_path / "one")
    assert [entry["step"] for entry in together] == [entry["step"] for entry in alone]
    assert max(entry["step"] for entry in alone) == 12
    for first, second in zip(together, alone, strict=True):
        for name in ("loss", "grad_norm", "eval_loss", "eval_micro_average_precision"):
            assert first.get(name) == pytest.approx(second.get(name), abs=1e-5), (name, first["step"])
    assert sorted(path.name for path in (tmp_path / "two" / "checkpoints").iterdir()) == ["checkpoint-12"]
