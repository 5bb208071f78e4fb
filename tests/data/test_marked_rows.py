"""Rows in runs of equal length, with the bad ones marked: as ``read_rows`` reads them, and going on where it stops."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmadapters.data import marked_rows
from mmadapters.data.files import read_rows, write_rows
from mmadapters.data.marked_rows import MarkedRows, marked_chunks, row_files
from mmadapters.data.row_lines import MOST_LINES, Line
from mmadapters.errors import DataError


def chunks(file: Path, rows: int = 3, **options: object) -> list[MarkedRows]:
    return list(marked_chunks(row_files(file), rows, **options))  # type: ignore[arg-type]


def written(folder: Path, text: str | bytes, name: str = "rows.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def errors_of(file: Path, **options: object) -> dict[int, str]:
    return {number: error for chunk in chunks(file, **options) for number, error in chunk.errors.items()}


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_runs_are_those_of_the_whole_file(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(
        {
            "id": [f"m{i}" for i in range(8)],
            "plot": ["a, b", 'he said "no"', "two\nlines", None, "x", "y", "z", "w"],
            "year": [1950, 1951, 1952, 1953, 1954, 1955, 1956, 1957],
        }
    )
    file = tmp_path / f"rows.{ending}"
    write_rows(frame, file)
    whole = read_rows(file)
    found = chunks(file, id="id")
    assert [list(chunk.numbers) for chunk in found] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    together = pd.concat([chunk.frame for chunk in found])
    pd.testing.assert_frame_equal(together, whole, check_dtype=False)
    assert [id for chunk in found for id in chunk.ids] == frame["id"].tolist()
    assert all(chunk.frame.attrs == whole.attrs for chunk in found)
    assert not errors_of(file)
    (last,) = chunks(file, skip=2)
    assert list(last.numbers) == [6, 7]


def test_a_text_stays_one_in_a_run_with_nothing_but_numbers(tmp_path: Path) -> None:
    file = written(tmp_path, "plot,code\na,7\nb,8\n007,9\n1.10,10\n,11\n")
    found = chunks(file, 2, texts=["plot", "absent"])
    assert [chunk.frame["plot"].tolist() for chunk in found[:2]] == [["a", "b"], ["007", "1.10"]]
    assert found[2].frame["plot"].isna().all()
    assert [cell for chunk in found for cell in chunk.frame["code"]] == [7, 8, 9, 10, 11]
    assert chunks(file, 2)[1].frame["plot"].tolist() == [7, 1.1]


def test_ids_are_the_texts_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "id,plot\n007,a\n7.0,b\n,c\n")
    (chunk,) = chunks(file, id="id")
    assert chunk.ids == ["007", "7.0", ""]
    assert chunks(file, id="nothing")[0].ids == [None] * 3


def test_a_line_with_too_many_cells_is_marked(tmp_path: Path) -> None:
    file = written(tmp_path, "id,plot\na,x\nb,y,z\n\nc\nd,w\n")
    first, second = chunks(file, rows=3, id="id")
    advice = "put text that holds the separator in quotes"
    assert first.errors == {1: f"line 3 of 'rows.csv': 3 cells for 2 columns; {advice}"}
    assert first.frame["id"].tolist() == ["a", "c"]
    assert first.frame.index.tolist() == [0, 2]
    assert first.frame["plot"].isna().tolist() == [False, True]
    assert (first.ids, second.ids) == (["a", "b", "c"], ["d"])


def test_a_quote_that_is_never_closed_takes_no_other_row_with_it(tmp_path: Path) -> None:
    file = written(tmp_path, 'id,plot\na,x\nb,"open\nc,y\nd,z\n')
    (chunk,) = chunks(file, rows=10, id="id")
    assert chunk.errors == {1: "line 3 of 'rows.csv': a quote is opened and never closed"}
    assert chunk.frame["id"].tolist() == ["a", "c", "d"]


def test_a_quote_that_is_closed_too_late_is_marked_at_its_first_line(tmp_path: Path) -> None:
    # The quote of row b ends at that of row d, which leaves a text outside quotes behind it.
    file = written(tmp_path, 'id,plot\na,x\nb,"open\nc,y\nd,"one, two"\ne,z\n')
    (chunk,) = chunks(file, rows=10)
    assert list(chunk.errors) == [1]
    assert chunk.frame["id"].tolist() == ["a", "c", "d", "e"]
    assert chunk.frame["plot"].tolist() == ["x", "y", "one, two", "z"]


def test_a_row_of_very_many_lines_is_taken_for_a_quote_that_stays_open(tmp_path: Path) -> None:
    lines = "".join(f"{i},t\n" for i in range(MOST_LINES + 5))
    file = written(tmp_path, f'id,plot\nb,"open\n{lines}')
    found = errors_of(file, rows=5000)
    assert found == {0: "line 2 of 'rows.csv': a quote is opened and never closed"}
    assert sum(len(chunk.frame) for chunk in chunks(file, rows=5000)) == MOST_LINES + 5


def test_bytes_that_are_no_text_are_marked(tmp_path: Path) -> None:
    file = written(tmp_path, b"\xef\xbb\xbfid,plot\na,x\nb,caf\xe9\nc,caf\xc3\xa9\n")
    (chunk,) = chunks(file, id="id")
    assert chunk.errors == {1: "line 3 of 'rows.csv': it is not UTF-8 text"}
    assert chunk.frame["plot"].tolist() == ["x", "café"]
    lines = written(tmp_path, b'{"plot": "x"}\n{"plot": "caf\xe9"}\n', "rows.jsonl")
    assert errors_of(lines) == {1: "line 2 of 'rows.jsonl': it is not UTF-8 text"}


def test_lines_that_the_parser_sees_otherwise_are_marked_alone() -> None:
    def parse(contents: Sequence[str]) -> pd.DataFrame:
        if "broken" in contents:
            raise DataError("no such rows")
        return pd.DataFrame({"id": [content for content in contents if content != "vanishing"]})

    lines = [Line(content, f"line {i}") for i, content in enumerate(["a", "vanishing", "b"])]
    frame, errors = marked_rows._parsed(lines, parse)
    assert frame["id"].tolist() == ["a", "b"]
    assert errors == {1: "line 1: the line cannot be read as one row; check its quotes"}
    frame, errors = marked_rows._parsed([Line("broken", "line 0"), lines[0], Line("", "", "bad")], parse)
    assert frame["id"].tolist() == ["a"]
    assert sorted(errors) == [0, 2]


def test_json_lines_that_are_no_rows_are_marked(tmp_path: Path) -> None:
    file = written(tmp_path, '{"id": "a"}\n{"id": \n\n[1]\n{"id": "b", "id": "c"}\n{"id": "d"}\n', "rows.jsonl")
    found = errors_of(file, rows=2)
    assert list(found) == [1, 2, 3]
    assert "line 2 of 'rows.jsonl'" in found[1]
    assert "JSON list" in found[2]
    assert "more than one key 'id'" in found[3]
    assert [id for chunk in chunks(file, rows=2, id="id") for id in chunk.ids] == ["a", None, None, None, "d"]


def test_several_files_are_counted_on_and_each_begins_a_run(tmp_path: Path) -> None:
    written(tmp_path, "id\na\nb\n", "part-0.csv")
    written(tmp_path, "id\nc\n", "part-1.csv")
    found = chunks(tmp_path / "part-*.csv", rows=5)
    assert [list(chunk.numbers) for chunk in found] == [[0, 1], [2]]
    assert [list(chunk.numbers) for chunk in chunks(tmp_path, rows=5)] == [[0, 1], [2]]


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the ending '.xlsx'. Rows are read from '.csv'"):
        row_files(tmp_path / "rows.xlsx")
    with pytest.raises(DataError, match="'.*gone.csv' does not exist"):
        row_files(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="'.*rows.csv' is empty"):
        chunks(written(tmp_path, "\n\n"))
    with pytest.raises(DataError, match="There are no rows in '.*rows.csv'"):
        chunks(written(tmp_path, "id,plot\n"))
    with pytest.raises(DataError, match="more than one column 'id'"):
        chunks(written(tmp_path, "id,id\na,b\n"))
    with pytest.raises(DataError, match="column names of '.*rows.csv' are not UTF-8 text"):
        chunks(written(tmp_path, b"id,caf\xe9\na,b\n"))
    with pytest.raises(DataError, match="leads to no file"):
        row_files(tmp_path / "none-*.csv")


def test_the_limit_of_the_csv_module_is_as_before(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    file = written(tmp_path, f"id,plot\na,{'x' * (before + 10)}\n")
    assert not errors_of(file)
    assert csv.field_size_limit() == before


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs",)), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12), size=st.integers(1, 5))
def test_any_text_is_read_as_it_is_in_the_whole_file(tmp_path: Path, rows: list[tuple[str, str]], size: int) -> None:
    file = tmp_path / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        writer.writerow(["left", "right"])
        writer.writerows((f"l{left}", f"r{right}") for left, right in rows)
    found = chunks(file, rows=size)
    together = pd.concat([chunk.frame for chunk in found], ignore_index=True)
    assert together.to_dict("list") == read_rows(file).to_dict("list")
    assert not errors_of(file)


def test_vectors_and_missing_keys_survive(tmp_path: Path) -> None:
    file = written(tmp_path, '{"v": [1.5, 2]}\n{"w": "x"}\n', "rows.jsonl")
    (chunk,) = chunks(file)
    assert chunk.frame["v"].tolist()[0] == [1.5, 2]
    parquet = tmp_path / "rows.parquet"
    pd.DataFrame({"v": [np.ones(3), np.zeros(3)]}).to_parquet(parquet)
    assert [v.tolist() for chunk in chunks(parquet, rows=1) for v in chunk.frame["v"]] == [[1.0] * 3, [0.0] * 3]
    assert json.loads(file.read_text().splitlines()[0]) == {"v": [1.5, 2]}
