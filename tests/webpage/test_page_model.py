"""What a page asks for, what it answers, and what becomes of what cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmadapters import MultimodalPredictor
from mmadapters.artefact import Artefact, load_artefact
from mmadapters.data.files import read_rows
from mmadapters.errors import DataError
from mmadapters.webpage.answer import Answer, Change, LabelScore
from mmadapters.webpage.examples import read_examples
from mmadapters.webpage.html import field_error, results
from mmadapters.webpage.model import PageModel, Reply

ALL = ["poster", "trailer", "trailer_audio", "table", "viewers"]


@pytest.fixture(scope="module")
def artefact(page_folder: Path) -> Artefact:
    return load_artefact(page_folder / "model")


@pytest.fixture(scope="module")
def model(artefact: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageModel]:
    page = PageModel(artefact, tmp_path_factory.mktemp("uploads"), "movies")
    with page.workers():
        yield page


@pytest.fixture(scope="module")
def whole(model: PageModel, page_folder: Path) -> dict[str, Any]:
    """The values of a row that has everything."""
    examples = read_examples(page_folder / "rows" / "movies.csv", model)
    return next(e.values for e in examples if all(value is not None for value in e.values.values()))


def test_there_is_a_field_for_each_column_that_the_model_reads(model: PageModel) -> None:
    assert [(field.name, field.kind) for field in model.fields] == [
        ("plot", "text"),
        ("poster", "image"),
        ("trailer", "video"),
        ("year", "number"),
        ("budget", "number"),
        ("runtime", "number"),
        ("country", "category"),
        ("studio", "category"),
        ("season", "category"),
        ("moods", "categories"),
        ("viewers", "vector"),
    ]
    assert [group.modalities for group in model.groups] == [
        (),
        ("poster",),
        ("trailer", "trailer_audio"),
        ("table",),
        ("viewers",),
    ]
    assert model.modalities == ALL
    by_name = {field.name: field for field in model.fields}
    assert by_name["moods"].choices == ("calm", "grim", "loud")
    assert by_name["viewers"].width == 3


def test_the_answer_is_what_the_predictor_says(model: PageModel, page_folder: Path) -> None:
    predictor = MultimodalPredictor.load(page_folder / "model", verbose=0, cache_dir=page_folder / "cache")
    rows = read_rows(page_folder / "rows" / "movies.csv").iloc[[2]]
    rows.attrs = {"root": str(page_folder / "rows")}
    example = read_examples(page_folder / "rows" / "movies.csv", model)[2]
    answer = model.reply(example.values, ALL).answer
    assert answer is not None
    expected = predictor.predict_proba(rows).iloc[0]
    assert {label.label: label.probability for label in answer.labels} == pytest.approx(dict(expected), abs=1e-6)
    assert list(answer.prediction) == predictor.predict(rows).iloc[0]
    told = predictor.explain(rows).rows.iloc[0]
    shares = {f"share_{name}": share for name, share in zip(answer.names, answer.shares, strict=True)}
    assert shares == pytest.approx({name: told[name] if told[name] == told[name] else 0.0 for name in shares}, abs=1e-6)
    assert {change.modality: change.mean for change in answer.changes} == pytest.approx(
        {name: told[f"change_without_{name}"] for name in ALL if told[f"share_{name}"] == told[f"share_{name}"]},
        abs=1e-6,
    )


def test_what_is_left_out_is_as_if_it_had_not_been_given(model: PageModel, whole: dict[str, Any]) -> None:
    with_all = model.reply(whole, ALL).answer
    without = model.reply(whole, [name for name in ALL if name != "poster"]).answer
    not_given = model.reply({**whole, "poster": None}, ALL).answer
    assert with_all is not None
    assert without is not None
    assert not_given is not None
    assert without.labels == not_given.labels != with_all.labels
    assert without.present == (True, False, True, True, True, True)
    (change,) = [change for change in with_all.changes if change.modality == "poster"]
    after = {label.label: label.probability for label in without.labels}
    assert change.labels
    assert [after[name] for name, _, _ in change.labels] == pytest.approx(
        [new for _, _, new in change.labels], abs=1e-6
    )
    nothing = model.reply({}, []).answer
    assert nothing is not None
    assert nothing.changes == ()
    assert nothing.shares == pytest.approx((1.0, 0, 0, 0, 0, 0))


def test_a_file_that_cannot_be_used_is_told_at_its_field(model: PageModel, whole: dict[str, Any]) -> None:
    broken = model.folder / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    wide, text = model.folder / "wide.npy", model.folder / "numbers.txt"
    np.save(wide, np.zeros(4, np.float32))
    text.write_text("1 2 3")
    reply = model.reply({**whole, "poster": str(broken), "viewers": str(wide)}, ALL)
    assert reply.problems["poster"].startswith("broken.png: ")
    assert str(model.folder) not in "".join(reply.problems.values())
    assert reply.problems["viewers"] == "wide.npy has the shape (4,); the model reads (3,) or (steps, 3)."
    assert reply.answer is not None
    assert reply.answer.present == (True, False, True, True, True, False)
    swapped = model.reply({**whole, "trailer": whole["poster"], "viewers": str(text)}, ALL).problems
    assert "the file was given as video and holds an image" in swapped["trailer"]
    assert swapped["viewers"].startswith("'viewers': 'numbers.txt' is no '.npy' path")
    reply = model.reply({**whole, "year": "last year"}, ALL)
    assert reply.problems == {"year": "'last year' is no number."}
    assert str(model.folder) not in "".join(swapped.values())
    assert "poster" not in model.reply({**whole, "poster": str(broken)}, ALL[1:]).problems


def test_nothing_outside_the_folder_of_uploads_is_read(model: PageModel, page_folder: Path) -> None:
    np.save(page_folder / "secret.npy", np.ones(3, np.float32))
    given = {"poster": str(page_folder / "rows" / "posters"), "viewers": str(page_folder / "secret.npy")}
    assert all("out of the data root" in problem for problem in model.reply(given, ALL).problems.values())
    assert set(model.reply(given, ALL).problems) == {"poster", "viewers"}


def test_examples_fill_in_everything_and_tell_what_is_gone(model: PageModel, page_folder: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(page_folder / "rows" / "movies.csv").head(2)
    rows["poster"] = ["../outside.png", "posters/gone.png"]
    rows["year"] = ["long ago", "1999"]
    rows["country"] = ["New 1.0", None]
    rows.to_csv(tmp_path / "few.csv", index=False)
    first, second = read_examples(tmp_path / "few.csv", model)
    assert first.title == f"1. {rows['plot'][0][:43]}…"
    assert "leads out of the data root" in first.gone["poster"]
    assert first.gone["year"] == "long ago: it is no number"
    assert second.gone["poster"] == "posters/gone.png: the file does not exist"
    assert second.values["year"] == "1999"
    assert (first.values["country"], second.values["country"]) == ("New 1.0", None)
    assert second.values["moods"] == ["grim", "loud"]
    assert np.load(second.values["viewers"]).tolist() == [0.0625, -1.0, 1.0]
    rows.drop(columns="plot").to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(DataError, match="The rows have no column 'plot'"):
        read_examples(tmp_path / "less.csv", model)


def test_features_from_a_store_are_asked_for_as_files(artefact: Artefact, tmp_path: Path) -> None:
    page = PageModel(replace(artefact, predictor=None), tmp_path, "movies")
    asked = {field.name: (field.kind, field.width) for field in page.fields}
    assert asked["poster"] == ("vector", 8)
    assert asked["trailer_audio"] == ("vector", 96)
    np.save(tmp_path / "poster.npy", np.ones(8, np.float32))
    np.save(tmp_path / "sound.npy", np.ones((5, 96), np.float32))
    given = {"poster": str(tmp_path / "poster.npy"), "trailer_audio": str(tmp_path / "sound.npy")}
    answer = page.reply(given, page.modalities).answer
    assert answer is not None
    assert dict(zip(answer.names, answer.present, strict=True)) == {
        "text": True,
        "poster": True,
        "trailer": False,
        "trailer_audio": True,
        "table": True,
        "viewers": False,
    }


def an_answer(label: str = "war", **changes: Any) -> Answer:
    labels = (LabelScore(label, 0.75, 0.5, True), LabelScore("love", 0.25, 0.3, False))
    change = Change("<poster>", (), True, ((label, 0.75, 0.125),), 0.3)
    fields: dict[str, Any] = {"prediction": (label,), "labels": labels, "value": None, "names": ("text", "<poster>")}
    fields |= {"present": (True, True), "shares": (0.9, 0.1), "layers": (0, 1), "changes": (change,)}
    return Answer(**{**fields, "shares_by_layer": np.array([[0.9, 0.1], [0.8, 0.2]]), **changes})


def test_results_are_text_whatever_labels_and_modalities_are_called() -> None:
    page = results(Reply(an_answer('<b>&"war'), {}), [])
    assert "&#36;&#123;1+1}" in results(Reply(an_answer("${1+1}"), {}), [])
    assert "<b>&" not in page.replace("<b>Predict", "")
    assert "<poster>" not in page
    assert "&lt;b&gt;&amp;&quot;war 0.75 → 0.12" in page
    assert "left:50.0%" in page
    assert '<td class="mm-number">0.30</td>' in page
    assert "no label" in page


def test_results_without_modalities_labels_or_answer() -> None:
    alone = an_answer(names=("text",), present=(True,), shares=(1.0,), shares_by_layer=np.ones((2, 1)), changes=())
    assert "The model reads the text alone" in results(Reply(alone, {}), [])
    change = Change("table", ("2.5",), True, (("", 3.25, 2.5),), 0.75)
    regression = an_answer(prediction=("3.25",), labels=(), value=3.25, changes=(change,))
    page = results(Reply(regression, {}), [])
    assert "<strong>3.25</strong>" in page
    assert "3.25 → 2.5" in page
    off = results(Reply(an_answer(present=(True, False), shares=(1.0, 0.0), changes=()), {}), ["<poster>"])
    assert "left out" in off
    assert "the text alone decides" in off
    nothing = an_answer(prediction=(), labels=(LabelScore("war", 0.1, 0.5, False),))
    assert "no label: none reaches its threshold" in results(Reply(nothing, {}), [])
    many = tuple(LabelScore(f"label {i}", 0.5 - i / 100, None, i == 0) for i in range(20))
    assert "8 more labels" in results(Reply(an_answer(labels=many, prediction=("label 0",)), {}), [])
    assert "a &lt; b" in results(Reply(None, {}, "a < b"), [])
    assert field_error(None) == ""
    assert "&lt;i&gt;" in field_error("<i>")
