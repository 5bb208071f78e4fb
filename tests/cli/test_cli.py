"""The verbs end to end on a tiny encoder: what they write, that their numbers agree, what they say of mistakes."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, f1_score
from transformers import BertModel
from transformers.utils import logging as transformers_logging

from mmadapters.cli.console import print_table, step
from mmadapters.cli.main import main
from mmadapters.data.files import read_rows
from mmadapters.training.interruption import InterruptibleTraining

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
LABELS = ["big", "dark", "war"]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other cost a tiny model far more than they give, above all on a shared machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _libraries_as_before() -> Iterator[None]:
    """The verbs quieten libraries for the life of their process; here they share one with other tests."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    handlers = list(logging.getLogger().handlers)
    with warnings.catch_warnings():
        yield
    transformers_logging.set_verbosity(verbosity)
    (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()
    logging.getLogger().handlers[:] = handlers


def call(arguments: Sequence[object]) -> int:
    """Run the command as the console script does, and return its exit status."""
    before = sys.argv
    sys.argv = ["mmadapters", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = call(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def rows(n: int, seed: int) -> pd.DataFrame:
    """Labels told by the text, by a vector, and by table columns; vector, budget and country are missing at times."""
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    vectors = random.normal(size=(n, 4)).astype(np.float32)
    budget = random.normal(100, 30, n)
    labels = [
        [name for name, true in zip(LABELS, (money > 100, vector[0] > 0, word < 3), strict=True) if true]
        for word, vector, money in zip(words, vectors, budget, strict=True)
    ]
    return pd.DataFrame(
        {
            "movie": [f"m{seed}-{row}" for row in range(n)],
            "plot": [WORDS[word] for word in words],
            "labels": labels,
            "vector": [None if row % 7 == 3 else vector.tolist() for row, vector in enumerate(vectors)],
            "budget": [None if row % 5 == 2 else float(money) for row, money in enumerate(budget)],
            "country": [None if row % 6 == 1 else ["fr", "us", "de"][word % 3] for row, word in enumerate(words)],
            "word": [WORDS[word] for word in words],
            "score": words + 0.25,
        }
    )


def write_csv(frame: pd.DataFrame, file: Path) -> None:
    """Vectors go to .npy files beside the table, named relative to it; labels are joined by a bar."""
    folder = file.parent / f"{file.stem}-vectors"
    folder.mkdir()
    paths = []
    for movie, vector in zip(frame["movie"], frame["vector"], strict=True):
        if vector is not None:
            np.save(folder / f"{movie}.npy", np.array(vector, dtype=np.float32))
        paths.append(None if vector is None else f"{folder.name}/{movie}.npy")
    joined = ["|".join(labels) or "[]" for labels in frame["labels"]]
    frame.assign(vector=paths, labels=joined).to_csv(file, index=False)


def write_jsonl(frame: pd.DataFrame, file: Path) -> None:
    frame.to_json(file, orient="records", lines=True, double_precision=15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row files: training rows as CSV with .npy paths, test rows as JSON lines with lists."""
    place = tmp_path_factory.mktemp("cli")
    write_csv(rows(60, seed=0), place / "train.csv")
    write_jsonl(rows(24, seed=1), place / "test.jsonl")
    return place


def settings(folder: Path, backbone: Path, output: Path, **data: Any) -> dict[str, Any]:
    return {
        "data": {
            "train": str(folder / "train.csv"),
            "test": str(folder / "test.jsonl"),
            "split": {"validation": 0.2},
            "text": "plot",
            "label": "labels",
            "label_separator": "|",
            "id": "movie",
            **data,
        },
        "modalities": {
            "poster": {"column": "vector"},
            "table": {"numeric": ["budget"], "categorical": ["country"]},
        },
        "model": {"backbone": str(backbone), "head_dropout": 0.0},
        "adapter": {"bottleneck_size": 8, "dropout": 0, "feature_dropout": 0},
        "training": {
            "learning_rate": "1e-2",
            "num_train_epochs": 6,
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 10,
            "use_cpu": True,
        },
        "output_dir": str(output),
        "seed": 7,
    }


def write_yaml(content: Any, file: Path) -> Path:
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(folder: Path, tiny_backbone: Path) -> Path:
    """The output folder of a finished ``mmadapters train``."""
    config = write_yaml(settings(folder, tiny_backbone, folder / "run"), folder / "run.yaml")
    assert call(["train", config]) == 0
    return folder / "run"


def metrics_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


def test_train_writes_artefact_metrics_and_the_resolved_config(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        "artefact",
        "checkpoints",
        "config.resolved.yaml",
        "metrics.json",
    ]
    metrics = metrics_of(run)
    assert metrics["rows"] == {"train": 48, "validation": 12, "test": 24}
    assert list(metrics["splits"]) == ["validation", "test"]
    assert metrics["splits"]["test"]["n_examples"] == 24
    assert [row["label"] for row in metrics["splits"]["test"]["per_label"]] == LABELS
    truth = rows(24, seed=1)["labels"]
    assert [row["support"] for row in metrics["splits"]["test"]["per_label"]] == [
        sum(label in labels for labels in truth) for label in LABELS
    ]
    weights = load_file(run / "artefact" / "adapter_model.safetensors")
    assert metrics["trainable_parameters"] == sum(weight.numel() for weight in weights.values())
    assert metrics["file_bytes"] == sum(path.stat().st_size for path in (run / "artefact").iterdir())
    assert metrics["seed"] == 7
    assert metrics["seconds"] > 0
    assert {entry["epoch"] for entry in metrics["log"]} == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}
    resolved = yaml.safe_load((run / "config.resolved.yaml").read_text())
    assert resolved["seed"] == 7
    assert resolved["model"]["pooling"] == "mean"
    assert resolved["modalities"]["table"]["max_categories"] == 50


def test_the_resolved_config_trains_to_the_same_numbers(run: Path, command: Command, tmp_path: Path) -> None:
    status, out, err = command("train", run / "config.resolved.yaml", "--set", f"output_dir={tmp_path / 'again'}")
    assert status == 0, err
    first, second = metrics_of(run), metrics_of(tmp_path / "again")
    assert second["splits"] == first["splits"]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "again" / "artefact" / name).read_bytes() == (run / "artefact" / name).read_bytes()
    assert f"{first['splits']['test']['metrics']['micro_average_precision']:.4f}" in out
    assert "test: 24 rows" in out
    assert "train: 48 rows, test: 24 rows, validation: 12 rows" in " ".join(err.split())
    assert "epoch 6 of 6: training loss" in err


def test_the_seed_decides_the_split_and_the_training(run: Path, command: Command, tmp_path: Path) -> None:
    short = ["--set", "training.num_train_epochs=1"]
    metrics, weights = {}, {}
    for seed, split in ((8, "{validation: 0.2}"), (7, "{}"), (8, "{}")):
        output = tmp_path / f"{seed}-{len(split)}"
        changes = [f"output_dir={output}", f"seed={seed}", f"data.split={split}"]
        overrides = [part for change in changes for part in ("--set", change)]
        status, _, err = command("train", run / "config.resolved.yaml", *overrides, *short)
        assert status == 0, err
        metrics[seed, split] = metrics_of(output)
        weights[seed, split] = load_file(output / "artefact" / "adapter_model.safetensors")
        assert metrics[seed, split]["seed"] == seed
        assert metrics[seed, split]["log"][-1]["epoch"] == 1.0
        assert yaml.safe_load((output / "config.resolved.yaml").read_text())["training"]["num_train_epochs"] == 1
    with_other_split = metrics[8, "{validation: 0.2}"]["splits"]["validation"]["per_label"]
    supports = [row["support"] for row in metrics_of(run)["splits"]["validation"]["per_label"]]
    assert [row["support"] for row in with_other_split] != supports
    head = next(name for name in weights[7, "{}"] if ".classifier." in name and name.endswith("weight"))
    assert not torch.equal(weights[7, "{}"][head], weights[8, "{}"][head])
    assert metrics[7, "{}"]["splits"]["test"]["metrics"] != metrics[8, "{}"]["splits"]["test"]["metrics"]


def test_evaluate_gives_the_numbers_of_the_training_run(
    run: Path, folder: Path, command: Command, tmp_path: Path
) -> None:
    expected = metrics_of(run)["splits"]["test"]
    file = tmp_path / "deep" / "report.json"
    status, out, err = command("evaluate", run / "artefact", folder / "test.jsonl", "--json", "-o", file)
    assert status == 0, err
    assert json.loads(out) == expected
    assert json.loads(file.read_text()) == expected
    status, out, _ = command("evaluate", run / "artefact", folder / "test.jsonl")
    assert status == 0
    assert "test.jsonl: 24 rows" in out
    assert f"{expected['metrics']['micro_f1']:.4f}" in out
    dark = next(row for row in expected["per_label"] if row["label"] == "dark")
    assert any(
        line.split()[1:6:2] == ["dark", str(dark["support"]), f"{dark['average_precision']:.4f}"]
        for line in out.splitlines()
        if "dark" in line
    )


def test_thresholds_are_tuned_on_the_validation_rows_and_no_figure_is_of_both(
    run: Path, folder: Path, command: Command
) -> None:
    splits = metrics_of(run)["splits"]
    assert not [name for name in splits["validation"]["metrics"] if name.startswith("tuned_")]
    assert "threshold" not in splits["validation"]["per_label"][0]
    thresholds = json.loads((run / "artefact" / "pipeline.json").read_text())["thresholds"]
    assert [row["threshold"] for row in splits["test"]["per_label"]] == thresholds
    _, out, _ = command("evaluate", run / "artefact", folder / "test.jsonl")
    assert "tuned_micro_f1" in out
    assert "without it: at 0.5" in " ".join(out.split())
    _, out, _ = command("info", run / "artefact")
    assert f"big {thresholds[0]:.3f}" in out


def test_thresholds_may_stay_at_a_half(folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run")
    content["training"] |= {"num_train_epochs": 1, "tune_thresholds": False}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    status, _, err = command("train", tmp_path / "run.yaml")
    assert status == 0, err
    assert json.loads((tmp_path / "run" / "artefact" / "pipeline.json").read_text())["thresholds"] is None
    assert not [name for name in metrics_of(tmp_path / "run")["splits"]["test"]["metrics"] if "tuned" in name]
    _, out, _ = command("info", tmp_path / "run" / "artefact")
    assert "a probability of 0.5" in out


def test_evaluate_counts_labels_that_training_did_not_know(run: Path, command: Command, tmp_path: Path) -> None:
    frame = rows(24, seed=1)
    frame.at[0, "labels"] = [*frame.at[0, "labels"], "silent"]
    write_jsonl(frame, tmp_path / "rows.jsonl")
    status, out, err = command("evaluate", run / "artefact", tmp_path / "rows.jsonl", "--json")
    assert status == 0, err
    report = json.loads(out)
    assert report["unseen_labels"] == {"silent": 1}
    assert report["metrics"] == metrics_of(run)["splits"]["test"]["metrics"]
    _, out, _ = command("evaluate", run / "artefact", tmp_path / "rows.jsonl")
    assert "labels that were not in the training split, ignored: silent (1)" in out


def test_predict_writes_the_same_probabilities_in_every_format(
    run: Path, folder: Path, command: Command, tmp_path: Path
) -> None:
    tables = {}
    for ending in ("csv", "jsonl", "parquet"):
        output = tmp_path / f"predictions.{ending}"
        status, _, err = command("predict", run / "artefact", folder / "test.jsonl", "-o", output)
        assert status == 0, err
        assert "24 predictions written to" in err
        tables[ending] = read_rows(output)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"predictions.{e}" for e in tables]
    columns = [f"probability_{label}" for label in LABELS]
    truth = rows(24, seed=1)
    for table in tables.values():
        assert list(table.columns) == ["movie", "prediction", *columns, "status", "error"]
        assert set(table["status"]) == {"ok"}
        assert table["error"].isna().all()
        assert table["movie"].tolist() == truth["movie"].tolist()
        assert table["prediction"].fillna("").tolist() == tables["csv"]["prediction"].fillna("").tolist()
        np.testing.assert_allclose(table[columns], tables["parquet"][columns], rtol=0, atol=1e-12)
    scores = tables["parquet"][columns].to_numpy()
    thresholds = json.loads((run / "artefact" / "pipeline.json").read_text())["thresholds"]
    assert len(thresholds) == 3
    assert thresholds != [0.5] * 3
    decided = scores >= np.array(thresholds)
    chosen = ["|".join(label for label, yes in zip(LABELS, row, strict=True) if yes) for row in decided]
    assert tables["parquet"]["prediction"].tolist() == chosen
    assert len(set(chosen)) > 2
    targets = np.array([[label in labels for label in LABELS] for labels in truth["labels"]])
    measured = metrics_of(run)["splits"]["test"]["metrics"]
    assert average_precision_score(targets, scores, average="micro") == pytest.approx(
        measured["micro_average_precision"], abs=1e-12
    )
    assert f1_score(targets, scores >= 0.5, average="micro") == pytest.approx(measured["micro_f1"], abs=1e-12)
    assert f1_score(targets, decided, average="micro") == pytest.approx(measured["tuned_micro_f1"], abs=1e-12)


def test_predict_needs_no_labels_and_numbers_rows_without_id(run: Path, command: Command, tmp_path: Path) -> None:
    write_jsonl(rows(24, seed=1)[["plot", "vector", "budget", "country"]], tmp_path / "rows.jsonl")
    status, _, err = command("predict", run / "artefact", tmp_path / "rows.jsonl", "-o", tmp_path / "out.csv")
    assert status == 0, err
    assert read_rows(tmp_path / "out.csv")["row"].tolist() == list(range(24))
    status, _, err = command("evaluate", run / "artefact", tmp_path / "rows.jsonl")
    assert status == 2
    assert "labels" in err


def test_info_counts_what_the_artefact_holds(run: Path, tiny_backbone: Path, command: Command) -> None:
    status, out, err = command("info", run / "artefact", "--json")
    assert status == 0, err
    info = json.loads(out)
    weights = load_file(run / "artefact" / "adapter_model.safetensors")
    adapters = sum(weight.numel() for name, weight in weights.items() if ".mmadapter_" in name)
    head = sum(weight.numel() for name, weight in weights.items() if ".classifier." in name)
    encoder = sum(parameter.numel() for parameter in BertModel.from_pretrained(tiny_backbone).parameters())
    size = sum(path.stat().st_size for path in (run / "artefact").iterdir())
    assert adapters + head == sum(weight.numel() for weight in weights.values())
    parts = info["parameters"]
    assert parts.pop("backbone, frozen") == f"{encoder:,}"
    assert parts.pop("adapters") == f"{adapters:,} ({adapters / encoder:.2%} of the backbone)"
    assert parts.pop("head") == f"{head:,} ({head / encoder:.2%})"
    assert list(parts) == ["text bottleneck", "poster, at each site", "table, at each site", "fusion"]
    assert sum(int(part.split()[0].replace(",", "")) for part in parts.values()) == adapters
    assert info["size on disk"] == f"{size:,} bytes"
    # budget and its flag, three countries, other and missing
    assert info["modalities"] == {"poster": "vector, 4 wide", "table": "tabular, 7 wide"}
    assert (info["labels"], info["problem type"]) == ("big, dark, war", "multi_label_classification")
    assert (info["fusion"], info["bottleneck"], info["sites"], info["text"]) == ("gmu", 8, "4, in layers 0, 1", "plot")
    measured = metrics_of(run)["splits"]["test"]["metrics"]
    assert f"micro_f1 {measured['micro_f1']:.4f}" in info["measured"]["test"]
    assert info["data"] == {
        "train": "48 rows of 80 % of train.csv",
        "validation": "12 rows of 20 % of train.csv, on which epoch and thresholds were chosen",
        "test": "24 rows of test.jsonl",
    }
    shown = info["intervals (95 %, bootstrap over rows)"]["test"]
    low, high = (float(part) for part in shown.split(", ")[0].removeprefix("micro_average_precision ").split(" to "))
    assert low < measured["micro_average_precision"] < high
    assert list(info["left without"]) == ["poster (test)", "table (test)"]
    assert info["licence"] == "none given"
    assert "synthetic" not in info
    status, out, _ = command("info", run / "artefact")
    assert status == 0
    assert f"backbone, frozen: {encoder:,}" in out
    assert "table: tabular, 7 wide" in out


def test_a_single_label_run(folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run", label="word", label_separator=None, split={})
    content["training"]["class_weights"] = True
    content["model"]["head"] = "mlp"
    status, _, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert status == 0, err
    metrics = metrics_of(tmp_path / "run")
    assert metrics["rows"] == {"train": 60, "test": 24}
    output = tmp_path / "predictions.parquet"
    status, _, err = command("predict", tmp_path / "run" / "artefact", folder / "test.jsonl", "-o", output)
    assert status == 0, err
    table = read_rows(output)
    classes = sorted(WORDS)
    probabilities = table[[f"probability_{word}" for word in classes]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-9)
    assert table["prediction"].tolist() == [classes[place] for place in probabilities.argmax(axis=1)]
    accuracy = (table["prediction"] == rows(24, seed=1)["word"]).mean()
    assert metrics["splits"]["test"]["metrics"]["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert accuracy > 0.5


def test_a_regression_run_on_text_alone(folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run", label="score", label_separator=None)
    content["adapter"]["fusion"] = "none"
    status, _, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert status == 0, err
    output = tmp_path / "predictions.csv"
    status, _, err = command("predict", tmp_path / "run" / "artefact", folder / "test.jsonl", "-o", output)
    assert status == 0, err
    table = read_rows(output)
    assert list(table.columns) == ["movie", "prediction", "status", "error"]
    measured = metrics_of(tmp_path / "run")["splits"]["test"]["metrics"]
    difference = table["prediction"] - rows(24, seed=1)["score"]
    assert measured["mae"] == pytest.approx(difference.abs().mean(), abs=1e-6)
    assert measured["rmse"] == pytest.approx((difference**2).mean() ** 0.5, abs=1e-6)
    status, out, _ = command("info", tmp_path / "run" / "artefact", "--json")
    assert status == 0
    info = json.loads(out)
    assert (info["fusion"], info["modalities"], info["problem type"]) == ("none", "none", "regression")


def test_rows_are_found_from_the_working_folder(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = settings(folder, tiny_backbone, Path("out"), train="train.csv", test=None, split={"test": 0.5})
    config = write_yaml(content, tmp_path / "run.yaml")
    monkeypatch.chdir(tmp_path)
    status, _, err = command("train", config)
    assert status == 2
    assert "train.csv' does not exist" in " ".join(err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_backbone_that_moved_is_named(
    run: Path, folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path
) -> None:
    shutil.copytree(run / "artefact", tmp_path / "artefact")
    file = tmp_path / "artefact" / "pipeline.json"
    pipeline = json.loads(file.read_text())
    pipeline["model"]["backbone"] = str(tmp_path / "gone")
    file.write_text(json.dumps(pipeline))
    status, _, err = command("evaluate", tmp_path / "artefact", folder / "test.jsonl")
    assert status == 2
    assert f"is the folder '{tmp_path / 'gone'}', which does not exist. Pass backbone=… (--backbone)" in err
    status, out, err = command(
        "evaluate", tmp_path / "artefact", folder / "test.jsonl", "--json", "--backbone", tiny_backbone
    )
    assert status == 0, err
    assert json.loads(out) == metrics_of(run)["splits"]["test"]
    status, _, err = command("info", tmp_path / "artefact")
    assert status == 2
    assert f"is the folder '{tmp_path / 'gone'}', which does not exist." in err
    status, out, err = command("info", tmp_path / "artefact", "--json", "--backbone", tiny_backbone)
    assert status == 0, err
    status, expected, _ = command("info", run / "artefact", "--json")
    same = [json.loads(text) for text in (out, expected)]
    assert same[0]["parameters"] == same[1]["parameters"]
    assert same[0]["backbone"] == str(tiny_backbone)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"trainig": {}}, ["trainig is unknown. Did you mean 'training'?"]),
        (
            {"data.txt": "plot", "model.poling": "cls"},
            ["data.txt is unknown. Did you mean 'text'?", "model.poling is unknown. Did you mean 'pooling'?"],
        ),
        ({"training.learning_rat": 1}, ["training.learning_rat is unknown. Did you mean 'learning_rate'?"]),
        ({"adapter.bottlenck_size": 1}, ["adapter.bottlenck_size is unknown. Did you mean 'bottleneck_size'?"]),
        ({"modalities.poster.columm": "x"}, ["modalities.poster.columm is unknown. Did you mean 'column'?"]),
        ({"model.pooling": "meen"}, ["model.pooling is 'meen'", "Did you mean 'mean'?"]),
        ({"seed": "seven"}, ["seed is 'seven'; expected is a whole number."]),
        ({"training.num_train_epochs": "many"}, ["training.num_train_epochs is 'many'; expected is a number."]),
        ({"data.split": {"validation": 0.5, "test": 0.2}}, ["data: 'test' has both a file and a share in split"]),
        ({"modalities.poster": {"column": "v", "columns": ["a"]}}, ["give exactly one of the four"]),
        ({"adapter.dropout": 1.5}, ["dropout=1.5 must be at least 0 and below 1."]),
        ({"adapter.fusion": "gmuu"}, ["fusion='gmuu' is unknown", "Did you mean 'gmu'?"]),
        ({"adapter.fusion": "complementary"}, ["fusion='complementary' is for exactly one modality, 2 were given"]),
        ({"modalities": {}, "adapter.fusion": "gmu"}, ["fusion='gmu' needs modalities and none were given"]),
        ({"training.lr_scheduler_type": "cosin"}, ["cosin", "SchedulerType"]),
        ({"training.seed": 3}, ["training.seed is unknown."]),
    ],
)
def test_mistakes_in_the_file_are_named_before_a_row_is_read(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path, change: dict[str, Any], messages: list[str]
) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run", train=str(tmp_path / "no-such-rows.csv"))
    for path, value in change.items():
        *sections, key = path.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[key] = value
    status, out, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    for message in messages:
        assert message in err
    assert "no-such-rows" not in err
    assert not (tmp_path / "run").exists()


def test_missing_keys_are_all_named(command: Command, tmp_path: Path) -> None:
    status, _, err = command("train", write_yaml({"data": {"train": "rows.csv"}}, tmp_path / "run.yaml"))
    assert status == 2
    assert "data.text is missing: column of the text, or two for a pair." in err
    assert "data.label is missing" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "is no valid YAML in line 2, column 1: the key 'seed' is given twice."),
        ("data: [\n", "is no valid YAML in line 2"),
        ("- data\n", "holds a list. It must be a mapping"),
    ],
)
def test_files_that_are_no_settings(command: Command, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    status, _, err = command("train", tmp_path / "run.yaml")
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set 'seed' is malformed. Write it as section.key=value."),
        ("training.=1", "--set 'training.=1' is malformed."),
        ("seed=[1", "--set 'seed=[1': the value is no valid YAML in line 1, column 3: "),
        ("model={head: mlp, head: mlp}", "the key 'head' is given twice"),
        ("sed=1", "sed is unknown. Did you mean 'seed'?"),
        ("adapter.fusion=gmuu", "fusion='gmuu' is unknown"),
    ],
)
def test_overrides_that_cannot_be_used(
    run: Path, command: Command, tmp_path: Path, override: str, message: str
) -> None:
    config = run / "config.resolved.yaml"
    status, _, err = command("train", config, "--set", f"output_dir={tmp_path / 'x'}", "--set", override)
    assert status == 2
    assert message in err
    assert not (tmp_path / "x").exists()


def test_what_does_not_exist_is_named(run: Path, command: Command, tmp_path: Path) -> None:
    status, _, err = command("train", tmp_path / "none.yaml")
    assert status == 2
    assert f"The file '{tmp_path / 'none.yaml'}' cannot be read: No such file or directory." in err
    status, _, err = command("evaluate", run / "artefact", tmp_path / "none.csv")
    assert status == 2
    assert f"The file '{tmp_path / 'none.csv'}' does not exist." in err
    for verb in (["evaluate", tmp_path, "rows.csv"], ["info", tmp_path], ["predict", tmp_path, "r.csv", "-o", "p.csv"]):
        status, out, err = command(*verb)
        assert (status, out) == (2, "")
        assert f"error: '{tmp_path}' is no artefact: it has no adapter_config.json" in err


def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(
    run: Path, folder: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("mmadapters.artefact.load_artefact", loaded)
    status, _, err = command("predict", run / "artefact", folder / "test.jsonl", "-o", tmp_path / "out.xlsx")
    assert status == 2
    assert "has the ending '.xlsx'. Rows are written to '.csv', '.tsv', '.jsonl'" in err
    (tmp_path / "out.csv").mkdir()
    status, _, err = command("predict", run / "artefact", folder / "test.jsonl", "-o", tmp_path / "out.csv")
    assert status == 2
    assert "is a folder. Give the path of a file" in err


def test_usage_errors_and_the_version(command: Command) -> None:
    status, out, _ = command("--version")
    assert (status, out.split()[0]) == (0, "mmadapters")
    status, _, err = command("predict", "model", "rows.csv")
    assert status == 2
    assert "--output" in err
    status, _, err = command("tran")
    assert status == 2
    assert "No such command 'tran'" in err


def test_an_interrupt_has_its_own_status(run: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmadapters.artefact.load_artefact", interrupted)
    status, out, err = command("info", run / "artefact")
    assert (status, out) == (130, "")
    assert "Traceback" not in err


def test_an_interrupt_is_said_to_leave_nothing_half_written(
    run: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmadapters.artefact.load_artefact", interrupted)
    _, _, err = command("info", run / "artefact")
    assert "interrupted: nothing was left half-written." in err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("eval_strategy", "sometimes", "sometimes"),
        ("save_strategy", "no", "save"),
        ("optim", "adamm", "adamm"),
        pytest.param(
            "metric_for_best_model",
            "micro_average_precison",
            "micro_average_precison",
        ),
        ("per_device_train_batch_size", 0, "batch_size"),
    ],
)
def test_training_values_that_transformers_refuses_are_errors(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path, key: str, value: object, said: str
) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run")
    content["training"] |= {"num_train_epochs": 1, key: value}
    status, _, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert status == 2
    assert said in err


def test_an_artefact_folder_with_other_things_is_refused_before_training(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model was trained")

    monkeypatch.setattr("mmadapters.training.fit.fit", trained)
    (tmp_path / "artefact").mkdir()
    (tmp_path / "artefact" / "thesis.tex").write_text("precious")
    config = write_yaml(settings(folder, tiny_backbone, tmp_path), tmp_path / "run.yaml")
    status, _, err = command("train", config)
    assert status == 2
    assert "is no artefact and is not replaced" in err


def test_an_output_folder_that_is_a_file_is_an_error(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("x")
    content = settings(folder, tiny_backbone, tmp_path / "out")
    content["training"]["num_train_epochs"] = 1
    status, _, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert status == 2
    assert f"'{tmp_path / 'out'}'" in err


def test_a_text_only_model_predicts_rows_that_have_the_text_alone(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path
) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run")
    content["adapter"]["fusion"] = "none"
    content["training"]["num_train_epochs"] = 1
    status, _, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    if status:
        pytest.fail(err)
    write_jsonl(rows(24, seed=1)[["plot"]], tmp_path / "rows.jsonl")
    output = tmp_path / "out.csv"
    status, _, err = command("predict", tmp_path / "run" / "artefact", tmp_path / "rows.jsonl", "-o", output)
    assert status == 0, err
    write_jsonl(rows(24, seed=1)[["plot", "labels"]], tmp_path / "labelled.jsonl")
    status, out, err = command("evaluate", tmp_path / "run" / "artefact", tmp_path / "labelled.jsonl", "--json")
    assert status == 0, err
    assert json.loads(out) == metrics_of(tmp_path / "run")["splits"]["test"]


@pytest.mark.parametrize("split", [{}, {"validation": 0.2}])
def test_a_training_that_diverges_is_an_error_and_leaves_no_artefact(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path, split: dict[str, float]
) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run", split=split, test=None)
    content["training"] |= {"num_train_epochs": 1, "learning_rate": 1e30}
    status, out, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert (status, out) == (2, "")
    assert "error: The training diverged in epoch 1" in err
    assert "learning_rate=1e+30 was given; lower it" in err
    assert not (tmp_path / "run" / "artefact").exists()


def test_texts_longer_than_the_backbone_takes_are_refused(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path
) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run", max_length=100)
    status, _, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert status == 2
    assert f"max_length=100 tokens, but the backbone '{tiny_backbone}' has positions for 64" in err
    assert "data.max_length in a run file" in err


@pytest.mark.parametrize("label", ["[sci-fi]", "[/b]", ":ghost:", "a\\[b]"])
def test_brackets_in_labels_and_paths_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], label: str) -> None:
    print_table("by label", ["label", "support"], [[label, "3"]])
    step(f"saved to runs/{label}/artefact")
    printed = capsys.readouterr()
    assert f" {label} " in printed.out
    assert f"saved to runs/{label}/artefact" in printed.err


def test_info_prints_brackets_as_they_are(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"folder": "runs/[/b]", "labels": "[sci-fi], :ghost:", "modalities": {"[x]": "[red]vector"}}
    monkeypatch.setattr("mmadapters.cli.info.describe", lambda *given: described)
    status, out, _ = command("info", "model")
    assert status == 0
    assert out.splitlines() == ["folder: runs/[/b]", "labels: [sci-fi], :ghost:", "modalities", "  [x]: [red]vector"]


def test_predict_and_evaluate_within_a_token_budget(run: Path, folder: Path, command: Command, tmp_path: Path) -> None:
    tables = {}
    for budget in ([], ["--max-tokens-per-batch", "9"]):
        output = tmp_path / f"{len(budget)}.parquet"
        status, _, err = command("predict", run / "artefact", folder / "test.jsonl", "-o", output, *budget)
        assert status == 0, err
        tables[len(budget)] = read_rows(output)
        status, out, err = command("evaluate", run / "artefact", folder / "test.jsonl", "--json", *budget)
        assert status == 0, err
        measured = json.loads(out)["metrics"]
        expected = metrics_of(run)["splits"]["test"]["metrics"]
        assert measured == {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()}
    assert tables[0]["movie"].tolist() == tables[2]["movie"].tolist()
    columns = [f"probability_{label}" for label in LABELS]
    np.testing.assert_allclose(tables[0][columns], tables[2][columns], rtol=0, atol=1e-6)
    status, _, err = command(
        "predict", run / "artefact", folder / "test.jsonl", "-o", tmp_path / "x.csv", "--max-tokens-per-batch", "2"
    )
    assert status == 2
    assert "max_tokens_per_batch=2 is less than the 3 tokens of the longest row" in " ".join(err.split())


def test_a_budget_of_a_run_is_that_of_its_artefact(
    folder: Path, tiny_backbone: Path, command: Command, tmp_path: Path
) -> None:
    content = settings(folder, tiny_backbone, tmp_path / "run")
    content["training"] |= {"max_tokens_per_batch": 48, "num_train_epochs": 1}
    status, _, err = command("train", write_yaml(content, tmp_path / "run.yaml"))
    assert status == 0, err
    pipeline = json.loads((tmp_path / "run" / "artefact" / "pipeline.json").read_text())
    assert pipeline["max_tokens_per_batch"] == 48
    status, out, err = command("evaluate", tmp_path / "run" / "artefact", folder / "test.jsonl", "--json")
    assert status == 0, err
    assert json.loads(out) == metrics_of(tmp_path / "run")["splits"]["test"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_with_its_status_and_resume_goes_on(
    run: Path,
    folder: Path,
    tiny_backbone: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
) -> None:
    config = write_yaml(settings(folder, tiny_backbone, tmp_path / "run"), tmp_path / "run.yaml")

    def step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == 7:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(InterruptibleTraining, "on_step_begin", step_begin)
        ended, _, err = command("train", config)
    assert ended == status
    told = " ".join(err.split())
    assert f"stopped by {number.name} after step 8 of 18; the checkpoint is" in told
    assert "mmadapters train --resume" in told
    assert not (tmp_path / "run" / "artefact").exists()
    ended, _, err = command("train", config)
    assert ended == 2
    assert "has the checkpoints of a run that did not end; the newest is 'checkpoint-8'" in " ".join(err.split())
    ended, _, err = command("train", config, "--resume")
    assert ended == 0, err
    assert "going on after step 8" in err
    name = "adapter_model.safetensors"
    assert (tmp_path / "run" / "artefact" / name).read_bytes() == (run / "artefact" / name).read_bytes()
    assert metrics_of(tmp_path / "run")["splits"] == metrics_of(run)["splits"]
