"""What a cell of a table says: nothing, a number, a category or several of them, whatever type its file gave it."""

from __future__ import annotations

import ast
import json
import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE)
_EXACT_INTEGERS = 2.0**53
_COLLECTIONS = (list, tuple, set, frozenset)


def is_missing(value: Any) -> bool:
    """Tell whether a cell holds nothing: ``None``, ``NaN``, ``NaT``, ``pd.NA`` or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def category_key(value: object) -> str | None:
    """Return the text by which a category is compared, or None where the cell is missing.

    A file's type decides whether a value arrives as ``1``, ``1.0``, ``"1"`` or ``True``, ``"True"``, ``"true"``;
    the key is the same for each of these.
    """
    if is_missing(value):
        return None
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    return _number_key(text) if _NUMBER.fullmatch(text) else text


def values_in(cell: Any, separator: str) -> list[Any] | None:
    """Return the values of a cell that may have several, as they are.

    Args:
        cell: A list, tuple, set or array; text, which is cut at the separator or, where it is a list of JSON or
            Python, read as such; or another single value. It is not missing.
        separator: Text between values.

    Returns:
        The values, missing ones among them; None where the cell, or a value of a list, is none of these.
    """
    if isinstance(cell, str):
        entries = list_in_text(cell)
        if entries is None:
            return list(cell.split(separator))
    elif isinstance(cell, np.ndarray):
        entries = list(np.atleast_1d(cell))
    elif isinstance(cell, _COLLECTIONS):
        entries = list(cell)
    else:
        entries = [cell]
    return entries if all(isinstance(entry, str) or pd.api.types.is_scalar(entry) for entry in entries) else None


def list_in_text(cell: str) -> list[Any] | None:
    """Return the list that a text such as ``["a", "b"]`` (or Python's ``['a', 'b']``) states, or None."""
    text = cell.strip()
    if not text.startswith("["):
        return None
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        try:
            entries = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return entries if isinstance(entries, list) else None


def to_number(value: object) -> float | None:
    """Return a cell as a number, ``nan`` where it is missing or infinite, or None where it is no number at all."""
    if is_missing(value):
        return math.nan
    if isinstance(value, (bool, int, float, Decimal, np.bool_, np.integer, np.floating)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    elif isinstance(value, str) and (_NUMBER.fullmatch(value.strip()) or _NOT_FINITE.fullmatch(value.strip())):
        number = float(value)
    else:
        return None
    return number if math.isfinite(number) else math.nan


def _number_key(text: str) -> str:
    number = float(text)
    if number.is_integer() and abs(number) < _EXACT_INTEGERS:
        return str(int(number))
    if _INTEGER.fullmatch(text):
        return ("-" if text.startswith("-") else "") + text.lstrip("+-").lstrip("0")
    return repr(number) if math.isfinite(number) else text
