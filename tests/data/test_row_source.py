"""Sources of rows: every row once and in order, whatever the files; what cannot be streamed is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stream_rows import Rows, stream_rows, write_shards, write_text_shards

from mmadapters.data.files import ROOT
from mmadapters.data.row_reader import RowReader, Run, Wanted
from mmadapters.data.row_source import CHUNK_ROWS, RowIterable, ShardFiles, row_source
from mmadapters.errors import DataError

COLUMNS = ["row", "title", "year", "genres"]


def read(source, piece: int, skip: int = 0, columns=COLUMNS) -> pd.DataFrame:
    return pd.concat(source.read(piece, columns, skip))


def test_a_parquet_file_is_read_by_row_groups(tmp_path: Path) -> None:
    frame = stream_rows(5000)
    source = row_source(write_shards(frame, tmp_path, [300, 0, 2700], row_group_size=500))
    assert [(Path(piece.name).name, piece.rows, piece.first_row) for piece in source.pieces] == [
        ("part-0.parquet", 300, 0),
        ("part-2.parquet", 1500, 0),
        ("part-2.parquet", 1200, 1500),
        ("part-3.parquet", 1500, 0),
        ("part-3.parquet", 500, 1500),
    ]
    rows = pd.concat([read(source, place) for place in range(len(source.pieces))])
    assert rows["row"].tolist() == list(range(5000))
    assert rows["title"].tolist() == frame["title"].tolist()
    assert list(rows.columns) == COLUMNS
    assert max(len(part) for part in source.read(1, COLUMNS)) <= CHUNK_ROWS
    part = next(iter(source.read(2, COLUMNS, skip=1100)))
    assert part.index.tolist() == list(range(2600, 2700))
    assert part["row"].tolist() == list(range(2900, 3000))
    assert part.attrs[ROOT] == str(tmp_path.resolve())


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "ndjson"])
@pytest.mark.parametrize("skip", [0, 5, 1024, 1500])
def test_text_files_are_read_from_their_start(tmp_path: Path, ending: str, skip: int) -> None:
    frame = stream_rows(2000)
    source = row_source(write_text_shards(frame, tmp_path, ending, [1700]))
    assert [piece.rows for piece in source.pieces] == [None, None]
    rows = read(source, 0, skip)
    assert rows["row"].tolist() == list(range(skip, 1700))
    assert rows.index.tolist() == list(range(skip, 1700))
    assert rows["year"].astype(float).equals(frame["year"].iloc[skip:1700])
    assert [len(part) for part in source.read(0, COLUMNS)] == [1024, 676]
    assert read(source, 1)["row"].tolist() == list(range(1700, 2000))


def test_objects_are_iterated_anew_each_time() -> None:
    rows = Rows(stream_rows(1500))
    source = row_source(rows)
    assert isinstance(source, RowIterable)
    for skip in (0, 1100, 0):
        assert read(source, 0, skip)["row"].tolist() == list(range(skip, 1500))
    assert rows.times == 3
    assert not source.readable_in_workers


def test_files_are_found_by_file_folder_pattern_and_list(tmp_path: Path) -> None:
    frame = stream_rows(40)
    write_shards(frame, tmp_path / "a", [10, 10])
    write_shards(frame, tmp_path / "b", [])
    for ignored in ("_SUCCESS", ".part-0.parquet", "_metadata.parquet", "poster.npy", "dataset_info.json"):
        (tmp_path / "a" / ignored).write_text("")

    def names(rows) -> list[str]:
        return [f"{file.parent.name}/{file.name}" for file in row_source(rows).files]

    inside = ["a/part-0.parquet", "a/part-1.parquet", "a/part-2.parquet"]
    assert names(tmp_path / "a") == inside
    assert names(str(tmp_path / "a" / "part-*.parquet")) == inside
    assert names(str(tmp_path / "**" / "part-0.parquet")) == ["a/part-0.parquet", "b/part-0.parquet"]
    assert names([tmp_path / "b", str(tmp_path / "a" / "part-1.parquet")]) == ["b/part-0.parquet", "a/part-1.parquet"]
    assert isinstance(row_source(tmp_path / "a"), ShardFiles)
    source = row_source(tmp_path / "a")
    assert row_source(source) is source


def test_what_cannot_be_streamed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leads to no file with rows. Give a file, a folder of shards, or a pattern"):
        row_source(tmp_path / "*.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty' leads to no file"):
        row_source(tmp_path / "empty")
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(DataError, match=r"has the ending '.json'. Rows are streamed from '.parquet', '.csv', '.tsv'"):
        row_source(tmp_path / "rows.json")
    mixed = write_shards(stream_rows(5), tmp_path / "mixed", [])
    (mixed / "rows.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"mixed' has files with the endings '.csv', '.parquet'. Name those"):
        row_source(mixed)
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="broken.parquet' cannot be read as Parquet"):
        row_source(tmp_path / "broken.parquet")
    with pytest.raises(DataError, match="A generator was given .* gone through only once"):
        row_source(record for record in [{"a": 1}])
    for given, name in ((pd.DataFrame({"a": [1]}), "DataFrame"), ({"a": [1]}, "dict"), (7, "int")):
        with pytest.raises(DataError, match=f"A {name} was given as rows to stream. Accepted are"):
            row_source(given)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_an_absent_column_is_named(tmp_path: Path, ending: str) -> None:
    frame = stream_rows(5)
    folder = write_shards(frame, tmp_path, []) if ending == "parquet" else write_text_shards(frame, tmp_path, "csv", [])
    with pytest.raises(DataError, match=r"The rows have no column 'titel'.*Did you mean 'title'"):
        read(row_source(folder), 0, columns=["row", "titel"])


def test_a_row_that_is_no_dictionary_is_named() -> None:
    with pytest.raises(DataError, match="Row 1 is a list. Accepted is one dictionary a row"):
        read(row_source([{"row": 1}, [2]]), 0)


@pytest.mark.parametrize(
    ("ending", "line", "message"),
    [
        ("csv", "1,a,b,c", "rows.csv' cannot be read: Expected 3 fields in line 1502, saw 4"),
        ("csv", '1,"a', "rows.csv' cannot be read: EOF inside string"),
        ("jsonl", "{", "JSON is broken in line 1501 of '.*rows.jsonl'"),
        ("jsonl", "[1]", "Line 1501 of '.*rows.jsonl' is a JSON list"),
    ],
)
def test_a_line_far_behind_that_cannot_be_read_is_named(tmp_path: Path, ending: str, line: str, message: str) -> None:
    good = ["row,title,year"] * (ending == "csv") + ["1,a,2" if ending == "csv" else '{"row": 1}'] * 1500
    (tmp_path / f"rows.{ending}").write_text("\n".join([*good, line]) + "\n")
    with pytest.raises(DataError, match=message):
        read(row_source(tmp_path / f"rows.{ending}"), 0, columns=["row"])


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"row,title\n1,caf\xe9\n")
    with pytest.raises(DataError, match="rows.csv' is not UTF-8 text"):
        read(row_source(tmp_path / "rows.csv"), 0, columns=["row", "title"])


class Counting:
    """A source that notes from where it was read."""

    def __init__(self, source) -> None:
        self.source, self.pieces, self.readable_in_workers = source, source.pieces, True
        self.opened: list[tuple[int, int]] = []

    def read(self, piece, columns, skip=0):
        self.opened.append((piece, skip))
        return self.source.read(piece, columns, skip)


def test_a_reader_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = Counting(row_source(write_shards(stream_rows(4000), tmp_path, [3000], row_group_size=3000)))
    reader = RowReader(source, ["row"])

    def rows(*runs: Run) -> list[int]:
        parts = [Wanted(run, np.arange(len(run)), np.arange(len(run))) for run in runs]
        return [row for _, frame in reader.read(parts) for row in frame["row"]]

    assert rows(Run(0, 0, 10), Run(0, 10, 1500)) == list(range(1500))
    assert rows(Run(0, 1500, 2100), Run(1, 0, 5)) == [*range(1500, 2100), *range(3000, 3005)]
    assert source.opened == [(0, 0), (1, 0)]
    assert rows(Run(1, 700, 900)) == list(range(3700, 3900))
    assert rows(Run(1, 100, 101)) == [3100]
    assert source.opened == [(0, 0), (1, 0), (1, 100)]


def test_a_reader_keeps_what_is_wanted_and_joins_what_is_little(tmp_path: Path) -> None:
    write_shards(stream_rows(3000), tmp_path / "a", [1500], row_group_size=200)
    write_shards(stream_rows(10, seed=1), tmp_path / "b", [])
    source = row_source([tmp_path / "a", tmp_path / "b"])
    reader = RowReader(source, ["row"])
    runs = [Run(place, 0, piece.rows) for place, piece in enumerate(source.pieces)]
    wanted = [Wanted(run, np.arange(3, len(run), 100), np.arange(3, len(run), 100) * 10) for run in runs]
    found = list(reader.read(wanted))
    # Paths in rows of another folder start there.
    assert len(found) == 2
    assert found[1][1].attrs[ROOT] == str((tmp_path / "b").resolve())
    assert found[0][1]["row"].tolist() == [*range(3, 1500, 100), *range(1503, 3000, 100)]
    assert found[0][0].tolist() == [10 * place for part in wanted[:-1] for place in part.places]
    assert found[1][1]["row"].tolist() == [3]


def test_a_piece_with_fewer_rows_than_were_counted_is_noticed(tmp_path: Path) -> None:
    source = row_source(write_text_shards(stream_rows(20), tmp_path, "csv", []))
    run = Run(0, 0, 21)
    with pytest.raises(DataError, match="part-0.csv' does not hold the rows that were counted at the start"):
        list(RowReader(source, ["row"]).read([Wanted(run, np.arange(21), np.arange(21))]))
