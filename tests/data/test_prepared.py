"""Published data sets as folders: what is in their files, and that nothing is overwritten or half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emoji_files import LABEL_COUNTS, N_ROWS, package_files, write_archive
from mmadapters.cli.extract_config import ExtractConfig
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.data.files import read_rows, split_rows
from mmadapters.data.sources import emoji, movielens, prepared
from mmadapters.data.sources.emoji import TABLE_COLUMNS
from mmadapters.data.sources.movielens import AUDIENCE_COLUMNS
from mmadapters.data.sources.prepared import prepare_emoji, prepare_movies
from mmadapters.errors import ConfigurationError, DataError

SPLITS = ("train", "validation", "test")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package that counts as the published one."""
    monkeypatch.setattr(emoji, "N_ROWS", N_ROWS)
    monkeypatch.setattr(emoji, "LABEL_COUNTS", LABEL_COUNTS)
    return write_archive(tmp_path / "emoji.tgz", package_files())


@pytest.fixture
def movies(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Twenty films in the columns of ``movie_splits``, which gives them in splits."""
    random = np.random.default_rng(0)
    columns = {
        "movie_id": range(20),
        "title": [f"Film {number}" for number in range(20)],
        "genres": [["Drama", "War"] if number % 3 else ["Comedy"] for number in range(20)],
        **{name: random.random(20) for name in AUDIENCE_COLUMNS},
        "viewers": list(random.random((20, 64)).astype(np.float32)),
    }
    frame = pd.DataFrame(columns)
    frame.loc[3, "gender_F_rating_mean"] = np.nan

    def splits(seed: int, cache_dir: Path | None = None) -> dict[str, pd.DataFrame]:
        parts = split_rows(frame, movielens.DEFAULT_FRACTIONS, seed)
        return {name: part.reset_index(drop=True) for name, part in parts.items()}

    monkeypatch.setattr(movielens, "movie_splits", splits)
    return frame


def test_the_folder_of_the_emoji(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared" / "emoji"
    written = prepare_emoji(folder, seed=3, package=archive)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.txt", "extract.yaml", "pictures", "rows.csv", "test.csv", "train.csv", "train.yaml"),
        "validation.csv",
    ]
    rows = read_rows(folder / "rows.csv")
    expected = emoji.emoji_rows(emoji.load_emoji(archive))
    assert rows["labels"].str.split("|").tolist() == expected["labels"].tolist()
    others = ["id", "name", "text", "picture", *TABLE_COLUMNS]
    pd.testing.assert_frame_equal(rows[others], expected[others])
    for name in SPLITS:
        split = read_rows(folder / f"{name}.csv")
        of_split = rows[rows["split"] == name].drop(columns="split").reset_index(drop=True)
        pd.testing.assert_frame_equal(split, of_split)
        assert split["id"].tolist() == emoji.emoji_splits(expected, seed=3)[name]["id"].tolist()
        assert written.split_rows[name] == len(split)
    files = package_files()
    assert len(list((folder / "pictures").iterdir())) == N_ROWS
    for path in rows["picture"]:
        assert (folder / path).read_bytes() == files[f"img/google/64/{Path(path).name}"]
    assert {label: sum(counts.values()) for label, counts in written.label_counts.items()} == LABEL_COUNTS
    assert written.label_counts["Flags"]["test"] == sum("Flags" in label for label in split["labels"])
    assert "Emoji: 59 rows, 7 labels" in (folder / "README.txt").read_text()


def test_the_settings_of_the_emoji_can_be_used(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_emoji(tmp_path / "emoji", seed=3, package=archive)
    monkeypatch.chdir(tmp_path / "emoji")
    extraction = load_settings(ExtractConfig, Path("extract.yaml"))
    assert extraction.modalities["picture"].to_spec("picture").encoder == "efficientnet-lite0"
    assert (Path(extraction.data.rows).is_file(), extraction.data.id) == (True, "id")
    run = load_settings(RunConfig, Path("train.yaml"))
    assert run.seed == 3
    assert run.modalities["picture"].store == extraction.store
    table = run.modalities["table"].to_source("table")
    assert table.columns == TABLE_COLUMNS
    rows = read_rows(run.data.train)
    assert {run.data.text, run.data.label, run.data.id, *table.columns} <= set(rows)
    assert all(pd.api.types.is_numeric_dtype(rows[name]) for name in table.columns)
    assert run.data.label_separator == "|"
    assert run.training == {}


def test_the_folder_of_the_movies(movies: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = prepare_movies(tmp_path / "movies", seed=1)
    assert written.split_rows == {"train": 14, "validation": 2, "test": 4}
    monkeypatch.chdir(tmp_path / "movies")
    run = load_settings(RunConfig, Path("train.yaml"))
    assert run.seed == 1
    assert run.modalities["audience"].to_source("audience").columns == AUDIENCE_COLUMNS
    assert run.modalities["viewers"].column == "viewers"
    parts = [read_rows(file) for file in (run.data.train, run.data.validation, run.data.test)]
    together = pd.concat(parts).sort_values("movie_id").reset_index(drop=True)
    assert list(together["genres"].map(list)) == list(movies["genres"])
    np.testing.assert_array_equal(np.stack(together["viewers"]), np.stack(movies["viewers"]))
    pd.testing.assert_frame_equal(together[list(AUDIENCE_COLUMNS)], movies[list(AUDIENCE_COLUMNS)])
    assert written.label_counts["Comedy"] == {
        name: sum("Comedy" in labels for labels in part["genres"]) for name, part in zip(SPLITS, parts, strict=True)
    }
    assert list(written.label_counts) == ["Drama", "War", "Comedy"]


@pytest.mark.parametrize("prepare", [prepare_emoji, prepare_movies])
def test_a_folder_with_something_in_it_is_refused_before_anything_is_fetched(
    prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*args: object, **kwargs: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(emoji, "load_emoji", fetch)
    monkeypatch.setattr(movielens, "movie_splits", fetch)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty, and nothing in it is overwritten. Name a new folder"):
        prepare(tmp_path)
    with pytest.raises(ConfigurationError, match=r"'.*notes\.txt' is a file, and a folder is to be written there"):
        prepare(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "emoji").mkdir()
    prepare_emoji(tmp_path / "emoji", package=archive)
    assert (tmp_path / "emoji" / "train.yaml").is_file()


def test_a_failure_leaves_nothing(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(frame: pd.DataFrame, path: Path) -> None:
        raise DataError("the disk is full")

    monkeypatch.setattr(prepared, "write_rows", fail)
    with pytest.raises(DataError, match="the disk is full"):
        prepare_emoji(tmp_path / "emoji", package=archive)
    assert [path.name for path in tmp_path.iterdir()] == ["emoji.tgz"]


def test_what_somebody_wrote_meanwhile_stays(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = prepared.write_rows

    def write_and_disturb(frame: pd.DataFrame, path: Path) -> None:
        write(frame, path)
        (tmp_path / "emoji").mkdir(exist_ok=True)
        (tmp_path / "emoji" / "theirs.txt").write_text("theirs")

    monkeypatch.setattr(prepared, "write_rows", write_and_disturb)
    with pytest.raises(ConfigurationError, match="is not empty"):
        prepare_emoji(tmp_path / "emoji", package=archive)
    assert [path.name for path in (tmp_path / "emoji").iterdir()] == ["theirs.txt"]
