"""``data.streaming: true``: training from shards by the command line, and what is said of settings that do not fit."""

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

from mmadapters.artefact import load_artefact
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.cli.train import run
from mmadapters.data.files import read_rows
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.evaluator import predict

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
VECTOR = ["x", "y", "z"]
N = 91


def make_rows(n: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    words, lengths = random.integers(0, len(WORDS), n), random.integers(1, 12, n)
    plots = [" ".join([WORDS[word]] * int(length)) for word, length in zip(words, lengths, strict=True)]
    vectors = random.normal(size=(n, 3))
    told = [{"war": word < 3, "dark": vector[0] > 0} for word, vector in zip(words, vectors, strict=True)]
    labels = ["|".join(name for name, true in row.items() if true) or "[]" for row in told]
    return pd.DataFrame({"plot": plots, "labels": labels, **dict(zip(VECTOR, vectors.T, strict=True))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = make_rows(N, seed=0)
    shards = tmp_path / "shards"
    shards.mkdir()
    for place, (start, stop) in enumerate([(0, 30), (30, 64), (64, N)]):
        frame[start:stop].to_parquet(shards / f"train-{place}.parquet", index=False)
    make_rows(21, seed=1).to_csv(tmp_path / "validation.csv", index=False)
    return tmp_path


def settings(folder: Path, backbone: Path, output: str, *overrides: str, **training: Any) -> RunConfig:
    content = {
        "data": {
            "train": "shards",
            "validation": "validation.csv",
            "text": "plot",
            "label": "labels",
            "label_separator": "|",
            "streaming": True,
            "shuffle_buffer": 32,
        },
        "modalities": {"poster": {"columns": VECTOR}},
        "model": {"backbone": str(backbone), "head_dropout": 0.0},
        "adapter": {"bottleneck_size": 8, "dropout": 0.0, "feature_dropout": 0.0},
        "training": {"num_train_epochs": 1, "class_weights": True, "learning_rate": 1e-2, "use_cpu": True, **training},
        "output_dir": str(folder / output),
        "seed": 7,
    }
    file = folder / f"{output}.yaml"
    file.write_text(yaml.safe_dump(content))
    return load_settings(RunConfig, file, overrides)


def test_a_run_streams_its_shards(folder: Path, tiny_backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = settings(folder, tiny_backbone, "out", 'data.train="shards/train-*.parquet"')
    artefact = load_artefact(run(given, rows_folder=folder, progress=False))
    assert "train: 91 rows, validation: 21 rows" in " ".join(capsys.readouterr().err.split())
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert metrics["rows"] == {"train": N, "validation": 21}
    assert max(entry["step"] for entry in metrics["log"]) == 3
    assert yaml.safe_load((folder / "out" / "config.resolved.yaml").read_text())["data"]["shuffle_buffer"] == 32
    rows = artefact.preprocessor.transform(read_rows(folder / "validation.csv"))
    scores = predict(artefact.model, rows, artefact.collator, artefact.problem_type).scores
    assert scores.shape == (21, 2)
    assert metrics["splits"]["validation"]["metrics"]["micro_average_precision"] > 0


def test_a_run_repeats_itself_and_is_not_that_of_another_seed(folder: Path, tiny_backbone: Path) -> None:
    files = [
        run(settings(folder, tiny_backbone, name, f"seed={seed}"), rows_folder=folder, progress=False)
        / "adapter_model.safetensors"
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["data.split={test: 0.1}"],
            "split names 'test', and shares cannot be cut from rows that are streamed.*Name files for them",
        ),
        (["data.streaming=false"], "shuffle_buffer is for streamed rows; set streaming: true, or leave it out"),
        (["data.shuffle_buffer=0"], "shuffle_buffer is 0; give a number of rows of at least 1"),
        (["prefix_cache.enabled=true"], "data.streaming and prefix_cache.enabled are both true. The cache keeps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    folder: Path, tiny_backbone: Path, changes: list[str], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings(folder, tiny_backbone, "out", *changes)


def test_several_files_need_streaming(folder: Path, tiny_backbone: Path) -> None:
    off = ["data.streaming=false", "data.shuffle_buffer=null"]
    for train in ("shards", "shards/*.parquet"):
        given = settings(folder, tiny_backbone, "out", *off, f'data.train="{train}"')
        with pytest.raises(
            DataError, match=r"is no file but may name several. Name one file. Or set data.streaming: t"
        ):
            run(given, rows_folder=folder, progress=False)
    with pytest.raises(DataError, match=r"data.validation is '.*shards', which is no file but may name several. Name"):
        run(settings(folder, tiny_backbone, "out", "data.validation=shards"), rows_folder=folder, progress=False)
    with pytest.raises(DataError, match=r"none-\*.parquet' leads to no file with rows"):
        run(settings(folder, tiny_backbone, "out", "data.train=none-*.parquet"), rows_folder=folder, progress=False)


def test_a_sampling_strategy_is_refused_before_the_rows_are_read(folder: Path, tiny_backbone: Path) -> None:
    given = settings(folder, tiny_backbone, "out", "data.train=absent", train_sampling_strategy="sequential")
    with pytest.raises(ConfigurationError, match="train_sampling_strategy='sequential' cannot be used with streamed"):
        run(given, rows_folder=folder, progress=False)


def command(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.parametrize("budget", [None, 48])
def test_two_processes_train_what_one_does(tiny_backbone: Path, folder: Path, budget: int | None) -> None:
    options = {"optim": "sgd", "logging_strategy": "steps", "logging_steps": 1, "max_tokens_per_batch": budget}
    settings(folder, tiny_backbone, "two", per_device_train_batch_size=4, **options)
    settings(folder, tiny_backbone, "one", per_device_train_batch_size=8, **options)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    told = command(folder, *launch, "mmadapters", "train", "two.yaml")
    assert len(re.findall("train: 91 rows", told)) == 1
    artefact = load_file(folder / "two" / "artefact" / "adapter_model.safetensors")
    assert all(torch.isfinite(value).all() for value in artefact.values())
    log = json.loads((folder / "two" / "metrics.json").read_text())["log"]
    if budget:
        return
    command(folder, "-m", "mmadapters", "train", "one.yaml")
    expected = load_file(folder / "one" / "artefact" / "adapter_model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(artefact[name], value, rtol=0, atol=1e-6, msg=name)
    alone = json.loads((folder / "one" / "metrics.json").read_text())["log"]
    assert [entry["step"] for entry in log] == [entry["step"] for entry in alone]
    assert max(entry["step"] for entry in alone) == 12
