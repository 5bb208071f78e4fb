import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmadapters.data.files import check_writable_rows, read_rows, split_rows, write_rows
from mmadapters.errors import ConfigurationError, DataError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_keeps_texts_that_look_missing_and_types_numbers(tmp_path):
    path = written(
        tmp_path, "a.csv", 'title,year,score\nNA,1990,1.5\nNone,1991,\n"",1992,2\nnan,1993,3\n"a, b",1994,4\n'
    )
    frame = read_rows(path)
    assert frame["title"].tolist()[:2] == ["NA", "None"]
    assert frame["title"].isna().tolist() == [False, False, True, False, False]
    assert frame["title"].tolist()[4] == "a, b"
    assert frame["year"].dtype == np.int64
    assert frame["score"].dtype == np.float64
    assert frame["score"].isna().tolist() == [False, True, False, False, False]


def test_every_format_gives_the_same_rows(tmp_path):
    rows = [{"title": "Ran", "year": 1985}, {"title": "Häxan", "year": 1922}]
    expected = pd.DataFrame(rows)
    expected.to_csv(tmp_path / "a.csv", index=False)
    expected.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    expected.to_parquet(tmp_path / "a.parquet")
    lines = "\n\n".join(json.dumps(row) for row in rows)
    written(tmp_path, "a.jsonl", lines + "\n")
    written(tmp_path, "a.ndjson", "\ufeff" + lines)
    written(tmp_path, "a.json", json.dumps(rows))
    written(tmp_path, "B.CSV", "\ufefftitle,year\r\nRan,1985\r\nHäxan,1922\r\n")
    for name in ("a.csv", "a.tsv", "a.parquet", "a.jsonl", "a.ndjson", "a.json", "B.CSV"):
        frame = read_rows(tmp_path / name)
        pd.testing.assert_frame_equal(frame, expected, check_dtype=False)
        assert frame.index.tolist() == [0, 1]


def test_the_root_is_the_absolute_folder_of_the_file(tmp_path, monkeypatch):
    written(tmp_path, "a.csv", "x\n1\n")
    monkeypatch.chdir(tmp_path)
    frame = read_rows("a.csv")
    assert frame.attrs == {"root": str(tmp_path.resolve())}
    frame.to_parquet(tmp_path / "copy.parquet")
    assert read_rows(tmp_path / "copy.parquet").attrs == {"root": str(tmp_path.resolve())}


def test_a_separator_at_the_end_of_every_row_is_no_column(tmp_path):
    frame = read_rows(written(tmp_path, "a.csv", "a,b\n1,2,\n3,4,\n"))
    assert frame.to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_lists_stay_lists(tmp_path):
    written(tmp_path, "a.jsonl", '{"genres": ["a", "b"], "v": [0.5, 1]}\n{"genres": [], "v": null}\n')
    frame = read_rows(tmp_path / "a.jsonl")
    assert frame["genres"].tolist() == [["a", "b"], []]
    assert frame["v"].tolist() == [[0.5, 1], None]


def test_the_named_index_of_parquet_is_a_column(tmp_path):
    pd.DataFrame({"movie": [7, 9], "x": [1, 2]}).set_index("movie").to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"x": [1, 2]}, index=[5, 6]).to_parquet(tmp_path / "b.parquet")
    assert read_rows(tmp_path / "a.parquet")["movie"].tolist() == [7, 9]
    assert read_rows(tmp_path / "b.parquet").index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "x", "has the ending '.xlsx'. Rows are read from '.csv', '.tsv', '.jsonl', '.ndjson', '.json'"),
        ("a.csv", "", "is empty"),
        ("a.csv", "a,b\n", "has no rows"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.json", "", "has no rows"),
        ("a.csv", "a,b,a\n1,2,3\n", "more than one column 'a'"),
        ("a.csv", "a,b\n1,2\n1,2,3,4\n", "cannot be read: Expected 2 fields in line 3, saw 4"),
        ("a.csv", "a,b\n1,2,3\n4,5,6\n", r"rows with more cells than there are column names \(2\)"),
        ("a.csv", "a,b\n0,2,3\n1,5,6\n", "rows with more cells"),
        ("a.csv", b"a,b\nf\xe9,1\n", "is not UTF-8 text"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "JSON is broken in line 2 of .*: Expecting value at character"),
        ("a.jsonl", '{"a": 1}\n\n[1]\n', "Line 3 of .* is a JSON list. Accepted is one object a row"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', "An object in line 1 of .* more than one key 'a'"),
        ("a.json", '{"a": 1}', "holds a JSON dict. Accepted is a list"),
        ("a.json", '[{"a": 1}, 2]', "Entry 1 of .* is a JSON int"),
        ("a.json", '[{"a": 1},\n{]', "JSON is broken in .*a.json.* at line 2, character 2"),
        ("a.parquet", "no parquet", "cannot be read as Parquet"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read_rows(written(tmp_path, name, content))


def test_a_path_without_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="a.csv' does not exist"):
        read_rows(tmp_path / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DataError, match="b.csv' is a folder"):
        read_rows(tmp_path / "b.csv")


def test_repeated_columns_of_parquet_are_refused(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet"):
        read_rows(tmp_path / "a.parquet")


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "CSV"])
def test_written_rows_are_read_back(tmp_path, ending):
    frame = pd.DataFrame({"title": ["Häxan, 1", "NA"], "p": [1 / 3, 1e-4], "year": [1922, 1985]}, index=[7, 8])
    path = tmp_path / "new" / f"a.{ending}"
    for _ in range(2):
        write_rows(frame, path)
    pd.testing.assert_frame_equal(read_rows(path), frame.reset_index(drop=True), check_dtype=False, rtol=1e-14)
    assert list(path.parent.iterdir()) == [path]


def test_rows_that_cannot_be_written_leave_the_old_file(tmp_path):
    path = written(tmp_path, "a.csv", "x\n1\n")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DataError, match="has the ending '.txt'. Rows are written to '.csv', '.tsv'"):
        check_writable_rows(tmp_path / "a.txt")
    with pytest.raises(DataError, match="b.csv' is a folder"):
        write_rows(pd.DataFrame({"x": [2]}), tmp_path / "b.csv")
    with pytest.raises(DataError, match="c.csv' cannot be written: .*Choose another place"):
        write_rows(pd.DataFrame({"x": [2]}), path / "c.csv")

    class Unprintable:
        def __str__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(pd.DataFrame({"x": [1, Unprintable()]}), path)
    assert path.read_text() == "x\n1\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_the_sizes_of_the_parts():
    frame = pd.DataFrame({"x": range(1680)})
    parts = split_rows(frame, {"train": 0.7, "validation": 0.1, "test": 0.2}, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 1176, "validation": 168, "test": 336}
    assert [len(part) for part in split_rows(frame[:5], {"a": 0.5, "b": 0.5}, seed=0).values()] == [3, 2]


@given(
    st.integers(40, 300),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 2**32),
)
def test_every_row_is_in_exactly_one_part(rows, weights, seed):
    fractions = {f"part{place}": weight / sum(weights) for place, weight in enumerate(weights)}
    frame = pd.DataFrame({"x": range(rows)}, index=range(100, 100 + rows))
    parts = split_rows(frame, fractions, seed)
    assert list(parts) == list(fractions)
    assert sorted(np.concatenate([part.index for part in parts.values()])) == list(frame.index)
    for name, part in parts.items():
        assert abs(len(part) - rows * fractions[name]) <= 1
        assert part.index.is_monotonic_increasing


def test_the_seed_decides_and_attributes_stay():
    frame = pd.DataFrame({"x": range(40)})
    frame.attrs["root"] = "here"
    first, again, other = (split_rows(frame, {"a": 0.5, "b": 0.5}, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first["a"], again["a"])
    assert first["a"].index.tolist() != other["a"].index.tolist()
    assert first["b"].attrs == {"root": "here"}
    chosen = np.sort(np.random.default_rng(1).permutation(40)[:20])
    assert first["a"]["x"].tolist() == chosen.tolist()


@pytest.mark.parametrize(
    ("fractions", "seed", "error", "message"),
    [
        ({"a": 0.5, "b": 0.4}, 0, ConfigurationError, "sum to 0.9. The shares of the parts have to sum to 1"),
        ({"a": 1.0, "b": 0.0}, 0, ConfigurationError, "Give every part a share above 0"),
        ({}, 0, ConfigurationError, "Give every part a share above 0"),
        ({"a": 1.0}, -1, ConfigurationError, "seed=-1 cannot be used"),
        ({"a": 0.95, "b": 0.05}, 0, DataError, r"5 rows are too few to give part 'b' \(0.05\) a row"),
    ],
)
def test_splits_that_cannot_be_made(fractions, seed, error, message):
    with pytest.raises(error, match=message):
        split_rows(pd.DataFrame({"x": range(5)}), fractions, seed)
