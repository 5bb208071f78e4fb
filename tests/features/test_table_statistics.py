"""Statistics of a table in chunks are those of the whole table."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.errors import DataError
from mmadapters.features import table_statistics
from mmadapters.features.table_statistics import CategoryCounts, NumberStatistics
from mmadapters.features.tabular import TabularEncoder

NUMBERS = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=60)


def added(values: np.ndarray, cuts: list[int]) -> NumberStatistics:
    statistics = NumberStatistics()
    for part in np.split(values, sorted(cut % (len(values) + 1) for cut in cuts)):
        statistics.add(part)
    return statistics


@given(values=NUMBERS, cuts=st.lists(st.integers(0, 60), max_size=6))
@settings(deadline=None)
def test_chunks_have_the_mean_and_deviation_of_the_whole(values: list[float], cuts: list[int]) -> None:
    array = np.array(values)
    present = array[~np.isnan(array)]
    statistics = added(array, cuts)
    assert statistics.count == len(present)
    if len(present):
        assert (statistics.lowest, statistics.highest) == (present.min(), present.max())
        size = np.abs(present).max()
        assert statistics.mean == pytest.approx(present.mean(), rel=1e-12, abs=1e-12 * size)
        assert statistics.std == pytest.approx(present.std(), rel=1e-9, abs=1e-9 * size)


@given(values=NUMBERS)
@settings(deadline=None)
def test_one_chunk_gives_what_numpy_gives_bit_for_bit(values: list[float]) -> None:
    array = np.array(values)
    present = array[~np.isnan(array)]
    if len(present):
        statistics = added(array, [])
        assert (statistics.mean, statistics.std) == (present.mean(), present.std())


def test_far_from_zero_nothing_is_lost() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=100_000)
    statistics = added(values, list(range(0, 100_000, 1000)))
    assert statistics.std == pytest.approx(values.std(), rel=1e-9)
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-15)


def test_numbers_too_large_for_a_deviation_are_refused_in_chunks_too() -> None:
    encoder = TabularEncoder(["budget"])
    statistics = encoder.statistics()
    for values in ([1e200, 2e200], [-1e200]):
        statistics.add(pd.DataFrame({"budget": values}))
    with pytest.raises(DataError, match=r"'budget' \(from -1e\+200 to 2e\+200\) are too large"):
        encoder.learn(statistics)


def test_a_column_is_constant_if_it_is_over_all_chunks() -> None:
    encoder = TabularEncoder(["same", "differs", "empty"])
    statistics = encoder.statistics()
    for value in (3.0, 4.0):
        statistics.add(pd.DataFrame({"same": [0.1, 0.1], "differs": [value, value], "empty": [None, None]}))
    described = encoder.learn(statistics).to_dict()["numeric"]
    assert described == [
        {"column": "same", "mean": 0.1, "std": 0.0},
        {"column": "differs", "mean": 3.5, "std": 0.5},
        {"column": "empty", "mean": 0.0, "std": 0.0},
    ]


def test_of_too_many_categories_the_rarest_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(table_statistics, "MOST_DISTINCT", 100)
    random = np.random.default_rng(0)
    keys = [f"c{key}" for key in random.zipf(1.3, 5000)]
    counts = CategoryCounts()
    encoder = TabularEncoder(categorical=["c"], max_categories=10)
    statistics = encoder.statistics()
    for start in range(0, 5000, 50):
        counts.add(keys[start : start + 50])
        assert len(counts._counts) <= 100
        statistics.add(pd.DataFrame({"c": keys[start : start + 50]}))
    true = Counter(keys)
    assert len(true) > 500
    assert 0 < counts.forgotten < 100
    for key, count in counts._counts.items():
        assert true[key] - counts.forgotten <= count <= true[key]
    expected = [key for key, _ in true.most_common(10)]
    assert counts.most_frequent(10, 1) == expected
    with caplog.at_level(logging.WARNING):
        assert encoder.learn(statistics).to_dict()["categorical"] == [{"column": "c", "categories": expected}]
    assert "'c' has more than 100 different categories: the rarest were forgotten" in caplog.text
    assert f"short by up to {counts.forgotten} rows" in caplog.text
