"""From what was said of columns, or guessed, to modalities and their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmadapters.data.schema import TabularColumns, VectorColumn
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.predictor.column_plan import ColumnChoice, ColumnPlan, MediaColumn, plan_columns


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"m{i}" for i in range(8)],
            "genres": ["war|love", "war"] * 4,
            "plot": [f"a long text about the number {i}" for i in range(8)],
            "title": [f"the film number {i}" for i in range(8)],
            "year": range(8),
            "country": ["fr", "us"] * 4,
            "actors": ["Ann|Bo", "Bo"] * 4,
            "keywords": ["war;sea", "sea"] * 4,
            "viewers": [np.ones(3)] * 8,
            "a": [0.5] * 8,
            "b": range(8),
            "trailer file": [f"t{i}.mp4" for i in range(8)],
            "text": ["x"] * 8,
        }
    )


def plan(**choice: Any) -> ColumnPlan:
    return plan_columns(table(), ColumnChoice(**{"label": "genres", **choice}), ".", True)


def test_all_that_is_guessed() -> None:
    found = plan(column_kinds={"trailer file": "ignore", "text": "ignore"})
    assert found.text == ("plot", "title")
    assert found.tables == (
        TabularColumns("table", ("year", "b"), ("country",), multi_valued=("actors",), value_separator="|"),
        TabularColumns("table_2", multi_valued=("keywords",), value_separator=";"),
    )
    assert found.vectors == (VectorColumn("viewers", "viewers"),)
    assert found.modality_names == ["table", "table_2", "viewers"]
    assert found.id == "id"
    assert [guess.column for guess in found.guesses] == [name for name in table().columns if name != "genres"]
    other = plan(id="title", column_kinds={"trailer file": "ignore"})
    assert (other.id, other.text) == ("title", ("plot",))


def test_all_that_is_said() -> None:
    found = plan(
        text=["title", "plot"],
        video="trailer file",
        audio="trailer file",
        tabular=["year", "country", "actors"],
        vectors={"who": "viewers", "pair": ["a", "b"]},
    )
    assert found.text == ("title", "plot")
    assert found.media == (
        MediaColumn("trailer_file", "video", "trailer file"),
        MediaColumn("trailer_file_audio", "audio", "trailer file"),
    )
    assert found.tables == (TabularColumns("table", ("year",), ("country",), multi_valued=("actors",)),)
    assert found.vectors == (VectorColumn("who", "viewers"), VectorColumn("pair", ("a", "b")))
    assert found.modality_names == ["trailer_file", "trailer_file_audio", "table", "who", "pair"]
    assert found.numeric_columns == ["year"]
    assert found.guesses == ()
    left = found.without(["trailer_file", "table", "who"])
    assert left.modality_names == ["trailer_file_audio", "pair"]


def test_names_that_a_modality_cannot_have_are_changed() -> None:
    found = plan(text="plot", image=["text", "trailer file"], vectors=["viewers"], tabular="year")
    assert found.modality_names == ["text_", "trailer_file", "table", "viewers"]
    named = plan(text="plot", image={"still": "trailer file", "poster": "text"})
    assert named.media == (MediaColumn("still", "image", "trailer file"), MediaColumn("poster", "image", "text"))


def test_kinds_win_over_what_values_look_like() -> None:
    found = plan(text="plot", tabular=["year", "actors"], column_kinds={"year": "categorical", "actors": "categorical"})
    assert found.tables == (TabularColumns("table", categorical=("year", "actors")),)
    added = plan(text="plot", column_kinds={"title": "text", "year": "numeric", "viewers": "vector", "text": "audio"})
    assert added.text == ("plot", "title")
    assert added.modality_names == ["text_", "table", "viewers"]
    both = plan(column_kinds={"trailer file": ("video", "audio"), "text": "ignore"})
    assert [(media.modality, media.kind) for media in both.media] == [
        ("trailer_file", "video"),
        ("trailer_file_audio", "audio"),
    ]
    left_out = plan(text="plot", tabular=["year", "b"], column_kinds={"b": "ignore"})
    assert left_out.tables == (TabularColumns("table", ("year",)),)


def test_indicator_columns_are_no_inputs() -> None:
    frame = table().assign(war=[0, 1] * 4, love=[1, 0] * 4).drop(columns=["genres", "trailer file", "text"])
    found = plan_columns(frame, ColumnChoice(label=["war", "love"]), ".", True)
    assert "war" not in [guess.column for guess in found.guesses]


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ({"text": "plto"}, DataError, "no column 'plto'.*Did you mean 'plot'"),
        ({"label": "genre"}, DataError, "no column 'genre'.*Did you mean 'genres'"),
        ({"text": "plot", "tabular": ["yaer"]}, DataError, "no column 'yaer'.*Did you mean 'year'"),
        ({"column_kinds": {"yeer": "numeric"}}, DataError, "no column 'yeer'"),
        ({"column_kinds": {"year": "number"}}, ConfigurationError, "'year' the kind 'number'.*Did you mean 'numeric'"),
        ({"column_kinds": {"year": ("numeric", "text")}}, ConfigurationError, "only media can be two"),
        ({"column_kinds": ["year"]}, ConfigurationError, r"column_kinds=\['year'\] cannot be used"),
        ({"tabular": ["year"]}, DataError, "No column of text was given.*Name it by text"),
        ({"text": "plot", "image": ["text", "text"]}, ConfigurationError, "'text' is given as image twice"),
        ({"text": 7}, ConfigurationError, "text was given 7. Give the name of a column"),
        ({"text": "plot", "image": {"still": ["a", "b"]}}, ConfigurationError, "for one modality"),
        ({"text": "plot", "tabular": ["viewers"]}, DataError, "holds vectors. Give it under vectors: vectors="),
    ],
)
def test_what_cannot_be_planned(choice: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(**choice)


def test_without_a_text_there_is_nothing_to_read() -> None:
    frame = table()[["genres", "year", "country"]]
    with pytest.raises(DataError, match="None of the columns 'year', 'country' was taken for a text.*column_kinds"):
        plan_columns(frame, ColumnChoice(label="genres"), ".", True)
