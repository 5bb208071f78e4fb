"""What columns are taken for: by their values, and paths by what their files hold."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictor_rows import write_clip, write_picture, write_sound

from mmadapters.errors import DataError
from mmadapters.predictor import guessing
from mmadapters.predictor.guessing import KINDS, guess_columns

TEXTS = [f"a long text about the number {i} and other things" for i in range(12)]


def kinds(frame: pd.DataFrame, root: str | Path = ".", **given: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    guesses = guess_columns(frame, given, str(root), True)
    assert [guess.column for guess in guesses] == list(frame.columns)
    assert all(guess.reason for guess in guesses)
    return {guess.column: guess.kinds for guess in guesses}


def test_values_tell_texts_numbers_categories_and_lists() -> None:
    frame = pd.DataFrame(
        {
            "plot": TEXTS,
            "year": range(1950, 1962),
            "price": ["1.5", "2", None, "n/a", *map(str, range(8, 16))],
            "country": ["fr", "us"] * 6,
            "adult": [True, False] * 6,
            "actors": ["Ann Lee|Bo Díaz", "Bo Díaz"] * 6,
            "tags": [["a", "b"], ["b"]] * 6,
            "vector": [np.ones(3)] * 12,
            "file": [f"{i}.npy" for i in range(12)],
            "director": ["Jo Blo", "Ka Lo", "Mi No"] * 4,
        }
    )
    found = kinds(frame)
    assert found == {
        "plot": ("text",),
        "year": ("numeric",),
        "price": ("numeric",),
        "country": ("categorical",),
        "adult": ("categorical",),
        "actors": ("multi_valued",),
        "tags": ("multi_valued",),
        "vector": ("vector",),
        "file": ("vector",),
        "director": ("categorical",),
    }
    by_column = {guess.column: guess for guess in guess_columns(frame, {}, ".", True)}
    assert by_column["price"].reason.endswith("1 of 11 cells are no numbers")
    assert by_column["actors"].separator == "|"
    assert by_column["tags"].separator is None


def test_what_tells_nothing_is_left_out() -> None:
    frame = pd.DataFrame(
        {
            "plot": TEXTS,
            "id": range(12),
            "movie_id": [f"tt{i}" for i in range(12)],
            "code": [f"x{i:03}" for i in range(12)],
            "Unnamed: 0": range(12),
            "nothing": [None] * 12,
            "same": ["x"] * 12,
            "released": [f"2020-01-{i + 1:02}" for i in range(12)],
            "seen": [datetime.datetime(2020, 1, i + 1) for i in range(12)],
            "flag": ["yes", None] * 6,
            "director_id": [1, 2, 3] * 4,
            "lasts": pd.to_timedelta(range(12), unit="h"),
            "waits": [datetime.timedelta(hours=i) for i in range(12)],
            "month": pd.period_range("2020-01", periods=12, freq="M"),
        }
    )
    found = kinds(frame)
    assert {name for name, kind in found.items() if kind == ("ignore",)} == {
        "id",
        "movie_id",
        "code",
        "Unnamed: 0",
        "nothing",
        "same",
        "released",
        "seen",
        "lasts",
        "waits",
        "month",
    }
    # What is there in some rows only tells something, and codes that come again are categories.
    assert found["flag"] == found["director_id"] == ("categorical",)
    reasons = {guess.column: guess.reason for guess in guess_columns(frame, {}, ".", True)}
    assert "names rows" in reasons["movie_id"]
    assert "names rows" in reasons["code"]
    assert "dates are not read" in reasons["seen"]
    assert "dates are not read" in reasons["month"]
    assert "durations are not read" in reasons["lasts"]
    assert "durations are not read" in reasons["waits"]


def test_what_a_table_says_of_its_columns_is_believed() -> None:
    frame = pd.DataFrame(
        {
            "plot": TEXTS,
            "codes": pd.Categorical([1, 2, 3] * 4),
            "colour": pd.Categorical(["red", "blue"] * 6),
            "truth": [True, False] * 6,
            "perhaps": pd.array([True, None, False] * 4, dtype="boolean"),
            "counts": pd.array([1, None, 3] * 4, dtype="Int64"),
        }
    )
    found = kinds(frame)
    assert found.pop("plot") == ("text",)
    assert found.pop("counts") == ("numeric",)
    assert set(found.values()) == {("categorical",)}


def test_a_model_reads_the_two_longest_texts() -> None:
    frame = pd.DataFrame(
        {
            "title": [f"film of {i}" for i in range(12)],
            "plot": TEXTS,
            "review": [f"{text} {text}" for text in TEXTS],
            "notes": [f"note {i}" for i in range(12)],
        }
    )
    assert [name for name, kind in kinds(frame).items() if kind == ("text",)] == ["plot", "review"]
    given = kinds(frame, title=("text",))
    assert [name for name, kind in given.items() if kind == ("text",)] == ["title", "review"]
    reason = next(guess.reason for guess in guess_columns(frame, {}, ".", True) if guess.column == "notes")
    assert "at most two text columns" in reason


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files whose names say one thing and whose content another."""
    folder = tmp_path_factory.mktemp("media")
    for i in range(3):
        write_picture(folder / f"picture-{i}.png", 20 * i)
        (folder / f"picture-{i}").write_bytes((folder / f"picture-{i}.png").read_bytes())
        (folder / f"picture-{i}.mp3").write_bytes((folder / f"picture-{i}.png").read_bytes())
        write_sound(folder / f"sound-{i}.wav", 300 + i)
        write_clip(folder / f"clip-{i}.mp4", 20 * i, 400.0)
        write_clip(folder / f"silent-{i}.mp4", 20 * i, None)
    return folder


def test_files_tell_by_what_they_hold(media: Path) -> None:
    columns = {"named": "picture-{}.png", "nameless": "picture-{}", "misnamed": "picture-{}.mp3"}
    columns |= {"sound": "sound-{}.wav", "clip": "clip-{}.mp4", "silent": "silent-{}.mp4"}
    frame = pd.DataFrame({name: [form.format(i % 3) for i in range(6)] for name, form in columns.items()})
    frame["absolute"] = [media / f"picture-{i % 3}.png" for i in range(6)]
    frame["some"] = ["picture-0.png", None, "gone.png", "picture-1.png", None, "picture-2.png"]
    found = kinds(frame, media)
    assert found == {
        "named": ("image",),
        "nameless": ("image",),
        "misnamed": ("image",),
        "sound": ("audio",),
        "clip": ("video", "audio"),
        "silent": ("video",),
        "absolute": ("image",),
        "some": ("image",),
    }
    reasons = {guess.column: guess.reason for guess in guess_columns(frame, {}, str(media), True)}
    assert reasons["misnamed"] == "3 of 3 paths that were followed lead to files: images; 3 have another ending"
    assert reasons["some"] == "3 of 4 paths that were followed lead to files: images"
    assert reasons["clip"].endswith("videos with sound")


def test_paths_that_lead_nowhere_are_an_error_that_says_where_they_start(media: Path) -> None:
    frame = pd.DataFrame({"poster": [f"posters/{i}.png" for i in range(6)]})
    with pytest.raises(DataError) as error:
        kinds(frame, media)
    message = str(error.value)
    assert "Column 'poster' holds paths of media, and none of 6 that were looked at leads to a file" in message
    assert "'posters/0.png': the file does not exist" in message
    assert f"Relative paths start from '{media}'" in message
    assert "column_kinds={'poster': 'ignore'}" in message
    assert kinds(frame, media, poster=("ignore",)) == {"poster": ("ignore",)}
    addresses = pd.DataFrame({"poster": [f"https://example.org/{i}.png" for i in range(6)]})
    with pytest.raises(DataError, match="the path is a URL"):
        kinds(addresses, media)
    (media / "table.png").write_text("a,b\n1,2\n")
    tables = pd.DataFrame({"poster": ["table.png"] * 6})
    with pytest.raises(DataError, match="lead to are no images, videos or sounds that are known"):
        kinds(tables, media)


def test_paths_may_not_leave_a_root_that_was_given(media: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"poster": [str(media / f"picture-{i}.png") for i in range(3)]})
    with pytest.raises(DataError, match="leads out of the data root"):
        guess_columns(frame, {}, str(tmp_path), False)


def test_many_rows_are_judged_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "SAMPLED_ROWS", 5)
    frame = pd.DataFrame({"a": [1] * 11 + [2], "b": [1.0] * 6 + [2.0] * 6})
    # The sample has no 2 in it but its last row; constant is only what is the same everywhere.
    assert len(guessing.sample_of(frame)) == 5
    frame = pd.DataFrame({"a": [1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]})
    assert kinds(frame) == {"a": ("numeric",)}


CELL = st.one_of(st.none(), st.integers(-5, 5), st.floats(allow_nan=True), st.text(max_size=8), st.booleans())


@settings(max_examples=80, deadline=None)
@given(cells=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=10))
def test_any_column_is_taken_for_something(cells: list[tuple[object, object]]) -> None:
    frame = pd.DataFrame(cells, columns=["left", "right"], dtype=object)
    found = kinds(frame)
    assert all(len(kind) == 1 and kind[0] in KINDS for kind in found.values())
    assert sum(kind == ("text",) for kind in found.values()) <= 2
