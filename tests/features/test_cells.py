import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmadapters.features.cells import category_key, is_missing, list_in_text, to_number, values_in


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1.0", "1"),
        ("007", "7"),
        (np.int64(3), "3"),
        (np.float32(0.5), "0.5"),
        (Decimal("2.50"), "2.5"),
        (-0.0, "0"),
        (12345678901234567890, "12345678901234567890"),
        (True, "true"),
        (np.bool_(False), "false"),
        (" drama ", "drama"),
        ("1_000", "1_000"),
        ("9" * 5000, "9" * 5000),
        ("1e999", "1e999"),
        ("NA", "NA"),
        ("", None),
        (None, None),
        (float("nan"), None),
        (pd.NaT, None),
    ],
)
def test_category_keys(value, key):
    assert category_key(value) == key


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()))
def test_the_key_of_a_key_is_the_key(value):
    key = category_key(value)
    assert key is None or category_key(key) == key


@given(st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_a_key_survives_json_and_text(value):
    assert category_key(json.loads(json.dumps(value))) == category_key(value) == category_key(str(value))


def test_numbers_and_what_is_none():
    assert to_number("1e3") == 1000.0
    assert to_number(Decimal("0.5")) == 0.5
    assert np.isnan(to_number(10**400))
    assert np.isnan(to_number(None))
    for value in ("1_000", "twelve", [1.0], {"a": 1}, pd.Timestamp("2020-01-01"), 1j):
        assert to_number(value) is None
    assert is_missing("  ")
    assert not is_missing([None])


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("a|b", ["a", "b"]),
        ("Bibi Andersson | Max von Sydow", ["Bibi Andersson ", " Max von Sydow"]),
        ("a", ["a"]),
        ("|", ["", ""]),
        ('["a|b", 1, null]', ["a|b", 1, None]),
        (" ['a', 'b'] ", ["a", "b"]),
        ("[]", []),
        ("[unknown]|b", ["[unknown]", "b"]),
        (["a", 2, None], ["a", 2, None]),
        (("a",), ["a"]),
        (frozenset("a"), ["a"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(3), [3]),
        (np.array([]), []),
        (7, [7]),
        (True, [True]),
        ({"a": 1}, None),
        ([["a"]], None),
        (np.zeros((1, 2)), None),
        ('[{"id": 1}]', None),
        (iter("ab"), None),
    ],
)
def test_the_values_of_a_cell(cell, values):
    assert values_in(cell, "|") == values


def test_a_separator_may_be_longer_than_a_sign_and_is_for_text_alone():
    assert values_in("a, b,c", ", ") == ["a", "b,c"]
    assert values_in(["a, b"], ", ") == ["a, b"]


@pytest.mark.parametrize("text", ["[" * 100_000, "[1", "[a]", "(1, 2)", '{"a": 1}', "", "[1]]"])
def test_text_that_is_no_list(text):
    assert list_in_text(text) is None
