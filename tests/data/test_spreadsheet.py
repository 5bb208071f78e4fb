"""Cells that would start a formula in a spreadsheet, and those that would not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmadapters.data.spreadsheet import quoted_formula, without_formulas


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_starts_a_formula_is_quoted(start: str) -> None:
    assert quoted_formula(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"


@pytest.mark.parametrize("cell", ["-5", "+3.25e-4", "-0", "drama", "a=b", "", None, -5, -0.5, np.nan, True, ["=1"]])
def test_numbers_and_other_texts_stay_as_they_are(cell: object) -> None:
    assert quoted_formula(cell) is cell


def test_names_of_columns_are_cells_too() -> None:
    frame = pd.DataFrame({"=id": ["@a", None, "b"], "value": [-1.5, 2.0, np.nan], "n": [-1, 2, 3]})
    safe = without_formulas(frame)
    assert safe.to_csv(index=False) == "'=id,value,n\n'@a,-1.5,-1\n,2.0,2\nb,,3\n"
    assert frame.columns.tolist() == ["=id", "value", "n"]
    assert frame["=id"].tolist()[0] == "@a"
