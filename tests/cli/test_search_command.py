"""``mmadapters search``: from a run's YAML to one that is better on the validation rows, without the test rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
import yaml
from test_train_resume import write_run

from mmadapters.cli.main import main
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.files import write_text_atomically

SPACE = {
    "adapter": {"bottleneck_size": {"low": 4, "high": 16, "step": 4}, "fusion": {"choices": ["gmu", "complementary"]}},
    "training": {"learning_rate": {"low": "1e-3", "high": "1e-1", "log": True}},
}


@pytest.fixture
def folder(tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run file with a short training, a search of its own space and a test file that is not there."""
    run = yaml.safe_load(write_run(tmp_path, tiny_backbone).read_text())
    run["training"] |= {"num_train_epochs": 2, "per_device_train_batch_size": 16}
    run["data"]["test"] = "nobody-reads-this.csv"
    run["search"] = {"space": SPACE, "default_space": False, "trials": 3}
    write(tmp_path, run)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, run: dict[str, Any]) -> None:
    (folder / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=False))


def read(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "run.yaml").read_text())


def call(*arguments: object, status: int = 0) -> None:
    with patch.object(sys, "argv", ["mmadapters", *map(str, arguments)]), pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0) == status


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_search_and_what_comes_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted: list[int] = []
    before = Preprocessor.fit
    monkeypatch.setattr(
        Preprocessor, "fit", lambda frame, *args, **kwargs: fitted.append(len(frame)) or before(frame, *args, **kwargs)
    )
    call("search", "run.yaml")
    assert fitted == [48]
    printed = capsys.readouterr().out
    assert "macro_f1 on the validation rows: the best of 3 trials (3 complete, 0 pruned, 0 failed)" in printed
    found = json.loads((folder / "run" / "search" / "search.json").read_text())
    table = pd.read_csv(folder / "run" / "search" / "trials.csv")
    assert table["validation_macro_f1"].max() == found["best"]["value"] >= found["own_settings"]["value"]
    assert table["adapter.bottleneck_size"].isin([4, 8, 12, 16]).all()
    assert table["training.learning_rate"].between(1e-3, 1e-1).all()
    assert f"{found['best']['value']:.4f}" in printed

    best = yaml.safe_load((folder / "run" / "search" / "best.yaml").read_text())
    assert {f"adapter.{name}" for name in best["adapter"]} == {"adapter.bottleneck_size", "adapter.fusion"}
    for name, value in found["best"]["options"].items():
        section, _, option = name.partition(".")
        assert best[section][option] == value
    assert best["search"] is None
    first, *_ = (folder / "run" / "search" / "best.yaml").read_text().splitlines()
    assert first == (
        f"# Trial {found['best']['number']}, the best of 3 in the study 'search': macro_f1 "
        f"{found['best']['value']:.4f} on the validation rows."
    )
    assert best["data"]["test"] == "nobody-reads-this.csv"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    call("train", "run/search/best.yaml", "--set", "data.test=null")
    metrics = json.loads((folder / "run" / "search" / "best" / "metrics.json").read_text())
    assert metrics["splits"]["validation"]["metrics"]["macro_f1"] == found["best"]["value"]

    call("train", "run.yaml", "--set", "data.test=null")
    own = json.loads((folder / "run" / "metrics.json").read_text())["splits"]["validation"]["metrics"]
    assert {name: found["own_settings"]["metrics"][name] for name in own} == own


@pytest.mark.slow
def test_the_best_settings_are_there_after_every_improvement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[float, float]] = []

    def remembered(path: Path, text: str) -> None:
        write_text_atomically(path, text)
        if path.name == "best.yaml":
            value = json.loads((folder / "run" / "search" / "search.json").read_text())["best"]["value"]
            written.append((value, load_settings(RunConfig, path).training["learning_rate"]))

    monkeypatch.setattr("mmadapters.files.write_text_atomically", remembered)
    call("search", "run.yaml")
    table = pd.read_csv(folder / "run" / "search" / "trials.csv")
    best = table["validation_macro_f1"].cummax()
    rates = [table["training.learning_rate"][table["validation_macro_f1"].head(n).idxmax()] for n in (1, 2, 3)]
    assert written == list(zip(best, rates, strict=True))


def test_the_same_command_goes_on_and_options_of_the_command_win(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["search", "run.yaml", "--study", "mine", "--storage", "studies/all.db", "--pruner", "none"]
    call(*line, "--trials", "1")
    assert (folder / "studies" / "all.db").is_file()
    capsys.readouterr()
    call(*line, "--trials", "2", "--timeout", "600")
    assert "going on with the study 'mine', finished trials: 1" in said(capsys)
    assert len(pd.read_csv(folder / "run" / "mine" / "trials.csv")) == 2
    call(*line, "--trials", "2")
    assert "trial 0" not in said(capsys)
    call("search", "run.yaml", "--study", "mine", "--storage", "studies/all.db", "--set", "seed=1", status=2)
    assert "training.seed was 42 and is 1" in said(capsys)


def test_what_the_file_gives_a_value_stays_and_the_default_space_is_searched_beside(folder: Path) -> None:
    run = read(folder)
    run["search"] = {"space": {"adapter": {"bottleneck_size": {"choices": [4, 8]}}}, "trials": 2}
    run["training"]["learning_rate"] = "3e-2"
    run["adapter"]["dropout"] = 0.1
    write(folder, run)
    call("search", "run.yaml")
    table = pd.read_csv(folder / "run" / "search" / "trials.csv")
    assert [name for name in table if name.startswith(("adapter.", "training."))] == [
        "adapter.fusion",
        "adapter.modality_dropout",
        "adapter.layers_to_transform",
        "training.head_learning_rate_multiplier",
        "adapter.bottleneck_size",
    ]
    best = yaml.safe_load((folder / "run" / "search" / "best.yaml").read_text())
    assert (best["training"]["learning_rate"], best["adapter"]["dropout"]) == ("3e-2", 0.1)


def test_a_share_for_the_test_is_kept_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = read(folder)
    run["data"] |= {"test": None, "split": {"validation": 0.25, "test": 0.25}}
    write(folder, run)
    call("search", "run.yaml", "--trials", 1)
    assert "train: 32 rows, validation: 16 rows" in said(capsys)
    found = json.loads((folder / "run" / "search" / "search.json").read_text())
    call("train", "run.yaml")
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["rows"] == {"train": 32, "validation": 16, "test": 16}
    assert metrics["splits"]["validation"]["metrics"]["macro_f1"] == found["own_settings"]["value"]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            {"space": {"adapter": {"botleneck_size": {"choices": [4, 8]}, "dropout": {"choices": [0.1, "much"]}}}},
            [
                "search.space.adapter.botleneck_size: The section 'adapter' cannot be used",
                "Did you mean 'bottleneck_size'?",
                "adapter.dropout is 'much'; expected is a number.",
            ],
        ),
        ({"space": {"adaptor": {}}}, ["search.space.adaptor is unknown. Did you mean 'adapter'?"]),
        ({"spaces": {}}, ["search.spaces is unknown. Did you mean 'space'?"]),
        ({"space": {"adapter": {"dropout": {"low": 0.1}}}}, ["an option is searched between two numbers"]),
        (
            {"space": {"adapter": {"dropout": {"low": 0.1, "high": 0.2, "choices": [0, 1]}}}},
            ["give one of the two"],
        ),
        ({"space": {"adapter": {"dropout": {"low": 0.1, "hihg": 0.2}}}}, ["Did you mean 'high'?"]),
        ({"space": {"adapter": {"dropout": {"low": 0.2, "high": 0.1}}}}, ["low=0.2 must be below high=0.1"]),
        ({"space": {"model": {"head": {"choices": ["linear", "big"]}}}}, ["model.head is 'big'; accepted are"]),
        ({"pruner": "medain"}, ["search.pruner is 'medain'; accepted are", "Did you mean 'median'?"]),
        ({"study": "../x"}, ["The study's name '../x' cannot be used"]),
    ],
)
def test_mistakes_in_the_section_are_told_before_the_rows_are_read(
    change: dict, messages: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "rows.csv").unlink()
    run = read(folder)
    write(folder, {**run, "search": change})
    call("search", "run.yaml", status=2)
    told = said(capsys)
    assert [message for message in messages if message not in told] == []
    assert not (folder / "run").exists()


def test_without_validation_rows_there_is_nothing_to_compare(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.csv").unlink()
    call("search", "run.yaml", "--set", "data.split={}", status=2)
    assert "A search compares trials on validation rows, and the run has none. Name a file" in said(capsys)


def test_the_space_can_be_overridden_by_set(folder: Path) -> None:
    call("search", "run.yaml", "--trials", 1, "--set", "search.space.training.learning_rate={low: 1e-5, high: 1e-4}")
    found = json.loads((folder / "run" / "search" / "search.json").read_text())
    assert found["space"]["training.learning_rate"] == {"low": 1e-5, "high": 1e-4, "step": None, "log": False}
    assert found["own_settings"]["options"]["training.learning_rate"] == 3e-3
