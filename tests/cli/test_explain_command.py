"""``mmadapters explain``: the report, the table of rows, and what cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from compare_run import write_comparison_run

from mmadapters.cli.explain import parse_rates
from mmadapters.cli.main import main
from mmadapters.errors import ConfigurationError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Path:
    """A folder with a trained model and its rows."""
    folder = tmp_path_factory.mktemp("explained")
    run = yaml.safe_load(write_comparison_run(folder, tiny_backbone, ["adapters"], [0]).read_text())
    run["training"] |= {"num_train_epochs": 25, "learning_rate": 1e-2, "per_device_train_batch_size": 8}
    run["training"] |= {"early_stopping_patience": None, "ema_decay": None}
    run["model"]["head_dropout"] = 0.1
    run["adapter"] |= {"dropout": 0.0, "feature_dropout": 0.0}
    (folder / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call(patch, "train", "run.yaml", "--no-progress")
    return folder


def call(patch: pytest.MonkeyPatch, *arguments: str, status: int = 0) -> None:
    patch.setattr("sys.argv", ["mmadapters", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == status


def explain(folder: Path, patch: pytest.MonkeyPatch, *arguments: str, status: int = 0) -> None:
    patch.chdir(folder)
    call(patch, "explain", "out/artefact", *arguments, "--no-progress", status=status)


def test_everything_is_told_of_rows_with_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(folder, monkeypatch, "rows.csv", "-o", "told", "--missing-rates", "0,0.5", "--subsets")
    content = json.loads((folder / "told" / "explanation.json").read_text())
    assert content["rows"] == 60
    assert content["names"] == ["text", "votes", "table"]
    by_name = {entry["modality"]: entry for entry in content["leave_one_out"]}
    assert by_name["votes"]["loss_rise"] > by_name["table"]["loss_rise"]
    assert [(v["lost"], v["rate"]) for v in content["variants"]] == [
        ([], 0.0),
        (["table"], 1.0),
        (["votes"], 1.0),
        (["votes", "table"], 1.0),
        (["votes"], 0.5),
        (["table"], 0.5),
        (["votes", "table"], 0.5),
    ]
    rows = pd.read_csv(folder / "told" / "rows.csv")
    assert rows["id"].tolist() == [f"m{i}" for i in range(60)]
    assert rows["loss_rise_without_votes"].mean() == pytest.approx(by_name["votes"]["loss_rise"])
    assert (rows[["share_text", "share_votes", "share_table"]].sum(axis=1) - 1.0).abs().max() < 1e-6
    page = (folder / "told" / "report.html").read_text()
    text = (folder / "told" / "explanation.md").read_text()
    printed = capsys.readouterr().out
    for heading in ("What changes without each modality", "Do shares tell what matters?", "Rows for which a modality"):
        assert heading in page
        assert heading in text
        assert heading in printed
    figures = {path.stem for path in (folder / "told" / "figures").iterdir()}
    assert figures == {"left-out", "shares", "label-shares", "missing"}
    assert page.count("<svg") == 4


def test_rows_without_labels_are_explained_as_far_as_it_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv(folder / "rows.csv").drop(columns="genres").to_csv(folder / "unlabelled.csv", index=False)
    explain(folder, monkeypatch, "unlabelled.csv", "-o", "less")
    content = json.loads((folder / "less" / "explanation.json").read_text())
    assert content["metrics"] is None
    assert content["variants"] == []
    assert "loss_rise_without_votes" not in pd.read_csv(folder / "less" / "rows.csv").columns
    assert "The rows have no labels" in (folder / "less" / "report.html").read_text()
    capsys.readouterr()
    explain(folder, monkeypatch, "unlabelled.csv", "-o", "no", "--subsets", status=2)
    assert "has no column genres. Give rows with labels" in capsys.readouterr().err
    assert not (folder / "no").exists()


def test_without_matplotlib_there_are_tables(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    explain(folder, monkeypatch, "rows.csv", "-o", "plain")
    assert "pip install 'mmadapters[report]'" in " ".join(capsys.readouterr().err.split())
    assert "<svg" not in (folder / "plain" / "report.html").read_text()


@pytest.mark.parametrize("text", ["0.1;0.3", "1", "-0.1", "half"])
def test_rates_that_cannot_be_used_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="Give numbers of at least 0 and below 1"):
        parse_rates(text)
    assert parse_rates("0.1, 0.5") == [0.1, 0.5]
    assert parse_rates(None) == []
