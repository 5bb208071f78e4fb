"""Table columns of which a cell has several categories."""

import json
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.errors import DataError
from mmadapters.features.tabular import TabularEncoder


def column(*cells: object) -> pd.DataFrame:
    return pd.DataFrame({"actors": pd.Series(cells, dtype=object)})


def fitted(*cells: object, **options) -> TabularEncoder:
    return TabularEncoder(multi_valued=["actors"], **options).fit(column(*cells))


def test_every_kept_value_of_a_row_is_1_and_the_others_share_a_feature():
    encoder = fitted("Ana|Bo", "Bo|Cy", "Bo|Ana", None, max_categories=2)
    assert encoder.feature_names == ["actors=Bo", "actors=Ana", "actors__other", "actors__missing"]
    features = encoder.transform(column("Ana|Bo", ["Bo", "Cy", "Dee"], "Cy", "", None, [], "[]", "|"))
    assert features.dtype == np.float32
    expected = [
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(features, expected)


def test_a_value_counts_once_a_row():
    encoder = fitted("b|b|b", "a", "a|c", "c|c ", min_frequency=2)
    assert encoder.feature_names[:2] == ["actors=a", "actors=c"]
    np.testing.assert_array_equal(encoder.transform(column("a|a|z|z")), [[1, 0, 1, 0]])


def test_values_are_the_same_whatever_file_they_came_from():
    encoder = fitted([1, 2.0, "Max von Sydow"], ["2", True], [2, "Bjørk Ðóra|"])
    assert encoder.feature_names[:5] == [f"actors={key}" for key in ("2", "1", "Bjørk Ðóra|", "Max von Sydow", "true")]
    same = [
        "1|2| Max von Sydow ",
        '["1", 2, "Max von Sydow"]',
        "['Max von Sydow', 1.0, 2]",
        np.array(["2.0", "1", "Max von Sydow", ""]),
        {"Max von Sydow", 1, 2},
        (2, 1, "Max von Sydow", None),
    ]
    np.testing.assert_array_equal(encoder.transform(column(*same)), [[1, 1, 0, 1, 0, 0, 0]] * len(same))
    np.testing.assert_array_equal(
        encoder.transform(column(2, "TRUE", ["Bjørk Ðóra|"])),
        [[1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0]],
    )


def test_numbers_alone_in_a_column_are_values():
    encoder = TabularEncoder(multi_valued=["id"]).fit(pd.DataFrame({"id": [7.0, np.nan, 8.0, 7.0]}))
    assert encoder.feature_names == ["id=7", "id=8", "id__other", "id__missing"]
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"id": ["8|7", None]})), [[1, 1, 0, 0], [0, 0, 0, 1]])


def test_multi_valued_columns_come_after_the_others_in_the_order_of_the_user():
    frame = pd.DataFrame({"words": ["x;y"], "year": [1], "cast": [["q"]], "land": ["fr"]})
    encoder = TabularEncoder(["year"], ["land"], multi_valued=["words", "cast"], value_separator=";").fit(frame)
    assert encoder.columns == ("year", "land", "words", "cast")
    assert encoder.feature_names == [
        *("year", "year__missing", "land=fr", "land__other", "land__missing"),
        *("words=x", "words=y", "words__other", "words__missing", "cast=q", "cast__other", "cast__missing"),
    ]
    np.testing.assert_array_equal(encoder.transform(frame), [[0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0]])


def test_a_column_without_a_value_has_other_and_missing_alone():
    encoder = fitted(None, [], "")
    assert encoder.feature_names == ["actors__other", "actors__missing"]
    np.testing.assert_array_equal(encoder.transform(column("a", None, [])), [[1, 0], [0, 1], [0, 0]])
    assert encoder.transform(column()).shape == (0, 2)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"Ana": 1}, "{'Ana': 1}"),
        ([["Ana"]], r"\[\['Ana'\]\]"),
        ('[{"name": "Ana"}]', '\'\\[{"name": "Ana"}\\]\''),
        (np.zeros((2, 2)), "array"),
    ],
)
def test_a_cell_that_holds_no_values_is_named(cell, said):
    message = (
        f"Multi-valued column 'actors' holds {said}.* in row 1. A cell is accepted as a list .* value_separator '|'"
    )
    with pytest.raises(DataError, match=message.replace("'|'", r"'\|' between them")):
        fitted("a", cell)
    with pytest.raises(DataError, match="Multi-valued column 'actors' holds"):
        fitted("a").transform(column(cell))


def test_what_a_long_cell_holds_is_shortened():
    with pytest.raises(DataError) as caught:
        fitted([{"name": "Ana" * 50}] * 100)
    assert len(str(caught.value)) < 600


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="have no column 'actors'"):
        fitted("a").transform(pd.DataFrame({"cast": ["a"]}))


def test_a_state_from_before_there_were_such_columns_is_read():
    encoder = TabularEncoder(["n"], ["c"]).fit(pd.DataFrame({"n": [1, 2], "c": ["a", "b"]}))
    state = json.loads(json.dumps(encoder.to_dict()))
    del state["multi_valued"], state["value_separator"]
    again = TabularEncoder.from_dict(state)
    assert again.to_dict() == encoder.to_dict()
    assert (again.multi_valued, again.value_separator) == ((), "|")


# Text that starts like a list is read as one where it is one; blank values are passed over.
values = st.text(min_size=1, max_size=4).map(str.strip).filter(lambda text: text and "|" not in text and text[0] != "[")
rows_of_values = st.lists(st.none() | st.lists(values, min_size=1, max_size=5), min_size=1, max_size=8)


@settings(deadline=None)
@given(rows_of_values, st.integers(1, 4), st.integers(1, 3), st.randoms(use_true_random=False))
def test_form_and_order_of_a_cell_do_not_matter(rows, max_categories, min_frequency, random):
    limits = {"max_categories": max_categories, "min_frequency": min_frequency}
    texts = [None if row is None else "|".join(row) for row in rows]
    shuffled = [None if row is None else random.sample(row, len(row)) + random.choices(row, k=2) for row in rows]
    encoder = fitted(*rows, **limits)
    assert fitted(*texts, **limits).to_dict() == fitted(*shuffled, **limits).to_dict() == encoder.to_dict()
    features = encoder.transform(column(*rows))
    np.testing.assert_array_equal(encoder.transform(column(*texts)), features)
    np.testing.assert_array_equal(encoder.transform(column(*shuffled)), features)


@settings(deadline=None)
@given(rows_of_values, st.integers(1, 4), st.integers(1, 3))
def test_missing_cells_change_no_width_and_the_state_survives_json(rows, max_categories, min_frequency):
    encoder = fitted(*rows, max_categories=max_categories, min_frequency=min_frequency)
    with_gaps = fitted(*rows, None, "", max_categories=max_categories, min_frequency=min_frequency)
    assert with_gaps.feature_names == encoder.feature_names
    assert encoder.feature_dim <= max_categories + 2
    features = encoder.transform(column(*rows))
    np.testing.assert_array_equal(features[:, -1], [row is None for row in rows])
    np.testing.assert_array_equal(features.any(axis=1), np.ones(len(rows), bool))
    assert set(np.unique(features)) <= {0, 1}
    again = TabularEncoder.from_dict(json.loads(json.dumps(encoder.to_dict(), sort_keys=True)))
    assert again.transform(column(*rows)).tobytes() == features.tobytes()


def test_many_rows_take_little_time_and_the_memory_of_the_result():
    random = np.random.default_rng(0)
    people = [f"Person {number}" for number in range(5000)]
    drawn = random.zipf(1.3, (20_000, 10)) % len(people)
    frame = column(*("|".join(people[number] for number in row) for row in drawn))
    start = time.perf_counter()
    encoder = TabularEncoder(multi_valued=["actors"]).fit(frame)
    tracemalloc.start()
    features = encoder.transform(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - start < 20
    assert features.shape == (20_000, 52)
    assert peak < 1.1 * features.nbytes
