"""Labels learned in chunks are those learned at once, or an error says why they cannot be."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.data.label_statistics import LabelStatistics
from mmadapters.data.labels import LabelEncoder
from mmadapters.errors import DataError

MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"


def learned(values: list, size: int, problem_type: str | None = None, separator: str | None = None) -> LabelEncoder:
    statistics = LabelStatistics(problem_type, separator)
    for start in range(0, len(values), size):
        statistics.add(pd.Series(values[start : start + size], dtype=object, name="genres"))
    return LabelEncoder(problem_type, separator).learn(statistics)


def at_once(values: list, problem_type: str | None = None, separator: str | None = None) -> LabelEncoder:
    return LabelEncoder(problem_type, separator).fit(pd.Series(values, dtype=object, name="genres"))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("values", "problem_type", "separator"),
    [
        ([["b", "a"], [], ["c", "a", "a"]], None, None),
        (['["b"]', "[]", '["a", "b"]'], None, None),
        (["b|a", "c", "a| c"], None, "|"),
        (["war", "art", "War", "art "], None, None),
        ([True, False, True], None, None),
        ([0, 1, 2, 1], None, None),
        ([0.0, 1, "1", "0"], None, None),
        (list(range(50)), None, None),
        (list(range(51)), None, None),
        ([*[1] * 60, *range(200)], None, None),
        ([1, 2, 3, 2.5], None, None),
        ([1, 1, 1.5, 1.5], None, None),
        ([2.5, 1, 2, 3], None, None),
        (list(range(80)), SINGLE, None),
        ([1, 2, 3], REGRESSION, None),
        (["1.5", "2"], REGRESSION, None),
        ([3, "a", 4.5, "b"], None, None),
        ([*range(40), "a"], None, None),
        (["a", '["b"]', '["c"]'], None, None),
    ],
)
def test_chunks_teach_what_the_whole_teaches(values, problem_type, separator, size) -> None:
    expected = at_once(values, problem_type, separator)
    found = learned(values, size, problem_type, separator)
    assert found.to_dict() == expected.to_dict()
    assert [type(label) for label in found.classes] == [type(label) for label in expected.classes]


@given(
    values=st.lists(st.one_of(st.integers(-3, 3), st.sampled_from(["a", "b", " a", "1", "True"]), st.booleans())),
    size=st.integers(1, 5),
)
@settings(deadline=None)
def test_any_single_labels_in_any_chunks(values: list, size: int) -> None:
    try:
        expected = at_once(values).to_dict()
    except DataError as error:
        if values:
            with pytest.raises(DataError, match=str(error)[:40].replace("'", ".")):
                learned(values, size)
        return
    assert learned(values, size).to_dict() == expected


def test_the_rows_with_each_label_are_counted() -> None:
    statistics = LabelStatistics()
    statistics.add(pd.Series([["b", "a", "a"], ["a"]])).add(pd.Series([[], ["c", "a"]]))
    assert (statistics.classes(), statistics.frequencies().tolist()) == (["a", "b", "c"], [3, 1, 1])
    statistics = LabelStatistics()
    statistics.add(pd.Series([2, 10, 2])).add(pd.Series([10, 10, 1]))
    assert (statistics.classes(), statistics.frequencies().tolist(), statistics.rows) == ([1, 2, 10], [1, 2, 3], 6)


def test_columns_of_0_and_1_are_counted() -> None:
    frame = pd.DataFrame({"war": [0, 1, 1, 0], "art": [False, False, True, False]})
    statistics = LabelStatistics().add(frame[:1]).add(frame[1:])
    assert statistics.frequencies().tolist() == [2, 1]
    assert LabelEncoder().learn(statistics).to_dict() == LabelEncoder().fit(frame).to_dict()
    with pytest.raises(DataError, match="No training row has one of the labels 'war', 'art'"):
        LabelStatistics().add(frame[:1]).classes()


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([[1.5, 2.5], ["a"]], "'genres' holds 'a' after 2 rows of numbers that state a regression. Set problem_type"),
        ([list(range(60)), ["a"]], "holds 'a' after 60 rows of numbers"),
        ([[["a"]], ["b"]], "holds 'b' in row 0. A row's labels are accepted as a list"),
        ([["a"], [["b"]]], r"holds \['b'\] in row 0, but the problem type is single_label_classification"),
        ([["a", "b"], [None, "c"]], "'genres' is missing in row 0"),
        ([[1.5, 2], [np.nan]], "'genres' is missing or infinite in row 0"),
        ([[1, 2], [None]], "'genres' is missing in row 0"),
        ([[2.5], [2.5]], "has no two different labels"),
        ([["a"], ["a"]], "has only the label 'a'"),
    ],
)
def test_what_cannot_be_learned_is_named(chunks, message: str) -> None:
    def learn() -> None:
        statistics = LabelStatistics()
        for values in chunks:
            statistics.add(pd.Series(values, dtype=object, name="genres"))
        statistics.classes()

    with pytest.raises(DataError, match=message):
        learn()


def test_several_labels_taken_as_one_are_hinted_at_once(caplog: pytest.LogCaptureFixture) -> None:
    statistics = LabelStatistics()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            statistics.add(pd.Series(["a|b", "b|a", "c|a|b", "a"]))
    assert len(caplog.records) == 1
