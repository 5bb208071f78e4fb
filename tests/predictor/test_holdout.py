"""Which rows are held out: how many, that labels are shared out, and that none is lost to the training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.data.schema import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from mmadapters.predictor import holdout
from mmadapters.predictor.holdout import held_out, holdout_size, telling_labels


@pytest.mark.parametrize(
    ("rows", "size"), [(19, 0), (20, 4), (100, 20), (240, 48), (500, 100), (1000, 100), (2000, 200), (10**6, 10_000)]
)
def test_a_fifth_of_few_rows_and_a_tenth_of_many(rows: int, size: int) -> None:
    assert holdout_size(rows) == size


@pytest.mark.parametrize(("limit", "size"), [(1.0, 100), (30.0, 300), (600.0, 6000), (3600.0, 10_000)])
def test_under_a_time_limit_no_more_are_held_out_than_can_be_scored(limit: float, size: int) -> None:
    assert holdout_size(10**6, limit) == size
    assert holdout_size(50, limit) == 10
    assert holdout_size(19, limit) == 0


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=4, unique=True), min_size=5, max_size=60),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 5),
)
def test_no_label_is_lost_and_the_draw_is_repeatable(rows: list[list[str]], share: float, seed: int) -> None:
    size = int(share * len(rows))
    chosen = held_out(rows, size, seed)
    assert chosen.sum() <= size
    kept = {label for row, held in zip(rows, chosen, strict=True) if not held for label in row}
    assert kept == {label for row in rows for label in row}
    assert np.array_equal(chosen, held_out(rows, size, seed))


def test_each_label_is_as_frequent_in_both_parts() -> None:
    random = np.random.default_rng(0)
    shares = {"a": 0.5, "b": 0.2, "c": 0.1, "d": 0.03}
    rows = [[name for name, share in shares.items() if random.random() < share] for _ in range(400)]
    total = Counter(label for row in rows for label in row)
    for seed in range(3):
        chosen = held_out(rows, 80, seed)
        assert chosen.sum() == 80
        held = Counter(label for row, is_held in zip(rows, chosen, strict=True) if is_held for label in row)
        assert all(abs(held[label] - 0.2 * total[label]) <= 1.5 for label in "abcd"), (held, total)
    assert not np.array_equal(held_out(rows, 80, 0), held_out(rows, 80, 1))


def test_a_rare_class_is_held_out_where_it_has_enough_rows() -> None:
    rows = [["often"]] * 90 + [["rare"]] * 9 + [["once"]]
    for seed in range(5):
        chosen = held_out(rows, 20, seed)
        assert chosen.sum() == 20
        assert chosen[90:99].sum() == 2
        assert not chosen[99]


def test_of_very_many_rows_labels_are_shared_out_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdout, "BALANCED_ROWS", 50)
    rows = [["a"]] * 99 + [["once"]]
    counts = [int(held_out(rows, 20, seed).sum()) for seed in range(20)]
    assert set(counts) <= {19, 20}
    assert all(not held_out(rows, 20, seed)[99] for seed in range(20))


def test_what_rows_are_balanced_by() -> None:
    assert telling_labels(pd.Series(["a|b", "b"]), MULTI_LABEL, "|") == [["a", "b"], ["b"]]
    assert telling_labels(pd.Series([1.0, "1", True]), SINGLE_LABEL, None) == [["1"], ["1"], ["true"]]
    indicators = pd.DataFrame({"war": [0, 1, True], "love": ["1", "0", "1"]})
    assert telling_labels(indicators, MULTI_LABEL, None) == [["love"], ["war"], ["war", "love"]]
    parts = [part for (part,) in telling_labels(pd.Series(np.arange(100.0)), REGRESSION, None)]
    assert Counter(parts) == dict.fromkeys(range(10), 10)
    chosen = held_out([[part] for part in parts], 20, 0)
    assert Counter(np.array(parts)[chosen]) == dict.fromkeys(range(10), 2)
