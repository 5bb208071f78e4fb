import json
import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmadapters.data.labels import IGNORED_LABEL, LabelEncoder, infer_problem_type, rows_named
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.tabular import category_key

MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"


def column(values, index=None):
    return pd.Series(values, dtype=object, index=index, name="genres")


@pytest.mark.parametrize(
    ("values", "problem_type"),
    [
        ([["a"], ["b", "c"]], MULTI),
        ([("a",), None], MULTI),
        ([{"a"}, {"b"}], MULTI),
        ([np.array(["a"]), np.array([])], MULTI),
        (['["a"]', '["a", "b"]', "[]"], MULTI),
        (["['a', 'b']", "['c']"], MULTI),
        (["[draft] a", "[1]"], SINGLE),
        (["a", "b", None], SINGLE),
        (["1.5", "2.5"], SINGLE),
        ([True, False], SINGLE),
        ([0, 1, 2, 1], SINGLE),
        ([0.0, 1.0, np.nan], SINGLE),
        (list(range(50)), SINGLE),
        (list(range(51)), REGRESSION),
        ([0.5, 1.0], REGRESSION),
        (np.array([1.0, 2.25]), REGRESSION),
        ([1, "a"], SINGLE),
    ],
)
def test_the_problem_type_is_inferred(values, problem_type):
    assert infer_problem_type(values) == problem_type
    assert infer_problem_type(pd.Series(list(values), dtype=object)) == problem_type


def test_a_separator_or_several_columns_make_the_problem_multi_label():
    assert infer_problem_type(column(["a", "b"]), label_separator="|") == MULTI
    assert infer_problem_type(pd.DataFrame({"a": [0, 1], "b": [1, 0]})) == MULTI


def test_a_column_without_a_value_states_no_problem():
    with pytest.raises(DataError, match="has no value in any row"):
        infer_problem_type(column([None, np.nan, ""]))


@pytest.mark.parametrize("values", [["a|b", "b|a", "c|a|b", "a"], ["a, b", "b, a", "c, a", "a"]])
def test_several_labels_taken_as_one_are_hinted_at(values, caplog):
    with caplog.at_level(logging.WARNING):
        assert infer_problem_type(values) == SINGLE
    assert "Set label_separator=" in caplog.text
    assert f"for example '{values[0]}'" in caplog.text


def test_plain_labels_give_no_hint(caplog):
    with caplog.at_level(logging.WARNING):
        infer_problem_type(["drama", "comedy", "sci-fi, fantasy", "drama", "war"])
    assert caplog.text == ""


MULTI_HOT = [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("values", "separator"),
    [
        ([["drama", "war"], ["comedy"], [], ["war", "war"]], None),
        ([("war", "drama"), ("comedy",), (), ("war",)], None),
        ([{"drama", "war"}, {"comedy"}, set(), frozenset({"war"})], None),
        ([np.array(["drama", "war"]), np.array(["comedy"]), np.array([]), np.array(["war"])], None),
        (['["drama", "war"]', '["comedy"]', "[]", '["war"]'], None),
        (["['drama', 'war']", "['comedy']", "[]", "['war']"], None),
        (["drama | war", "comedy", "[]", "war|"], "|"),
        ([["drama", None, "war"], ["comedy"], [None], ["war"]], None),
    ],
)
def test_multi_label_cells(values, separator):
    encoder = LabelEncoder(label_separator=separator).fit(column(values))
    assert encoder.problem_type == MULTI
    assert encoder.classes == encoder.names == ["comedy", "drama", "war"]
    assert encoder.num_labels == 3
    encoded, unseen = encoder.transform(column(values))
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, MULTI_HOT)
    assert unseen == Counter()


def test_one_label_in_a_separated_column_may_be_a_number():
    encoder = LabelEncoder(label_separator="|").fit(column(["1|10", 2, 1.0]))
    assert encoder.classes == ["1", "2", "10"]
    np.testing.assert_array_equal(encoder.transform(column([10, "2|1"]))[0], [[0, 0, 1], [1, 1, 0]])


def test_indicator_columns_keep_the_order_of_the_user():
    frame = pd.DataFrame(
        {"war": [1, 0, 0], "action": [True, False, False], "drama": ["1", "0", "true"], "x": [0, 0, 0]}
    )
    encoder = LabelEncoder().fit(frame)
    assert encoder.classes == ["war", "action", "drama", "x"]
    np.testing.assert_array_equal(encoder.transform(frame)[0], [[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize(("value", "shown"), [(2, "2"), ("yes", "'yes'"), (None, "nan")])
def test_indicator_columns_hold_nothing_but_0_and_1(value, shown):
    frame = pd.DataFrame({"war": [1, 0], "drama": [0, value]}, index=[5, 6])
    with pytest.raises(DataError, match=f"'drama' holds ({shown}|{shown}.0|None) in row 6.*holds 1 where the row has"):
        LabelEncoder().fit(frame)


@pytest.mark.parametrize(
    ("values", "classes", "indices"),
    [
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        ([10, 9, 10], [9, 10], [1, 0, 1]),
        ([2.0, 1.0, 2.0], [1, 2], [1, 0, 1]),
        (["10", "9", "x"], ["9", "10", "x"], [1, 0, 2]),
        ([True, False, True], [False, True], [1, 0, 1]),
        (["007", "8", "007"], ["007", "8"], [0, 1, 0]),
    ],
)
def test_single_label_classes_are_sorted_and_keep_their_type(values, classes, indices):
    encoder = LabelEncoder(SINGLE).fit(column(values))
    assert encoder.classes == classes
    assert [type(label) for label in encoder.classes] == [type(label) for label in classes]
    encoded, _ = encoder.transform(column(values))
    assert encoded.dtype == np.int64
    assert encoded.tolist() == indices


def test_a_label_is_the_same_whatever_file_it_came_from():
    encoder = LabelEncoder().fit(column([1, 2, 3]))
    for values in (["1", "3"], [1.0, 3.0], [np.int8(1), "3.0"]):
        assert encoder.transform(column(values))[0].tolist() == [0, 2]


def test_numbers_are_encoded_as_they_are():
    encoder = LabelEncoder(REGRESSION).fit(column([0.5, 2, "3.25"]))
    encoded, unseen = encoder.transform(column([0.5, -2, "3.25"]))
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [0.5, -2.0, 3.25]
    assert (encoder.classes, encoder.num_labels, unseen) == ([], 1, Counter())


def test_unseen_labels_are_counted_and_left_out(caplog):
    multi = LabelEncoder().fit(column([["a"], ["b"]]))
    with caplog.at_level(logging.WARNING):
        encoded, unseen = multi.transform(column([["a", "new"], ["new", "new", 7], ["b"]]))
    assert unseen == Counter({"new": 2, "7": 1})
    np.testing.assert_array_equal(encoded, [[1, 0], [0, 0], [0, 1]])
    assert "Labels that the training rows do not have are left out: 'new' (2), '7' (1)." in caplog.text
    single = LabelEncoder().fit(column(["a", "b"]))
    encoded, unseen = single.transform(column(["b", "new", "a", "new"]))
    assert encoded.tolist() == [1, IGNORED_LABEL, 0, IGNORED_LABEL]
    assert unseen == Counter({"new": 2})


def test_many_unseen_labels_are_summed_up(caplog):
    with caplog.at_level(logging.WARNING):
        LabelEncoder().fit(column(["a", "b"])).transform(column([f"new{place}" for place in range(8)]))
    assert "'new4' (1) and 3 more." in caplog.text


def test_encoded_labels_are_decoded():
    multi = LabelEncoder().fit(column([["a", "b"], ["c"]]))
    assert multi.decode(np.array([[1, 0, 1], [0, 0, 0]])) == [["a", "c"], []]
    single = LabelEncoder().fit(column([3, 5]))
    assert single.decode(np.array([1, IGNORED_LABEL])) == [5, None]
    assert LabelEncoder(REGRESSION).fit(column([1, 2])).decode(np.array([0.5], dtype=np.float32)) == [0.5]


@pytest.mark.parametrize(
    "values",
    [column([["a"], ["b", "c"]]), column([3, 1, 2]), column([True, False]), column([0.5, 1.5]), column(["x", "1"])],
)
def test_state_survives_json(values):
    encoder = LabelEncoder().fit(values)
    again = LabelEncoder.from_dict(json.loads(json.dumps(encoder.to_dict(), sort_keys=True)))
    assert (again.problem_type, again.classes) == (encoder.problem_type, encoder.classes)
    np.testing.assert_array_equal(again.transform(values)[0], encoder.transform(values)[0])


@given(st.lists(st.lists(st.text(min_size=1, max_size=3), max_size=4), min_size=2, max_size=8), st.randoms())
def test_the_classes_do_not_depend_on_the_order_of_rows_and_decode_gives_each_label_back(rows, random):
    keys = {category_key(label) for row in rows for label in row} - {None}
    assume(len(keys) >= 2)
    shuffled = list(rows)
    random.shuffle(shuffled)
    encoder = LabelEncoder(MULTI).fit(column(rows))
    assert {category_key(label) for label in encoder.classes} == keys
    assert LabelEncoder(MULTI).fit(column(shuffled)).classes == encoder.classes
    encoded, unseen = encoder.transform(column(rows))
    assert not unseen
    np.testing.assert_array_equal(encoder.transform(column(encoder.decode(encoded)))[0], encoded)


@pytest.mark.parametrize(
    ("problem_type", "values", "message"),
    [
        (MULTI, [["a"], None, ["b"]], r"'genres' is missing in row 11. Leave these rows out, or write \[\]"),
        (MULTI, [["a"], "b", ["c"]], "'genres' holds 'b' in row 11.*named by label_separator"),
        (MULTI, [["a"], [["b"]], ["c"]], r"'genres' holds \[\['b'\]\] in row 11"),
        (MULTI, [["a"], {"b": 1}, ["c"]], "'genres' holds .* in row 11"),
        (SINGLE, ["a", None, ""], "'genres' is missing in rows 11, 12. Leave these rows out, or give each a label"),
        (SINGLE, ["a", ["b"], "c"], r"'genres' holds \['b'\] in row 11, but the problem type is single"),
        (REGRESSION, [1, None, np.inf], "'genres' is missing or infinite in rows 11, 12"),
        (REGRESSION, [1, "two", 3], "'genres' holds 'two' in row 11, but the problem type is regression"),
        (REGRESSION, [1, 1e300, 3], "'genres' holds 1e.300 in row 11.*float32"),
        (SINGLE, ["a", "a", "a"], "'genres' has only the label 'a' in the training rows"),
        (MULTI, [["a"], ["a"], []], "'genres' has only the label 'a' in the training rows"),
        (MULTI, [[], [], []], "'genres' has no two different labels in the training rows"),
        (REGRESSION, [2, 2, 2], "'genres' has no two different labels in the training rows"),
    ],
)
def test_labels_that_cannot_be_learned_from(problem_type, values, message):
    with pytest.raises(DataError, match=message):
        LabelEncoder(problem_type).fit(column(values, index=[10, 11, 12]))


def test_a_missing_label_is_refused_in_other_splits_too():
    with pytest.raises(DataError, match="'genres' is missing in row 0"):
        LabelEncoder().fit(column(["a", "b"])).transform(column([None, "a"]))


def test_settings_and_rows_that_cannot_be_used():
    with pytest.raises(ConfigurationError, match="problem_type='multilabel' cannot be used. Accepted are 'multi_label"):
        LabelEncoder("multilabel")
    with pytest.raises(DataError, match="learned from no rows"):
        LabelEncoder().fit(column([]))
    with pytest.raises(DataError, match="No training row has one of the labels 'a', 'b'"):
        LabelEncoder().fit(pd.DataFrame({"a": [0, 0], "b": [0, 0]}))


def test_rows_are_named():
    assert rows_named([3]) == "row 3"
    assert rows_named(["a", "b"]) == "rows a, b"
    assert rows_named(range(7)) == "rows 0, 1, 2, 3, 4 and 2 more"
