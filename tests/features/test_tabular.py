import json
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.tabular import TabularEncoder

FRAME = pd.DataFrame(
    {
        "budget": [1.0, 3.0, None, 8.0],
        "year": [1990, 1990, 1990, 1990],
        "genre": ["drama", "comedy", None, "drama"],
    }
)


def test_numeric_columns_are_standardised_by_the_population_statistics_of_the_fitted_rows():
    encoder = TabularEncoder(numeric=["budget"]).fit(FRAME)
    std = np.sqrt(((1 - 4) ** 2 + (3 - 4) ** 2 + (8 - 4) ** 2) / 3)
    expected = [[-3 / std, 0], [-1 / std, 0], [0, 1], [4 / std, 0]]
    features = encoder.transform(FRAME)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, np.array(expected, dtype=np.float32))


def test_other_rows_do_not_change_the_statistics():
    encoder = TabularEncoder(numeric=["budget"], categorical=["genre"]).fit(FRAME)
    before = encoder.transform(FRAME)
    encoder.transform(pd.DataFrame({"budget": [1e6, -5], "genre": ["horror", "horror"]}))
    np.testing.assert_array_equal(encoder.transform(FRAME), before)


def test_the_feature_names_keep_the_order_of_the_user_and_name_every_feature():
    encoder = TabularEncoder(numeric=["year", "budget"], categorical=["genre"]).fit(FRAME)
    assert encoder.feature_names == [
        "year",
        "year__missing",
        "budget",
        "budget__missing",
        "genre=drama",
        "genre=comedy",
        "genre__other",
        "genre__missing",
    ]
    assert encoder.feature_dim == 8
    np.testing.assert_array_equal(encoder.transform(FRAME)[2, 4:], [0, 0, 0, 1])


def test_a_constant_column_is_zero_for_every_row():
    encoder = TabularEncoder(numeric=["year"]).fit(FRAME)
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"year": [1990, 2020, None]}))[:, 0], [0, 0, 0])
    tenths = pd.DataFrame({"x": [0.1] * 7})
    np.testing.assert_array_equal(TabularEncoder(numeric=["x"]).fit(tenths).transform(tenths)[:, 0], np.zeros(7))


def test_infinities_blank_text_and_not_a_number_are_missing():
    encoder = TabularEncoder(numeric=["budget"]).fit(FRAME)
    given = pd.DataFrame({"budget": [np.inf, -np.inf, np.nan, None, " ", "nan", pd.NA, "inf"]}, dtype=object)
    np.testing.assert_array_equal(encoder.transform(given), [[0, 1]] * 8)


def test_infinities_do_not_enter_the_statistics():
    encoder = TabularEncoder(numeric=["x"]).fit(pd.DataFrame({"x": [1.0, 3.0, np.inf]}))
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))[:, 0], [-1, 0, 1])


@pytest.mark.parametrize("dtype", ["int64", "float32", "Int64", "Float64", object])
def test_every_kind_of_number_is_read(dtype):
    encoder = TabularEncoder(numeric=["x"]).fit(pd.DataFrame({"x": pd.Series([1, 3], dtype=dtype)}))
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"x": ["1", " 2.0 ", "3e0"]}))[:, 0], [-1, 0, 1])


def test_truth_values_are_the_numbers_0_and_1():
    encoder = TabularEncoder(numeric=["x"]).fit(pd.DataFrame({"x": [True, False]}))
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"x": [1, 0]}))[:, 0], [1, -1])


def test_a_value_far_outside_the_fitted_rows_stays_finite():
    encoder = TabularEncoder(numeric=["x"]).fit(pd.DataFrame({"x": [0.0, 1e-300]}))
    assert np.isfinite(encoder.transform(pd.DataFrame({"x": [1e308, -1e308]}))).all()


def test_values_whose_spread_overflows_are_refused():
    with pytest.raises(DataError, match="column 'x' .* too large to be standardised. Take their logarithm"):
        TabularEncoder(numeric=["x"]).fit(pd.DataFrame({"x": [-1e308, 1e308]}))


def test_a_column_without_a_value_is_zero_and_logged(caplog):
    frame = pd.DataFrame({"x": [None, np.nan], "c": ["a", "b"]})
    with caplog.at_level(logging.WARNING):
        encoder = TabularEncoder(numeric=["x"], categorical=["c"]).fit(frame)
    assert "Numeric column 'x' has no value in the training rows" in caplog.text
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"x": [5.0], "c": ["a"]})), [[0, 0, 1, 0, 0, 0]])


def test_categories_come_by_frequency_then_by_name():
    frame = pd.DataFrame({"c": ["b", "a", "z", "z", "b", "m"]})
    assert TabularEncoder(categorical=["c"]).fit(frame).feature_names[:4] == ["c=b", "c=z", "c=a", "c=m"]


def test_rare_and_unseen_categories_are_other():
    frame = pd.DataFrame({"c": ["a", "a", "a", "b", "b", "d"]})
    by_frequency = TabularEncoder(categorical=["c"], min_frequency=2).fit(frame)
    by_number = TabularEncoder(categorical=["c"], max_categories=1).fit(frame)
    assert by_frequency.feature_names == ["c=a", "c=b", "c__other", "c__missing"]
    assert by_number.feature_names == ["c=a", "c__other", "c__missing"]
    given = pd.DataFrame({"c": ["b", "d", "new", None]})
    np.testing.assert_array_equal(
        by_frequency.transform(given), [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    np.testing.assert_array_equal(by_number.transform(given), [[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_a_category_is_the_same_whatever_file_it_came_from():
    encoder = TabularEncoder(categorical=["c", "flag"]).fit(pd.DataFrame({"c": [1, 2, 2], "flag": [True, False, True]}))
    for numbers, flags in [
        ([1.0, 2.0], ["True", "False"]),
        (["1", "2.0"], ["true", "FALSE"]),
        ([1, 2], [True, False]),
    ]:
        features = encoder.transform(pd.DataFrame({"c": numbers, "flag": flags}))
        np.testing.assert_array_equal(features, [[0, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 1, 0, 0]])


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(allow_nan=True, width=32)),
            st.one_of(st.none(), st.text(max_size=3), st.integers(-5, 5), st.booleans()),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_state_survives_json_bit_for_bit_and_every_row_has_one_category(rows, max_categories, min_frequency):
    frame = pd.DataFrame({"n": [row[0] for row in rows], "c": pd.Series([row[1] for row in rows], dtype=object)})
    encoder = TabularEncoder(["n"], ["c"], max_categories, min_frequency).fit(frame)
    features = encoder.transform(frame)
    assert features.shape == (len(rows), encoder.feature_dim)
    assert encoder.feature_dim <= 2 + max_categories + 2
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, 2:].sum(axis=1), np.ones(len(rows)))
    again = TabularEncoder.from_dict(json.loads(json.dumps(encoder.to_dict(), sort_keys=True)))
    assert again.feature_names == encoder.feature_names
    assert again.transform(frame).tobytes() == features.tobytes()


def test_no_rows_to_transform_give_no_rows():
    encoder = TabularEncoder(numeric=["budget"], categorical=["genre"]).fit(FRAME)
    assert encoder.transform(FRAME.iloc[:0]).shape == (0, encoder.feature_dim)


def test_a_missing_column_is_named_with_the_nearest_one():
    with pytest.raises(
        DataError, match="have no column 'budjet'. Their columns are 'budget', 'year', 'genre'. Did you"
    ):
        TabularEncoder(numeric=["budjet"]).fit(FRAME)
    encoder = TabularEncoder(numeric=["budget"], categorical=["genre"]).fit(FRAME)
    with pytest.raises(DataError, match="have no columns 'budget', 'genre'. Their columns are 'year'."):
        encoder.transform(FRAME[["year"]])


def test_a_column_that_the_frame_has_twice_is_refused():
    twice = pd.concat([FRAME, FRAME[["year"]]], axis=1)
    with pytest.raises(DataError, match="more than one column 'year'"):
        TabularEncoder(numeric=["year"]).fit(twice)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({}, "was given no column. List at least one under 'numeric', 'categorical' or 'multi_valued'"),
        ({"numeric": ["a", "b", "a"]}, "Column 'a' is listed 2 times"),
        ({"numeric": ["a"], "categorical": ["a"]}, "Column 'a' is listed 2 times"),
        ({"numeric": "budget"}, r"numeric='budget' is one text. Give a list of column names"),
        ({"categorical": ["a"], "multi_valued": ["a"]}, "Column 'a' is listed 2 times. List every column once, under"),
        ({"multi_valued": "actors"}, "multi_valued='actors' is one text"),
        ({"multi_valued": ["a"], "value_separator": ""}, "value_separator='' cannot be used. Give the text between"),
        ({"multi_valued": ["a"], "value_separator": None}, "value_separator=None cannot be used"),
        ({"categorical": ["a", 3]}, "categorical lists 3. A column is given by its name"),
        ({"categorical": ["a"], "max_categories": 0}, "max_categories=0 cannot be used"),
        ({"categorical": ["a"], "min_frequency": True}, "min_frequency=True cannot be used"),
    ],
)
def test_settings_that_cannot_be_used(settings_, message):
    with pytest.raises(ConfigurationError, match=message):
        TabularEncoder(**settings_)


def test_a_value_that_is_no_number_is_named_with_column_and_row():
    frame = pd.DataFrame({"budget": ["1", "lots"]}, index=[10, 11])
    with pytest.raises(DataError, match="Column 'budget' holds 'lots' in row 11, which is no number.*'categorical'"):
        TabularEncoder(numeric=["budget"]).fit(frame)


def test_dates_and_lists_are_no_numbers():
    with pytest.raises(DataError, match="Column 'd' holds Timestamp.* in row 0, which is no number"):
        TabularEncoder(numeric=["d"]).fit(pd.DataFrame({"d": pd.to_datetime(["2020-01-01"])}))
    with pytest.raises(DataError, match="Categorical column 'c' holds a list in row 0.*under 'multi_valued'"):
        TabularEncoder(categorical=["c"]).fit(pd.DataFrame({"c": [["a", "b"]]}))


def test_nothing_is_encoded_before_fit_and_nothing_learned_from_no_rows():
    encoder = TabularEncoder(numeric=["budget"])
    for use in (lambda: encoder.transform(FRAME), encoder.to_dict, lambda: encoder.feature_dim):
        with pytest.raises(ConfigurationError, match="Call fit with the rows of the training split first"):
            use()
    with pytest.raises(DataError, match="was fitted on no rows"):
        encoder.fit(FRAME.iloc[:0])
