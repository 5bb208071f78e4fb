"""What the columns of a table seem to hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmadapters.data.columns import Column, describe_column, parts_of

NAN = float("nan")


def described(cells: list[Any], separator: str | None = None) -> Column:
    return describe_column(pd.Series(cells, name="column"), separator)


@pytest.mark.parametrize(
    ("cells", "type"),
    [
        ([None, NAN, " "], "empty"),
        ([1, 2.5, None], "number"),
        (["1", "2", " 3e2 "], "number"),
        ([True, False, None], "number"),
        ([[True, False], [False, True]], "list"),
        (["fr", "us", "fr", "us"], "category"),
        (["a great film", "a bad film", "so long"], "text"),
        (["tt1", "tt2", "tt3"], "identifier"),
        (["tt1", "tt2", "tt2"], "text"),
        (["a.png", "b.JPG", None], "image path"),
        (["a.png", "b.jpg", "c.txt"], "image path"),
        (["a.png", "b.txt", "c.txt", "d.csv"], "identifier"),
        (["x/a.wav", "x/b.flac"], "audio path"),
        (["x/a.mp4", "x/b.mkv"], "video path"),
        (["x/a.npy", "y/b.npy"], "npy path"),
        (["a word.\nand a.png", "b.png too", "c d"], "text"),
        (["drama|war", "war", "drama", "war|drama"], "list"),
        (["drama, war", "war", "drama", "war,drama"], "list"),
        (["Godfather, The", "Alien", "Piano, The", "Heat"], "text"),
        (["Austin, TX", "Dallas, TX", "Austin, TX", "Dallas, TX"], "category"),
        (["The long, dark and very cold night; the end", "One; two", "Three", "Four"], "text"),
        ([["drama"], ["war", "drama"], []], "list"),
        (['["a", "b"]', '["a"]'], "list"),
        ([[1, 2], [3], [4, 5, 6]], "list"),
        ([[1, 2], [3, 4]], "vector"),
        ([np.ones(3), [0.5, 1, 2], None], "vector"),
        ([np.ones((2, 3)), np.ones((5, 3))], "vector"),
        ([np.array([[1.0, None], [2.0, 3.0]], dtype=object)], "vector"),
        ([np.array([np.ones(3), np.ones(3), None], dtype=object)[:2]], "vector"),
        ([[1.0, None], [2.0, 3.0]], "vector"),
        ([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]], "vector"),
        ([[[1.0, 2.0], [3.0]]], "list"),
        (["NA", "None", "nan "], "identifier"),
        (["[0.5, 1.5]", "[1.0, 2.0]"], "vector"),
        ([[0.5, 1.5], [1.0]], "vector"),
    ],
    ids=str,
)
def test_the_type(cells: list[Any], type: str) -> None:
    assert described(cells).type == type


def test_numbers() -> None:
    column = described([1, 2, "3", None, "4.5", 5, 6, 7, 8, 9, "n/a"])
    assert (column.missing, column.distinct) == (1, 10)
    assert column.numbers == (1, pytest.approx(45.5 / 9), 9)
    assert (column.odd, column.n_odd) == ({10: "'n/a'"}, 1)


def test_infinite_numbers_are_odd() -> None:
    column = described([1.0, np.inf, 3.0])
    assert column.numbers == (1, 2, 3)
    assert column.odd == {1: "inf"}


def test_categories_are_counted_as_training_compares_them() -> None:
    column = described(["us", "fr", " us", "us", "fr", None])
    assert column.values == {"us": 3, "fr": 2}
    assert list(column.values) == ["us", "fr"]
    assert (column.distinct, column.missing) == (2, 1)


def test_a_list_is_counted_by_its_values() -> None:
    column = described(["war|drama", "war", None, "war|war", "drama|comedy", "war| drama"])
    assert column.separator == "|"
    assert column.values == {"war": 4, "drama": 3, "comedy": 1}
    assert column.distinct == 3
    # What is known need not be guessed.
    assert described(["a/b", "a"], "/").values == {"a": 2, "b": 1}
    assert described(["a", "b"], "/").type == "list"


def test_a_bar_separates_nested_labels() -> None:
    column = described(["pet|pet/cat", "pet|pet/dog"] * 4)
    assert column.separator == "|"
    assert column.values == {"pet": 8, "pet/cat": 4, "pet/dog": 4}


def test_vectors() -> None:
    column = described([np.zeros(3), np.zeros(3), [1, np.nan, 2], [[1.5, 2], [3, 4]], None])
    assert column.shapes == {"(3,)": 3, "(T, 2)": 1}
    assert (column.distinct, column.missing) == (3, 1)
    assert column.odd == {2: "NaN or infinite numbers"}
    assert described([[1.5, 2.0]] * 9 + [["a"]]).type == "list"
    strange = described([[1.5, 2.0]] * 9 + ["none"])
    assert (strange.type, strange.odd) == ("vector", {9: "'none'"})


def test_paths_with_other_endings_are_odd() -> None:
    column = described(["a.png", "b.jpeg", "c.txt", "d.mp4", "e.gif", None])
    assert column.odd == {2: "'c.txt'", 3: "'d.mp4'"}


def test_text() -> None:
    column = described(["a good film", "bad", None, "not a long film at all"])
    assert column.words == (pytest.approx(10 / 3), 6)


def test_odd_cells_are_cut_and_counted() -> None:
    column = described(list(range(100)) + ["x" * 100] * 7)
    assert column.n_odd == 7
    assert len(column.odd) == 5
    assert column.odd[100] == "'" + "x" * 56 + "…"


@pytest.mark.parametrize(
    ("cell", "separator", "parts"),
    [
        ("a|b | c", "|", ["a", "b", "c"]),
        ("a||b", "|", ["a", "b"]),
        ("a|b", None, ["a|b"]),
        ('["a", null, 1.0]', None, ["a", "1"]),
        (["b", None, "a"], None, ["b", "a"]),
        (np.array(["x"]), None, ["x"]),
        (3.0, None, ["3"]),
    ],
)
def test_the_values_of_a_cell(cell: Any, separator: str | None, parts: list[str]) -> None:
    assert parts_of(cell, separator) == parts
