"""Trainings on rows that stay on the disk: the same preprocessing, some held out, and media found on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predictor_rows import QUICK, WORDS, movie_rows, predictor, save_vit, write_picture

from mmadapters import MultimodalPredictor
from mmadapters.data.files import write_rows
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.predictor import source_survey, training_run

COLUMNS: dict[str, Any] = {"text": "plot", "tabular": ["budget", "country"], "vectors": "viewers"}
ONCE = {**QUICK, "num_train_epochs": 2}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = movie_rows(120).drop(columns="movie")
    rows.loc[rows.index[[5, 50]], "genres"] = None
    for place, start in enumerate(range(0, 120, 40)):
        write_rows(rows.iloc[start : start + 40], folder / f"part-{place}.parquet")
    return folder


def test_rows_in_files_are_held_out_and_trained_on(shards: Path, tiny_backbone: Path, capsys: Any) -> None:
    fitted = predictor(tiny_backbone, **COLUMNS, verbose=1, training=ONCE).fit(shards)
    printed = " ".join(capsys.readouterr().out.split())
    assert "The rows are read while the model is trained; first they are gone through once" in printed
    assert "2 of 120 rows have no label and are left out" in printed
    assert "23 of 120 rows are held out" in printed
    assert "Training on 95 rows" in printed
    assert fitted.classes_.tolist() == ["big", "dark", "none", "war"]
    assert [modality.name for modality in fitted.artefact_.preprocessor.modalities] == ["table", "viewers"]
    assert fitted.metrics_["micro_average_precision"] > 0.4
    assert len(fitted.predict(movie_rows(10, seed=4))) == 10
    again = predictor(tiny_backbone, **COLUMNS, training=ONCE).fit(str(shards / "*.parquet"))
    assert again.predict_proba(movie_rows(10, seed=4)).equals(fitted.predict_proba(movie_rows(10, seed=4)))


def test_what_is_learned_of_the_rows_is_what_rows_in_memory_teach(
    shards: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = movie_rows(30, seed=2)
    streamed = predictor(tiny_backbone, **COLUMNS, training=ONCE).fit(shards, validation=validation)
    rows = pd.concat([pd.read_parquet(file) for file in sorted(shards.iterdir())])
    in_memory = predictor(tiny_backbone, **COLUMNS, training=ONCE).fit(rows, validation=validation)
    learned, expected = (fitted.artefact_.preprocessor.to_dict() for fitted in (streamed, in_memory))
    # Means of chunks are put together in another order.
    tables = [state.pop("tabular")["table"] for state in (learned, expected)]
    assert learned == expected
    (budget,), (known,) = (table.pop("numeric") for table in tables)
    assert (budget["mean"], budget["std"]) == pytest.approx((known["mean"], known["std"]), rel=1e-12)
    assert tables[0] == tables[1]
    # A frame whose texts are too long together is streamed, too: from memory.
    monkeypatch.setattr(
        training_run, "is_streamed", lambda rows, characters, limited: rows == 118 and characters > 20 and not limited
    )
    large = predictor(tiny_backbone, **COLUMNS, training=ONCE).fit(rows, validation=validation)
    assert large.artefact_.preprocessor.to_dict() == in_memory.artefact_.preprocessor.to_dict()
    assert large.metrics_.keys() == in_memory.metrics_.keys()


def test_an_object_that_gives_rows(tiny_backbone: Path) -> None:
    records = movie_rows(60).reset_index(drop=True).to_dict("records")

    class Stream:
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter(records)

    fitted = predictor(tiny_backbone, **COLUMNS, training=ONCE).fit(Stream())
    assert fitted.n_features_in_ == 5
    guessed = predictor(tiny_backbone, training=ONCE, column_kinds={"plot": "text", "viewers": "ignore"}).fit(Stream())
    assert guessed.artefact_.preprocessor.schema.id == "movie"


@pytest.mark.slow
def test_media_are_extracted_on_the_way(tiny_backbone: Path, tmp_path: Path, capsys: Any) -> None:
    save_vit(tmp_path / "vit")
    for shade in range(4):
        write_picture(tmp_path / "rows" / "posters" / f"{shade}.png", 80 * shade)
    rows = pd.DataFrame(
        {
            "plot": [f"a {WORDS[i % 6]} of the {WORDS[i % 5]}" for i in range(80)],
            "kind": ["dark" if i % 4 < 2 else "bright" for i in range(80)],
            "poster": [None if i % 9 == 4 else f"posters/{i % 4}.png" for i in range(80)],
            "nothing": [None] * 80,
        }
    )
    rows.loc[3, "poster"] = "posters/gone.png"
    for half in range(2):
        write_rows(rows.iloc[half * 40 : half * 40 + 40], tmp_path / "rows" / f"{half}.jsonl")
    fitted = predictor(
        tiny_backbone,
        label="kind",
        text="plot",
        image="poster",
        audio="nothing",
        extractors={"poster": {"encoder": str(tmp_path / "vit"), "device": "cpu"}},
        cache_dir=tmp_path / "cache",
        training={**QUICK, "num_train_epochs": 16, "learning_rate": 3e-2},
        verbose=1,
    ).fit(str(tmp_path / "rows" / "*.jsonl"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "poster: 1 of 71 cells cannot be used and count as missing, the first: posters/gone.png" in printed
    assert "nothing: no row has it, so the model does not read it" in printed
    assert printed.count("poster: extracting features of") == 1
    fitted.set_params(root=tmp_path / "rows", verbose=0)
    assert fitted.score(rows) > 0.8
    reloaded = MultimodalPredictor.load(
        fitted.save(tmp_path / "model"), root=tmp_path / "rows", cache_dir=tmp_path / "other", verbose=0
    )
    assert reloaded.predict_proba(rows).equals(fitted.predict_proba(rows))


def test_no_label_loses_its_last_row_and_the_draw_is_by_chance(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.DataFrame({"plot": ["war"] * 60, "kind": ["a", "b"] * 29 + ["once", "twice"], "row": range(60)})
    write_rows(rows, tmp_path / "rows.csv")
    held: list[list[int]] = []
    survey = source_survey._Drawn.held_out

    def noted(self: Any, size: int, *args: Any) -> Any:
        # So many that rare labels are drawn, too.
        frame = survey(self, 55, *args)
        held.append(frame["row"].tolist())
        return frame

    monkeypatch.setattr(source_survey._Drawn, "held_out", noted)
    monkeypatch.setattr(source_survey, "MOST_HELD_OUT", 57)
    for seed in (0, 0, 1):
        fitted = predictor(tiny_backbone, label="kind", text="plot", tabular="row", training=ONCE, seed=seed).fit(
            [tmp_path / "rows.csv"]
        )
        assert fitted.classes_.tolist() == ["a", "b", "once", "twice"]
    assert held[0] == held[1] != held[2]
    assert all(not {58, 59} & set(rows) for rows in held)
    assert all(50 <= len(rows) <= 55 for rows in held)
    assert np.mean([len(set(rows) & set(range(30))) for rows in held]) > 20


def test_mistakes_in_files_are_named(shards: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'genre'.*Did you mean 'genres'"):
        predictor(tiny_backbone, **COLUMNS, label="genre").fit(shards)
    with pytest.raises(ConfigurationError, match="No label was named"):
        predictor(tiny_backbone, **COLUMNS, label=None).fit(shards)
    with pytest.raises(ConfigurationError, match="adapter has no option 'width'"):
        predictor(tiny_backbone, **COLUMNS, adapter={"width": 8}).fit(shards)
    with pytest.raises(DataError, match="leads to no file with rows"):
        predictor(tiny_backbone, **COLUMNS).fit(str(tmp_path / "none-*.csv"))
    (tmp_path / "empty.csv").write_text("plot,genres\n")
    with pytest.raises(DataError, match="There are no rows"):
        predictor(tiny_backbone, text="plot").fit([tmp_path / "empty.csv"])
    (tmp_path / "same.csv").write_text("plot,genres\nwar,a\nlove,a\n")
    with pytest.raises(DataError, match="only the label 'a'"):
        predictor(tiny_backbone, text="plot").fit([tmp_path / "same.csv"])
    (tmp_path / "none.csv").write_text("plot,genres\nwar,\nlove,\n")
    with pytest.raises(DataError, match="'genres' is empty in all 2 rows|no value"):
        predictor(tiny_backbone, text="plot").fit([tmp_path / "none.csv"])
