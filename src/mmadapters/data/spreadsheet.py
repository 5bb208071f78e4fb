"""Cells of CSV files that a spreadsheet would take for a formula."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mmadapters.features.cells import to_number

# Those of OWASP's page on CSV injection, with the full-width forms that spreadsheets read alike.
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_MARK = "'"


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows with a quotation mark before each text, column names included, that would start a formula.

    Numbers, also those that are text such as ``-5``, stay as they are.

    Args:
        frame: N rows.
    """
    safe = frame.rename(columns=quoted_formula)
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = safe[column].map(quoted_formula).astype(object)
    return safe


def quoted_formula(cell: Any) -> Any:
    """Return a cell with a quotation mark in front where it is a text that would start a formula.

    Args:
        cell: Of any type.
    """
    if isinstance(cell, str) and cell.startswith(_STARTS) and to_number(cell) is None:
        return f"{_MARK}{cell}"
    return cell
