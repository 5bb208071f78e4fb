"""``mmadapters train --seeds``: a whole run for each seed, none trained twice, and mean and deviation over them."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import yaml
from test_train_resume import write_run

from mmadapters.cli import seeds as seeds_module
from mmadapters.cli.main import main
from mmadapters.cli.seeds import parse_seeds, summary
from mmadapters.errors import ConfigurationError
from mmadapters.training.interruption import InterruptibleTraining

SHORT = ["--set", "training.num_train_epochs=1", "--set", "training.per_device_train_batch_size=16"]


@pytest.fixture
def folder(tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_run(tmp_path, tiny_backbone)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that are trained, in their order."""
    done: list[int] = []
    before = seeds_module.train_on_rows

    def remembered(settings: Any, *args: Any) -> Any:
        done.append(settings.seed)
        return before(settings, *args)

    monkeypatch.setattr(seeds_module, "train_on_rows", remembered)
    return done


def call(*arguments: object, status: int = 0) -> None:
    with patch.object(sys, "argv", ["mmadapters", *map(str, arguments)]), pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0) == status


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def artefacts(folder: Path) -> dict[str, bytes]:
    return {path.parts[-3]: path.read_bytes() for path in folder.glob("*/artefact/adapter_model.safetensors")}


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", [0]), ("0,1,2", [0, 1, 2]), ("0-4", [0, 1, 2, 3, 4]), ("7, 3-4", [7, 3, 4]), ("5-5", [5])],
)
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1-", "-1", "4-1", "1.5", "0-1-2"])
def test_what_names_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read. Write whole numbers with commas"):
        parse_seeds(text)


def test_a_seed_is_named_once() -> None:
    with pytest.raises(ConfigurationError, match="names 2 twice"):
        parse_seeds("0-2,2")


def test_every_seed_is_a_whole_run_and_the_table_says_mean_and_deviation(
    folder: Path, trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    call("train", "run.yaml", "--seeds", "0-2", "--set", "data.split={validation: 0.25, test: 0.25}", *SHORT)
    assert trained == [0, 1, 2]
    metrics = [content(folder / "run" / f"seed-{seed}" / "metrics.json") for seed in range(3)]
    assert [found["seed"] for found in metrics] == [0, 1, 2]
    assert len(set(artefacts(folder / "run").values())) == 3
    # The rows of the splits are those of the run's seed, whatever the training's.
    assert metrics[0]["row_digests"] == metrics[1]["row_digests"] == metrics[2]["row_digests"]
    found = content(folder / "run" / "seeds.json")
    assert found["seeds"] == [0, 1, 2]
    for split in ("validation", "test"):
        values = [report["splits"][split]["metrics"]["macro_f1"] for report in metrics]
        over = found["splits"][split]["metrics"]["macro_f1"]
        assert over["values"] == values
        assert over["mean"] == pytest.approx(np.mean(values))
        assert over["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
        assert over["n"] == 3
    printed = capsys.readouterr().out
    over = found["splits"]["test"]["metrics"]["accuracy"]
    assert "test: 16 rows, seeds 0, 1, 2" in printed
    line = next(line for line in printed.split("test: 16 rows")[1].splitlines() if " accuracy " in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "accuracy",
        f"{over['mean']:.4f}",
        f"{over['standard_deviation']:.4f}",
        f"{min(over['values']):.4f}",
        f"{max(over['values']):.4f}",
        "3",
    ]


def test_the_resolved_config_of_a_seed_trains_the_same_model(folder: Path) -> None:
    call("train", "run.yaml", "--seeds", "3,4", *SHORT)
    resolved = folder / "run" / "seed-4" / "config.resolved.yaml"
    written = yaml.safe_load(resolved.read_text())
    assert (written["seed"], written["data"]["split_seed"]) == (4, 42)
    call("train", resolved, "--set", f"output_dir={folder / 'alone'}")
    again, first = content(folder / "alone" / "metrics.json"), content(folder / "run" / "seed-4" / "metrics.json")
    assert again["splits"] == first["splits"]
    weights = "artefact/adapter_model.safetensors"
    assert (folder / "alone" / weights).read_bytes() == (folder / "run" / "seed-4" / weights).read_bytes()


@pytest.mark.slow
def test_finished_seeds_are_not_trained_again_unless_settings_or_rows_change(
    folder: Path, trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    call("train", "run.yaml", "--seeds", "0", *SHORT)
    call("train", "run.yaml", "--seeds", "0,1", *SHORT)
    assert trained == [0, 1]
    assert "seed 0: was finished with these settings and rows" in " ".join(capsys.readouterr().err.split())
    assert content(folder / "run" / "seeds.json")["seeds"] == [0, 1]
    trained.clear()
    call("train", "run.yaml", "--seeds", "0,1", *SHORT, "--set", "adapter.dropout=0.1")
    assert trained == [0, 1]
    call("train", "run.yaml", "--seeds", "0,1", *SHORT, "--set", "adapter.dropout=0.1")
    assert trained == [0, 1]
    rows = pd.read_csv(folder / "rows.csv")
    rows.loc[0, "year"] += 1
    rows.to_csv(folder / "rows.csv", index=False)
    call("train", "run.yaml", "--seeds", "0,1", *SHORT, "--set", "adapter.dropout=0.1")
    assert trained == [0, 1, 0, 1]
    (folder / "run" / "seed-1" / "artefact" / "adapter_config.json").unlink()
    call("train", "run.yaml", "--seeds", "0,1", *SHORT, "--set", "adapter.dropout=0.1")
    assert trained == [0, 1, 0, 1, 1]


@pytest.mark.slow
def test_interrupted_in_a_seed_the_command_goes_on_with_resume(
    folder: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "run.yaml", "--seeds", "0,1", "--set", "training.num_train_epochs=2"]
    call(*line, "--set", "output_dir=whole")
    trained.clear()
    with monkeypatch.context() as patched:
        before = InterruptibleTraining.wanted

        def stop(self: Any, state: Any) -> bool:
            if trained == [0, 1] and state.global_step == 7:
                signal.raise_signal(signal.SIGTERM)
            return before(self, state)

        patched.setattr(InterruptibleTraining, "wanted", stop)
        call(*line, status=143)
    assert not (folder / "run" / "seeds.json").exists()
    call(*line, status=2)
    assert "has the checkpoints of a run that did not end" in capsys.readouterr().err
    call(*line, "--resume")
    assert trained == [0, 1, 1]
    assert "going on after step 7" in capsys.readouterr().err
    assert artefacts(folder / "run") == artefacts(folder / "whole")
    runs = [content(folder / output / "seeds.json")["splits"] for output in ("run", "whole")]
    assert runs[0] == runs[1]


def test_folders_that_the_training_names_are_cut_by_seed(folder: Path) -> None:
    own = ["--set", "training.output_dir=points", "--set", "training.logging_dir=logs"]
    call("train", "run.yaml", "--seeds", "0,1", *SHORT, *own, "--set", "training.report_to=tensorboard")
    for place in ("points", "logs"):
        assert sorted(path.name for path in (folder / place).iterdir()) == ["seed-0", "seed-1"]


def test_tensorboard_logs_go_to_the_run_s_folder(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    call("train", "run.yaml", *SHORT, "--set", "training.report_to=tensorboard")
    events = EventAccumulator(str(folder / "run" / "logs"))
    events.Reload()
    log = {entry["step"]: entry["eval_accuracy"] for entry in content(folder / "run" / "metrics.json")["log"]
           if "eval_accuracy" in entry}  # fmt: skip
    assert log
    assert {event.step: event.value for event in events.Scalars("eval/accuracy")} == pytest.approx(log)


def test_mistakes_are_told_before_the_rows_are_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.csv").unlink()
    call("train", "run.yaml", "--seeds", "0,1", "--set", "adapter.botleneck_size=4", status=2)
    assert "Did you mean 'bottleneck_size'?" in capsys.readouterr().err
    call("train", "run.yaml", "--seeds", "0;1", status=2)
    assert "--seeds '0;1' cannot be read" in " ".join(capsys.readouterr().err.split())
    call("train", "run.yaml", "--set", "data.split_seed=-1", status=2)
    assert "split_seed is -1" in capsys.readouterr().err


def test_a_metric_that_a_seed_lacks_is_left_out_of_its_mean() -> None:
    def report(seed: int, **metrics: float) -> dict:
        split = {"n_examples": 4, "metrics": metrics}
        return {"splits": {"test": split}, "seconds": 1.0 + seed, "trainable_parameters": 10}

    found = summary({0: report(0, f1=0.5, ap=0.25), 1: report(1, f1=0.75)})
    metrics = found["splits"]["test"]["metrics"]
    assert metrics["ap"] == {"mean": 0.25, "standard_deviation": None, "n": 1, "values": [0.25, None]}
    assert metrics["f1"]["mean"] == 0.625
    assert metrics["f1"]["standard_deviation"] == pytest.approx(0.125 * 2**0.5)
    assert found["seconds"]["mean"] == 1.5
