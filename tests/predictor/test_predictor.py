"""The predictor on a table without media: what it gives back, what it keeps, what it says of mistakes."""

from __future__ import annotations

import copy
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from predictor_rows import QUICK, SMALL, movie_rows, predictor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score

from mmadapters import MultimodalPredictor, load_artefact
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    DatasetSchema,
    TabularColumns,
    VectorColumn,
)
from mmadapters.errors import ArtefactError, ConfigurationError, DataError, MMAdaptersError
from mmadapters.evaluation.evaluator import predict
from mmadapters.predictor.column_plan import ColumnPlan
from mmadapters.predictor.guessing import Guess
from mmadapters.predictor.messages import Messages
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, fit

COLUMNS: dict[str, Any] = {
    "text": "plot",
    "tabular": ["budget", "country"],
    "vectors": ["viewers"],
    "label_separator": "|",
}
TEST = movie_rows(40, seed=1)


@pytest.fixture(scope="module")
def trained(tiny_backbone: Path) -> MultimodalPredictor:
    training = {**QUICK, "num_train_epochs": 12}
    return predictor(tiny_backbone, **COLUMNS, training=training).fit(movie_rows(160), validation=movie_rows(40, 2))


def test_the_model_card_has_what_the_fit_measured(trained: MultimodalPredictor, tmp_path: Path) -> None:
    record = trained.artefact_.record
    splits = record["splits"]
    assert {name: split["rows"] for name, split in splits.items()} == {"train": 160, "validation": 40}
    # The score of a validation row is that of the rows which epoch and thresholds were chosen on.
    assert splits["validation"]["chosen_on"] is True
    scored = trained.evaluate(movie_rows(40, 2))["micro_average_precision"]
    interval = splits["validation"]["intervals"]["micro_average_precision"]
    assert interval["value"] == pytest.approx(scored)
    assert interval["low"] < scored < interval["high"]
    assert record["without"]["split"] == "validation"
    left = {name: metrics["micro_average_precision"] for name, metrics in record["without"]["metrics"].items()}
    assert set(left) == {"table", "viewers"}
    assert left["viewers"] < scored
    trained.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "viewers" in card
    assert f"{scored:.3f}" in card
    assert str(tmp_path) not in card


def test_predictions_are_frames_with_the_index_of_the_rows(trained: MultimodalPredictor) -> None:
    rows = TEST.sample(frac=1.0, random_state=0)
    probabilities = trained.predict_proba(rows)
    assert probabilities.columns.tolist() == trained.classes_.tolist() == ["big", "dark", "none", "war"]
    assert probabilities.index.equals(rows.index)
    decided = trained.predict(rows)
    assert decided.index.equals(rows.index)
    thresholds = np.array(trained.artefact_.decision_thresholds)
    for labels, scores in zip(decided, probabilities.to_numpy(), strict=True):
        assert labels == [name for name, yes in zip(trained.classes_, scores >= thresholds, strict=True) if yes]
    assert trained.predict_proba(rows, as_pandas=False).tolist() == probabilities.to_numpy().tolist()
    assert trained.predict(rows, as_pandas=False).tolist() == decided.tolist()
    embedded = trained.embed(rows)
    assert embedded.shape == (40, 32)
    assert embedded.index.equals(rows.index)
    assert trained.embed(rows, as_pandas=False).dtype == np.float32
    head = trained.artefact_.model.base_model.model.classifier
    with torch.no_grad():
        logits = head(torch.from_numpy(trained.embed(rows, as_pandas=False))).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), probabilities.to_numpy(), atol=1e-6)


def test_it_has_learned_and_metrics_are_those_of_scikit_learn(trained: MultimodalPredictor) -> None:
    found = trained.evaluate(TEST)
    targets = np.array([[name in genres.split("|") for name in trained.classes_] for genres in TEST["genres"]])
    scores = trained.predict_proba(TEST).to_numpy()
    assert found["micro_average_precision"] == pytest.approx(average_precision_score(targets, scores, average="micro"))
    assert found["micro_average_precision"] > 0.75
    assert "tuned_micro_f1" in found
    assert trained.score(TEST) == found["micro_average_precision"]
    apart = TEST.drop(columns="genres")
    assert trained.evaluate(apart, TEST["genres"]) == found
    report = trained.report(TEST)
    assert report.n_examples == 40
    assert [row["label"] for row in report.per_label] == trained.classes_.tolist()
    assert trained.metrics_["micro_average_precision"] > 0.7
    unseen = trained.evaluate(TEST.assign(genres="war|silent"))
    assert set(unseen) == set(found)


def test_the_training_is_that_of_the_library(trained: MultimodalPredictor, tiny_backbone: Path) -> None:
    modalities = (TabularColumns("table", ("budget",), ("country",)), VectorColumn("viewers", "viewers"))
    schema = DatasetSchema("plot", "genres", modalities, MULTI_LABEL, "|")
    train, validation = movie_rows(160), movie_rows(40, 2)
    preprocessor = Preprocessor.fit(train, schema, load_tokenizer(str(tiny_backbone)))
    arguments = {**QUICK, "num_train_epochs": 12, "early_stopping_patience": 5, "disable_tqdm": True, "seed": 0}
    fitted = fit(
        preprocessor,
        preprocessor.transform(train),
        preprocessor.transform(validation),
        settings=ModelSettings(str(tiny_backbone)),
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, **SMALL),
        arguments=MultimodalTrainingArguments(**arguments),
    )
    artefact = trained.artefact_
    theirs = predict(fitted.model, preprocessor.transform(TEST), artefact.collator, MULTI_LABEL).scores
    assert trained.predict_proba(TEST, as_pandas=False).tolist() == theirs.tolist()


def test_rows_with_new_categories_and_nothing_but_a_text(trained: MultimodalPredictor) -> None:
    rows = TEST.assign(country="on the moon", viewers=None, budget="unknown", genres=None)
    assert trained.predict_proba(rows).notna().all().all()
    records = [{"plot": "war", "budget": None, "country": None, "viewers": None}]
    assert trained.predict(records).index.tolist() == [0]
    many = pd.concat([TEST] * 30)
    assert len(trained.predict(many)) == 1200
    assert not many.index.is_unique


def test_a_saved_one_predicts_the_same_in_another_process(trained: MultimodalPredictor, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "model")
    TEST.to_pickle(tmp_path / "rows.pkl")
    code = """
import sys
import numpy as np
import pandas as pd
from mmadapters import MultimodalPredictor
predictor = MultimodalPredictor.load(sys.argv[1], verbose=0)
rows = pd.read_pickle(sys.argv[2])
np.save(sys.argv[3], predictor.predict_proba(rows).to_numpy())
print(predictor.label, predictor.tabular, predictor.seed, predictor.classes_.tolist())
"""
    arguments = [str(folder), str(tmp_path / "rows.pkl"), str(tmp_path / "scores.npy")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "genres ['budget', 'country'] 0 ['big', 'dark', 'none', 'war']"
    assert done.stderr == ""
    assert np.load(tmp_path / "scores.npy").tolist() == trained.predict_proba(TEST).to_numpy().tolist()


def test_a_saved_one_is_an_artefact_and_an_artefact_is_one(trained: MultimodalPredictor, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "model")
    pipeline = json.loads((folder / "pipeline.json").read_text())
    assert pipeline["predictor"]["format_version"] == 1
    assert pipeline["predictor"]["numeric"] == ["budget"]
    assert str(tmp_path) not in (folder / "pipeline.json").read_text()
    assert "verbose" not in pipeline["predictor"]["parameters"]
    artefact = load_artefact(folder)
    assert artefact.labels == trained.classes_.tolist()
    del pipeline["predictor"]
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    plain = MultimodalPredictor.load(folder, verbose=0)
    assert (plain.label, plain.text, plain.problem_type) == ("genres", "plot", MULTI_LABEL)
    assert plain.predict_proba(TEST).equals(trained.predict_proba(TEST))
    with pytest.raises(ArtefactError, match="is no artefact"):
        MultimodalPredictor.load(tmp_path, verbose=0)
    for state, message in [
        ({"format_version": 2}, "format 2, this version of mmadapters reads up to 1"),
        ({"format_version": "x"}, r"predictor\.format_version is 'x'"),
        ({"format_version": 1, "media": [{"modality": "p"}]}, r"predictor\.media"),
        ({"format_version": 1, "parameters": [1]}, r"predictor\.parameters"),
    ]:
        (folder / "pipeline.json").write_text(json.dumps({**pipeline, "predictor": state}))
        with pytest.raises(ArtefactError, match=message):
            MultimodalPredictor.load(folder, verbose=0)


def test_copies_predict_the_same(trained: MultimodalPredictor) -> None:
    expected = trained.predict_proba(TEST)
    for copied in (pickle.loads(pickle.dumps(trained)), copy.deepcopy(trained)):
        assert copied.predict_proba(TEST).equals(expected)
        assert copied.feature_names_in_.tolist() == trained.feature_names_in_.tolist()
        assert copied.get_params() == trained.get_params()


def test_explanations_keep_the_index_and_make_a_report(trained: MultimodalPredictor, tmp_path: Path) -> None:
    explained = trained.explain(TEST, missing_rates=[0.5])
    assert explained.rows.index.equals(TEST.index)
    shares = explained.rows[["share_text", "share_table", "share_viewers"]]
    assert shares.sum(axis=1).tolist() == pytest.approx([1.0] * 40)
    assert (shares["share_viewers"].isna() == TEST["viewers"].isna()).all()
    assert explained.rows["prediction"].tolist() == ["|".join(labels) for labels in trained.predict(TEST)]
    assert explained.shares.index.tolist() == ["text", "table", "viewers"]
    page = explained.report(tmp_path / "report")
    assert page.name == "report.html"
    assert "What changes without each modality" in page.read_text()
    written = pd.read_csv(tmp_path / "report" / "rows.csv")
    assert written["row"].tolist() == TEST.index.tolist()
    assert "<table" in explained._repr_html_()
    without = trained.explain(TEST.drop(columns="genres").head(3))
    assert "loss_rise_without_table" not in without.rows
    with pytest.raises(DataError, match="the rows have no column 'genres'. Give rows with labels"):
        trained.explain(TEST.drop(columns="genres"), subsets=True)


def quick(encoder: Path, **parameters: Any) -> MultimodalPredictor:
    return predictor(encoder, **{"training": {**QUICK, "num_train_epochs": 1}, **COLUMNS, **parameters})


def test_only_the_label_is_needed(tiny_backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = movie_rows(60).reset_index(drop=True)
    rows.loc[3:5, "genres"] = None
    rows["budget"] = rows["budget"].astype(object)
    rows.loc[7, "budget"] = "a lot"
    # The short texts of these rows come again and look like categories.
    once = {**QUICK, "num_train_epochs": 1}
    fitted = predictor(tiny_backbone, verbose=1, column_kinds={"plot": "text"}, training=once).fit(rows)
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "What the columns of 57 rows are taken for" in printed
    assert "genres label multi label classification: 4 labels, '|' between those of a row" in printed
    assert "movie — every row has another value" in printed
    assert "column_kinds={'movie': 'ignore'}; kinds are text, image" in printed
    assert "3 of 60 rows have no label and are left out" in printed
    assert "budget: 1 of 46 cells cannot be used and count as missing, the first: 'a lot' is no number" in printed
    assert "11 of 57 rows are held out" in printed
    assert "Training on 46 rows: at most 1 epochs, 16 rows a step" in printed
    assert "epoch 1 of 1: training loss" in printed
    assert "On the rows that were held out: micro average precision" in printed
    assert [modality.name for modality in fitted.artefact_.preprocessor.modalities] == ["table", "viewers"]
    assert fitted.artefact_.preprocessor.schema.id == "movie"
    assert fitted.feature_names_in_.tolist() == ["movie", "plot", "viewers", "budget", "country"]
    fitted.predict(rows.assign(budget="?").head(2))
    assert "budget: 2 of 2 cells cannot be used" in capsys.readouterr().out


def test_of_many_columns_those_that_are_alike_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [Guess(f"n{i}", ("numeric",), "numbers from 1 to 2") for i in range(40)]
    plan = ColumnPlan(("plot",), guesses=(Guess("plot", ("text",), "9 words a cell"), *numbers))
    Messages(1).tell_columns(plan, ("genres", "regression"), 50)
    printed = capsys.readouterr().out
    assert "n0 … n39" in printed
    assert "40 columns that are alike" in printed
    assert "9 words a cell" in printed
    Messages(1).tell_columns(replace(plan, guesses=plan.guesses[:20]), ("genres", "regression"), 50)
    assert "n18" in capsys.readouterr().out


def test_nothing_is_printed_where_nothing_is_wanted(tiny_backbone: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fitted = quick(tiny_backbone).fit(movie_rows(40).assign(plot=[None, *["war"] * 39]))
    fitted.predict(TEST.assign(plot=None, budget="?"))
    fitted.evaluate(TEST.assign(genres="silent|war"))
    fitted.explain(TEST.head(3))
    pickle.loads(pickle.dumps(fitted))
    assert capfd.readouterr() == ("", "")


def test_a_training_leaves_the_random_numbers_of_others_alone(tiny_backbone: Path) -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    quick(tiny_backbone).fit(movie_rows(40))
    drawn = (random.random(), np.random.random(), torch.rand(1).item())
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert drawn == (random.random(), np.random.random(), torch.rand(1).item())


@pytest.mark.parametrize(
    ("label", "kind", "check"),
    [
        (lambda rows: rows["plot"].str.split().str[1], SINGLE_LABEL, lambda dtype: isinstance(dtype, pd.StringDtype)),
        (lambda rows: np.arange(len(rows)) % 3, SINGLE_LABEL, lambda dtype: dtype.kind == "i"),
        (lambda rows: np.arange(len(rows)) % 2 == 0, SINGLE_LABEL, lambda dtype: dtype.kind == "b"),
        (lambda rows: np.linspace(0, 1, len(rows)), REGRESSION, lambda dtype: dtype.kind == "f"),
    ],
    ids=["texts", "whole numbers", "truth values", "numbers"],
)
def test_labels_come_back_as_they_were(
    tiny_backbone: Path, label: Callable[[pd.DataFrame], Any], kind: str, check: Callable[[Any], bool]
) -> None:
    rows = movie_rows(40)
    rows["label"] = label(rows)
    fitted = quick(tiny_backbone, label="label", label_separator=None).fit(rows)
    assert fitted.problem_type_ == kind
    predicted = fitted.predict(rows)
    assert check(predicted.dtype)
    assert set(predicted) <= set(rows["label"]) or kind == REGRESSION
    assert isinstance(fitted.predict(rows, as_pandas=False), np.ndarray)
    if kind == REGRESSION:
        assert not hasattr(fitted, "predict_proba")
        assert not hasattr(fitted, "classes_")
        with pytest.raises(AttributeError, match="predict_proba"):
            fitted.predict_proba(rows)
        assert fitted.score(rows) == fitted.evaluate(rows)["r2"]
    else:
        assert fitted.classes_.tolist() == sorted(set(rows["label"].tolist()))
        assert fitted.predict_proba(rows).sum(axis=1).tolist() == pytest.approx([1.0] * 40)
        assert fitted.score(rows) == fitted.evaluate(rows)["accuracy"]
    assert pickle.loads(pickle.dumps(fitted)).predict(rows).equals(predicted)


def test_labels_in_columns_of_their_own_or_apart(tiny_backbone: Path) -> None:
    rows = movie_rows(40).drop(columns="genres").assign(war=[0, 1] * 20, love=[1, 1, 0, 0] * 10)
    fitted = quick(tiny_backbone, label=["war", "love"], label_separator=None).fit(rows)
    assert fitted.predict_proba(rows).columns.tolist() == ["war", "love"]
    apart = quick(tiny_backbone, label=None, label_separator=None).fit(rows, [["war"], ["war", "love"]] * 20)
    assert apart.classes_.tolist() == ["love", "war"]
    assert "label" not in apart.feature_names_in_


def test_what_no_row_has_is_not_read(tiny_backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = movie_rows(40).assign(viewers=None, budget=None)
    fitted = quick(tiny_backbone, verbose=1).fit(rows)
    assert "viewers: no training row has it, so the model does not read it" in capsys.readouterr().out
    assert [modality.name for modality in fitted.artefact_.preprocessor.modalities] == ["table"]
    assert len(fitted.predict(rows.drop(columns="viewers"))) == 40
    text_only = quick(tiny_backbone, adapter={"fusion": "none", "bottleneck_size": 8}).fit(movie_rows(40))
    assert text_only.predict(movie_rows(40)[["plot"]]).shape == (40,)


def test_few_rows_hold_none_out(tiny_backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = quick(tiny_backbone, verbose=1).fit(movie_rows(16))
    assert "With fewer than 20 rows none is held out" in capsys.readouterr().out
    assert fitted.metrics_ == {}
    assert fitted.artefact_.thresholds is None


MISTAKES: list[tuple[dict[str, Any], Any, type[MMAdaptersError], str]] = [
    ({"label": "genre"}, None, DataError, "no column 'genre'. .*Did you mean 'genres'"),
    ({"label": None}, None, ConfigurationError, "No label was named.*MultimodalPredictor.label=…"),
    ({"text": "plto"}, None, DataError, "no column 'plto'.*Did you mean 'plot'"),
    ({}, movie_rows(30).assign(genres="war"), DataError, "'genres' has only the label 'war'"),
    ({}, movie_rows(30).assign(genres=None), DataError, "'genres' is empty in all 30 rows"),
    ({}, movie_rows(0), DataError, "There are no rows"),
    ({"adapter": {"bottleneck": 8}}, None, ConfigurationError, "adapter has no option 'bottleneck'. Did you mean"),
    ({"adapter": 8}, None, ConfigurationError, "adapter=8 cannot be used. Give a dictionary"),
    ({"adapter": {"fusion": "gmm"}}, None, ConfigurationError, "fusion='gmm' is unknown"),
    ({"training": {"learning_rate": -1}}, None, ConfigurationError, "learning_rate=-1 must be 0 or more"),
    ({"backbone": "no-such-folder"}, None, ConfigurationError, "No tokenizer could be loaded for .*'no-such-folder'"),
    ({"training": {"epochs": 8}}, None, ConfigurationError, "training has no option 'epochs'"),
    ({"training": {"seed": 8}}, None, ConfigurationError, "training has no option 'seed'"),
    ({"model": {"pooler": "cls"}}, None, ConfigurationError, "model has no option 'pooler'. Did you mean 'pooling'"),
    ({"extractors": {"poster": {}}}, None, ConfigurationError, "extractors names 'poster', and .* are none"),
    ({"problem_type": "binary"}, None, ConfigurationError, "problem_type='binary' cannot be used"),
    ({"vectors": ["country"]}, None, DataError, "Modality 'country', row row 0-.* is no '.npy' path"),
    ({"max_length": 1}, None, ConfigurationError, "max_length=1 leaves no room"),
]


@pytest.mark.parametrize(("parameters", "rows", "error", "message"), MISTAKES)
def test_mistakes_are_named(
    tiny_backbone: Path, parameters: dict[str, Any], rows: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        quick(tiny_backbone, **parameters).fit(movie_rows(30) if rows is None else rows)


def test_mistakes_after_and_before_the_training(trained: MultimodalPredictor, tiny_backbone: Path) -> None:
    with pytest.raises(DataError, match="no column 'plot'"):
        trained.predict(TEST.drop(columns="plot"))
    with pytest.raises(DataError, match="no column 'budget'.*Did you mean"):
        trained.predict(TEST.rename(columns={"budget": "budgets"}))
    with pytest.raises(DataError, match="There are no rows"):
        trained.predict(TEST.head(0))
    with pytest.raises(DataError, match="no column 'genres'"):
        trained.evaluate(TEST.drop(columns="genres"))
    with pytest.raises(DataError, match="'viewers' has 3 features in row 0 and 4"):
        trained.predict([{"plot": "war", "budget": 1, "country": "fr", "viewers": [1.0, 2.0, 3.0]}])
    new = quick(tiny_backbone)
    for asked in (new.predict, new.predict_proba, new.evaluate, new.explain, new.embed, new.score):
        with pytest.raises(ConfigurationError, match="was not trained. Call fit") as raised:
            asked(TEST)
        assert isinstance(raised.value, NotFittedError)
    with pytest.raises(ConfigurationError, match="was not trained"):
        new.save("model")
    with pytest.raises(ConfigurationError, match=r"Rows were given in the place of labels.*fit\(rows, validation=…\)"):
        new.fit(TEST, TEST)
    with pytest.raises(ConfigurationError, match="time_limit=-1 cannot be used"):
        new.fit(TEST, time_limit=-1)
