"""docs/datasets.md on the sets of the field: its commands run, and it states what is checked."""

from __future__ import annotations

import re
from pathlib import Path

import jsonl_files
import mmimdb_files
import moviescope_files
import pytest
from published_runs import run_command

from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.data.files import read_rows
from mmadapters.data.sources.food101 import Food101Counts
from mmadapters.data.sources.hateful_memes import HatefulMemesCounts
from mmadapters.data.sources.mmimdb import MMIMDbCounts
from mmadapters.data.sources.moviescope import GENRES, MoviescopeCounts

DOCUMENT = Path(__file__).parents[3] / "docs" / "datasets.md"


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="a source distribution has no documents")
def test_the_commands_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = tmp_path / "downloads"
    moviescope_files.write_released(downloads / "moviescope")
    mmimdb_files.write_archive(downloads / "mmimdb")
    jsonl_files.write_set(downloads / "food101", jsonl_files.food101_row)
    jsonl_files.write_set(downloads / "vsnli", jsonl_files.vsnli_row)
    jsonl_files.write_set(downloads / "hateful_memes", jsonl_files.memes_row)
    jsonl_files.write_set(downloads / "mpaa", jsonl_files.mpaa_row)
    lines = re.findall(r"^mmadapters (data .* downloads/.*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert [line.split()[1] for line in lines] == [
        *("moviescope", "mmimdb", "food101", "vsnli", "hateful-memes", "mpaa")
    ]
    monkeypatch.chdir(tmp_path)
    for line in lines:
        run_command(*line.split(), "--allow-partial")
        folder = tmp_path / line.split()[-1]
        settings = load_settings(RunConfig, folder / "train.yaml")
        columns = read_rows(folder / settings.data.train).columns
        schema = settings.to_schema()
        assert {*schema.text_columns, *schema.label_columns, *schema.input_columns, "id"} <= {*columns}
        assert all((folder / f"{name}.parquet").is_file() for name in ("train", "validation", "test"))
        assert (folder / "rows.parquet").is_file() == (folder / "extract.yaml").is_file() == (folder.name != "mpaa")


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="a source distribution has no documents")
def test_the_document_states_what_is_checked() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    memes = HatefulMemesCounts()
    for rows in (MoviescopeCounts().rows, MMIMDbCounts().rows, memes.seen, memes.unseen):
        first, second, third = (f"{count:,}" for count in rows.values())
        assert f"{first}, {second} and {third}" in text
    food = Food101Counts()
    assert f"{food.rows['validation']:,} validation rows, {food.classes} dishes" in text
    assert f"{len(GENRES)} genres" in text
    assert f"each of {len(MMIMDbCounts().test_positives)} genres" in text
