"""A table is checked: files, ids, repeated rows, labels, and what goes into JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emoji_files import png
from mmadapters.data.check import CheckOptions, Problem, TableCheck, check_table
from mmadapters.data.files import read_rows
from mmadapters.errors import ConfigurationError, DataError


def frame(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def problems(found: TableCheck) -> list[tuple[str, str | None, str]]:
    return [(each.level, each.column, each.message) for each in found.problems]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.png").write_bytes(png((1, 2, 3)))
    (folder / "b.png").write_bytes(png((3, 2, 1)))
    (folder / "empty.png").touch()
    (folder / "film.png").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(32))
    (tmp_path / "outside.png").write_bytes(png((1, 2, 3)))
    np.save(folder / "a.npy", np.zeros(3, np.float32))
    np.save(folder / "b.npy", np.zeros(4, np.float32))
    (folder / "text.npy").write_text("no array")
    return folder


def test_a_good_table_has_no_problem(media: Path) -> None:
    rows = frame(
        id=["x1", "x2", "x3", "x4"],
        text=["one film", "two films", "no film", "a last film"],
        labels=["a|b", "a", "b", "b|a"],
        image=["a.png", "b.png", None, "a.png"],
    )
    found = check_table(rows, CheckOptions(root=media, min_members=3))
    assert found.problems == []
    assert found.ok
    assert [column.type for column in found.columns] == ["identifier", "text", "list", "image path"]
    assert found.files == {"image": 3}
    assert found.id == "id"
    assert found.labels is not None
    assert (found.labels.counts, found.labels.separator, found.labels.guessed) == ({"a": 3, "b": 3}, "|", True)
    assert found.labels.problem_type == "multi_label_classification"


def test_files_that_cannot_be_used(media: Path) -> None:
    names = ["a.png", "absent.png", "empty.png", "film.png", "../outside.png", "absent.png", None, "note.txt"]
    found = check_table(frame(image=names), CheckOptions(root=media))
    assert problems(found) == [
        ("error", "image", "not an image path, as most cells are: 'note.txt' in row 7"),
        ("error", "image", "the file does not exist: rows 1, 5, 7"),
        ("error", "image", "the file is empty: row 2"),
        ("error", "image", "the file was given as image and holds video: row 3"),
        (
            "error",
            "image",
            "the path leads out of the data root; move the file there, or allow paths outside the root: row 4",
        ),
        ("warning", None, "1 row repeats an earlier one in every column: row 5"),
    ]
    assert found.files == {"image": 1}
    assert not found.ok


def test_arrays_of_different_forms(media: Path) -> None:
    outside = np.save(media.parent / "c.npy", np.zeros((2, 3)))
    assert outside is None
    names = ["a.npy", "b.npy", "../c.npy", "text.npy"]
    found = check_table(frame(id=[1, 2, 3, 4], vector=names), CheckOptions(root=media))
    assert found.columns[1].type == "npy path"
    assert found.files == {"vector": 3}
    first, second = problems(found)
    assert first[:2] == second[:2] == ("error", "vector")
    assert first[2].startswith("the file cannot be read: ")
    assert first[2].endswith(": row 3")
    assert second[2] == "the arrays have different forms: (3,) in 1 files, (4,) in 1 files, (T, 3) in 1 files"


def test_paths_start_from_the_folder_of_the_rows(media: Path) -> None:
    frame(id=[1, 2], image=["a.png", "b.png"]).to_csv(media / "rows.csv", index=False)
    assert check_table(read_rows(media / "rows.csv")).files == {"image": 2}


def test_columns_without_content() -> None:
    found = check_table(frame(id=[1, 2, 3], nothing=[None] * 3, same=["x"] * 3, often=["x", None, "y"]))
    assert problems(found) == [
        ("warning", "nothing", "no row has a value"),
        ("warning", "same", "every row has the same value"),
    ]


def test_a_separator_that_was_not_read_as_one() -> None:
    ((level, column, message),) = problems(check_table(pd.DataFrame({"id;text": ["1;a film", "2;a dog"]})))
    assert (level, column) == ("warning", "id;text")
    assert message.startswith("the only column's name holds a separator")


def test_numbers_and_vectors_that_do_not_fit() -> None:
    rows = frame(id=list(range(12)), year=[*range(1990, 2001), "soon"], vector=[[1.0, 2.0]] * 11 + [[1.0, 2.0, 3.5]])
    assert problems(check_table(rows)) == [
        ("error", "year", "not a number, as most cells are: 'soon' in row 11"),
        ("error", "vector", "the vectors have different forms: (2,) in 11 rows, (3,) in 1 rows"),
    ]
    broken = frame(id=[1, 2], vector=[[1.0, np.nan], [1.0, 2.0]])
    assert problems(check_table(broken)) == [
        ("error", "vector", "not a finite vector, as most cells are: NaN or infinite numbers in row 0"),
    ]


def test_ids() -> None:
    rows = frame(movie_id=["a", "b", "a", None, "b", "a"], text=["v w", "w w", "x w", "y w", "z w", "u w"])
    found = check_table(rows)
    assert found.id == "movie_id"
    repeated = "2 ids are not unique: 'a' (3 rows), 'b' (2 rows)."
    assert problems(found) == [
        ("error", "movie_id", "no id in row 3"),
        ("error", "movie_id", f"{repeated} Name another column with --id if this one is no id."),
    ]
    told = check_table(rows, CheckOptions(id="movie_id"))
    assert problems(told)[1][2] == repeated
    assert check_table(rows.rename(columns={"movie_id": "who"})).id is None
    assert check_table(frame(text=["a b", "c d"], ID=[1, 2])).id == "ID"


@pytest.mark.parametrize(
    "cells", [["x", "y", "x"], [[1.5, 2], [1, 2], [1.5, 2]], [np.ones(2), np.zeros(2), np.ones(2)], [None, 1.0, None]]
)
def test_repeated_rows(cells: list[Any]) -> None:
    rows = frame(text=["a b", "a b", "a b"], cell=cells)
    assert ("warning", None, "1 row repeats an earlier one in every column: row 2") in problems(check_table(rows))
    named = frame(id=[1, 2, 3], text=["a b", "a b", "a b"], cell=cells)
    message = "1 row repeats an earlier one in every column but 'id': row 2"
    assert ("warning", None, message) in problems(check_table(named))
    different = frame(text=["a b", "a c", "a d"], cell=cells)
    assert [each for each in check_table(different).problems if each.column is None] == []


def test_labels_with_few_members_and_of_two_spellings() -> None:
    rows = frame(
        id=list(range(8)),
        text=[f"film number {i}" for i in range(8)],
        genres=["war", "war", "War ", "love", "love", "love", "War", "rare"],
    )
    found = check_table(rows, CheckOptions(label=("genres",), min_members=2))
    assert found.labels is not None
    assert found.labels.counts == {"love": 3, "War": 2, "war": 2, "rare": 1}
    assert not found.labels.guessed
    assert found.labels.problem_type == "single_label_classification"
    assert problems(found) == [
        ("warning", "genres", "1 label has less than 2 rows: 'rare' (1)"),
        ("warning", "genres", "labels that differ in case or blanks only: 'War' (2), 'war' (2)"),
    ]
    many = check_table(rows, CheckOptions(label=("genres",), min_members=10))
    assert problems(many)[0][2] == "4 labels have less than 10 rows: 'love' (3), 'War' (2), 'war' (2), 'rare' (1)"


def test_rows_without_a_label_are_an_error() -> None:
    rows = frame(id=[1, 2, 3, 4], text=["b c", "c c", "d c", "e c"], label=["a", None, "b", "a"])
    found = check_table(rows, CheckOptions(min_members=0))
    assert found.labels is not None
    assert found.labels.counts == {"a": 2, "b": 1}
    assert problems(found) == [("error", "label", "no label in row 1")]


def test_columns_of_0_and_1_as_labels() -> None:
    rows = frame(id=[1, 2, 3], war=[1, 0, 1], love=[0, 1, 1])
    found = check_table(rows, CheckOptions(label=("war", "love"), min_members=0))
    assert found.labels is not None
    assert found.labels.counts == {"war": 2, "love": 2}
    wrong = check_table(frame(id=[1, 2, 3], war=[1, 0, 2], love=[0, 1, 1]), CheckOptions(label=("war", "love")))
    assert wrong.labels is None
    ((level, _, message),) = problems(wrong)
    assert level == "error"
    assert message.startswith("Label column 'war' holds 2 in row 2")


def test_a_quantity_has_no_counts() -> None:
    found = check_table(frame(id=[1, 2, 3], target=[0.5, 1.5, 2.5]))
    assert found.labels is not None
    assert (found.labels.problem_type, found.labels.counts) == ("regression", {})
    assert found.problems == []


def test_labels_are_guessed_where_there_is_one_choice() -> None:
    one = check_table(frame(id=[1, 2, 3], words=[["a"], ["b"], ["a", "b"]]), CheckOptions(min_members=0))
    assert one.labels is not None
    assert one.labels.columns == ("words",)
    two = check_table(frame(id=[1, 2, 3], words=[["a"], ["b"], ["a"]], names=[["c"], ["d"], ["c", "d"]]))
    assert two.labels is None
    assert two.problems == []


def test_one_label_alone_is_an_error() -> None:
    found = check_table(frame(id=[1, 2], text=["a b", "c d"], label=["a", "a"]))
    assert [each.level for each in found.problems] == ["error", "warning"]
    assert "only the label 'a'" in found.problems[0].message


def test_options_that_cannot_be_used() -> None:
    with pytest.raises(DataError, match="The rows have no column 'genre'.*Did you mean 'genres'"):
        check_table(frame(genres=["a", "b"]), CheckOptions(label=("genre",)))
    with pytest.raises(DataError, match="The rows have no column 'key'"):
        check_table(frame(genres=["a", "b"]), CheckOptions(id="key"))
    with pytest.raises(ConfigurationError, match="min_members=-1 cannot be used. Give a number of at least 0"):
        CheckOptions(min_members=-1)


def test_everything_can_be_written_as_json(media: Path) -> None:
    rows = frame(
        id=["x1", "x2", "x1"],
        image=["a.png", "note.txt", "b.png"],
        vector=[np.ones(2), np.zeros(2), None],
        year=[1990.0, np.inf, 1992.0],
        labels=[["a"], ["b"], ["a", "b"]],
    )
    plain = json.loads(json.dumps(check_table(rows, CheckOptions(root=media)).to_dict(), allow_nan=False))
    assert plain["ok"] is False
    assert plain["rows"] == 3
    assert [column["type"] for column in plain["columns"]] == ["text", "image path", "vector", "number", "list"]
    assert plain["columns"][1]["odd"] == [{"row": 1, "cell": "'note.txt'"}]
    assert plain["columns"][2]["missing"] == 1
    assert plain["columns"][3]["numbers"] == [1990, 1991, 1992]
    assert plain["labels"]["counts"] == {"a": 2, "b": 2}
    assert plain["files"] == {"image": 2}
    assert Problem(**plain["problems"][0]).level == "error"
