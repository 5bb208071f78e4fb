"""What is recorded of a training is what the rows and the model say, and the model card tells it."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile import BACKBONE, OLD, at, copy, edit_json
from huggingface_hub import EvalResult, ModelCard

from mmadapters.artefact import Artefact, card_of, load_artefact, save_artefact, training_record
from mmadapters.artefact.card import short_fingerprint
from mmadapters.artefact.card_metadata import base_model
from mmadapters.errors import ArtefactError
from mmadapters.evaluation.evaluator import Predictions, evaluate, predict

rows = runpy.run_path(str(OLD / "write.py"))["rows"]


def predictions(artefact: Artefact, data: Any) -> Predictions:
    return predict(artefact.model, data, artefact.collator, artefact.problem_type, batch_size=artefact.batch_size)


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return load_artefact(OLD / "multi_label", backbone=BACKBONE)


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {"train": rows(60, 2), "validation": rows(30, 3), "test": rows(40, 8)}


@pytest.fixture(scope="module")
def recorded(artefact: Artefact, frames: dict[str, pd.DataFrame]) -> Artefact:
    data = {split: artefact.preprocessor.transform(frame) for split, frame in frames.items()}
    predicted = {split: predictions(artefact, data[split]) for split in ("validation", "test")}
    record = training_record(
        artefact,
        data,
        predicted,
        sources={"train": "/home/ann/films.csv", "test": "held-out.csv"},
        training={"seed": 3, "learning rate": 0.0123456789, "class weights": True, "moving average": None},
        synthetic=True,
    )
    metrics = {
        split: evaluate(found, data[split], artefact.problem_type, artefact.labels).values
        for split, found in predicted.items()
    }
    return replace(artefact, record=record, metrics=metrics, license="apache-2.0")


def test_rows_and_labels_are_counted(recorded: Artefact, frames: dict[str, pd.DataFrame]) -> None:
    assert recorded.record is not None
    splits = recorded.record["splits"]
    for split, frame in frames.items():
        counts = frame["genres"].explode().value_counts()
        assert splits[split]["label_counts"] == {label: counts.get(label, 0) for label in ("dark", "new", "war")}
        assert splits[split]["rows"] == len(frame)
        assert splits[split]["present"] == {"poster": int(frame["poster"].notna().sum())}
    assert [splits[split].get("source") for split in splits] == ["films.csv", None, "held-out.csv"]
    assert [splits[split].get("chosen_on") for split in splits] == [None, True, None]
    assert recorded.record["training"] == [
        ["seed", "3"],
        ["learning rate", "0.0123457"],
        ["class weights", "yes"],
        ["moving average", "none"],
    ]


def test_intervals_are_around_what_was_measured(recorded: Artefact) -> None:
    assert recorded.record is not None
    for split in ("validation", "test"):
        found = recorded.record["splits"][split]["intervals"]
        assert set(found) == {"micro_average_precision", "macro_average_precision"}
        for name, interval in found.items():
            assert interval["value"] == pytest.approx(recorded.metrics[split][name])
            assert interval["low"] < interval["value"] < interval["high"]
            assert interval["resamples"] == 2000
    assert "intervals" not in recorded.record["splits"]["train"]


def test_what_is_left_without_a_modality(recorded: Artefact, frames: dict[str, pd.DataFrame]) -> None:
    assert recorded.record is not None
    without = recorded.record["without"]
    assert (without["split"], without["rows"], list(without["metrics"])) == ("test", 40, ["poster", "metadata"])
    data = recorded.preprocessor.transform(frames["test"].assign(poster=None))
    expected = evaluate(predictions(recorded, data), data, recorded.problem_type, recorded.labels).values
    assert without["metrics"]["poster"] == pytest.approx(expected)
    assert without["metrics"]["poster"] != pytest.approx(recorded.metrics["test"])


def test_the_card_tells_it_and_is_written_again_from_the_folder(recorded: Artefact, tmp_path: Path) -> None:
    folder = save_artefact(recorded, tmp_path / "model")
    text = (folder / "README.md").read_text()
    assert card_of(folder) == text
    assert "| training rows | 60 | films.csv | 75.0 % |" in text
    assert "/home" not in text
    assert "**The rows are synthetic**: a program made them up." in text
    assert "It was trained on rows that a program made up." in text
    counts = [split["label_counts"] for split in recorded.record["splits"].values()]
    assert f"| dark | {' | '.join(str(each['dark']) for each in counts)} |" in text
    few = [label for label, count in counts[-1].items() if count < 20]
    assert 0 < len(few) < 3
    assert f"- Fewer than 20 test rows, so that their figures are uncertain: {', '.join(few)}." in text
    value, found = recorded.metrics["test"]["micro_average_precision"], recorded.record["splits"]["test"]["intervals"]
    interval = found["micro_average_precision"]
    assert f"| micro AP | {value:.4f} | {interval['low']:.4f} to {interval['high']:.4f} |" in text
    assert "Epoch and thresholds were chosen on these rows, so that figures on them are too good." in text
    assert "Intervals: percentile bootstrap over rows, 2,000 draws." in text
    assert "| nothing |" in text
    assert "| poster |" in text
    assert "Adapters and head: `apache-2.0`." in text
    assert "TODO" not in text
    loaded = load_artefact(folder)
    assert (loaded.record, loaded.license, loaded.metrics) == (recorded.record, "apache-2.0", recorded.metrics)
    again = save_artefact(loaded, tmp_path / "again")
    assert (again / "README.md").read_text() == text


def test_the_metadata_is_that_of_the_hub(recorded: Artefact, tmp_path: Path) -> None:
    folder = save_artefact(recorded, tmp_path / "model")
    card = ModelCard.load(folder / "README.md")
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "peft", "text-classification")
    # Trained in a folder of this machine, so there is no name that others can use.
    assert data.base_model is None
    assert data.eval_results is not None
    first = data.eval_results[0]
    assert isinstance(first, EvalResult)
    assert (first.dataset_name, first.dataset_split, first.metric_type) == ("held-out.csv", "test", "average_precision")
    assert first.metric_value == pytest.approx(recorded.metrics["test"]["micro_average_precision"], rel=1e-5)
    assert data.metrics == ["average_precision", "f1", "accuracy"]
    assert str(ModelCard(str(card))) == str(card)
    assert base_model("minilm") == "sentence-transformers/all-MiniLM-L6-v2"
    assert base_model("/home/ann/bert") is None


def test_labels_of_any_kind_do_not_break_the_card(recorded: Artefact, tmp_path: Path) -> None:
    folder = save_artefact(recorded, tmp_path / "model")
    names = ["a|b\nc", "<script>alert(1)</script>", "---\nlicense: mit"]

    def rename(content: dict[str, Any]) -> None:
        content["labels"] = names
        content["record"]["splits"]["train"]["label_counts"] = dict(zip(names, (0, 3, 1), strict=True))
        content["record"]["splits"]["test"]["source"] = "x: [y\n"

    edit_json(folder, "pipeline.json", rename)
    card = ModelCard(card_of(folder, "ann/x"))
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results[0].dataset_name == "x: [y\n"
    assert "<script>" not in card.content
    assert "| a\\|b c | 0 | 0 | 0 |" in card.content
    assert card.text.count("\n---\n") == 0


def test_a_regression_and_one_with_nothing_recorded(tmp_path: Path) -> None:
    artefact = load_artefact(OLD / "regression", backbone=BACKBONE)
    frame = rows(30, 5)
    data = {"validation": artefact.preprocessor.transform(frame)}
    found = {"validation": predictions(artefact, data["validation"])}
    record = training_record(artefact, data, found)
    assert record["splits"]["validation"]["targets"]["mean"] == pytest.approx(frame["rating"].mean(), rel=1e-6)
    assert set(record["splits"]["validation"]["intervals"]) == {"mae"}
    assert record["without"]["split"] == "validation"
    text = (save_artefact(replace(artefact, record=record), tmp_path / "model") / "README.md").read_text()
    assert "- validation rows: mean" in text
    assert "There were no test rows: nothing is known of rows that no choice was made on." in text
    assert "pipeline_tag" not in text
    bare = copy("regression", tmp_path)
    edit_json(bare, "pipeline.json", at("metrics", {}))
    text = card_of(bare)
    assert "Not recorded." in text
    assert "None recorded." in text
    assert "- Nothing was measured." in text
    assert "What is left without each was not measured." in text
    assert "No licence was given for adapters and head: ask the author." in text


def test_features_of_a_store_are_named_by_what_made_them() -> None:
    made = json.dumps({"encoder": "efficientnet-lite0", "pooling": "mean", "versions": {"torch": "2.13"}})
    assert short_fingerprint(made).startswith("efficientnet-lite0, mean (")
    assert len(short_fingerprint("no json")) == 12
    assert len(short_fingerprint("[1]")) == 12


def test_a_folder_that_is_none_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is no artefact: it has no adapter_config.json"):
        card_of(tmp_path)


def test_many_rows_have_fewer_draws_and_very_many_none() -> None:
    from mmadapters.evaluation import bootstrap

    random = np.random.default_rng(0)
    targets = random.random((30, 4)) < 0.4
    scores = np.clip(targets * 0.3 + random.random((30, 4)) * 0.6, 0, 1)
    found = bootstrap.metric_intervals("multi_label_classification", scores, targets, resamples=500, seed=1)
    draws = bootstrap.BootstrapDraws("multi_label_classification", targets, resamples=500, seed=1)
    each = draws.metrics([scores])["micro_average_precision"]
    micro = found["micro_average_precision"]
    assert (micro.value, micro.low) == (pytest.approx(each[0]), pytest.approx(np.quantile(each[1:], 0.025)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "MOST_DRAWN", 120 * 300)
        fewer = bootstrap.metric_intervals("multi_label_classification", scores, targets)
        assert fewer["micro_average_precision"].resamples == 300
        patch.setattr(bootstrap, "MOST_DRAWN", 120 * 199)
        assert bootstrap.metric_intervals("multi_label_classification", scores, targets) == {}
