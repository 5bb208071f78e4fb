"""Rows of a file with which a person can fill in a page at once."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.dataset import read_features
from mmadapters.data.files import ROOT, read_rows
from mmadapters.errors import DataError
from mmadapters.features.cells import category_key, is_missing, to_number
from mmadapters.features.guard import checked_size, safe_path
from mmadapters.features.table_columns import require_columns, value_rows
from mmadapters.webpage.fields import CATEGORIES_FIELD, CATEGORY_FIELD, NUMBER_FIELD, TEXT_FIELD, VECTOR_FIELD, Field
from mmadapters.webpage.model import LIMITS, PageModel

MOST_EXAMPLES = 20
SNIPPET = 44
"""Characters of a row's text in the list."""


@dataclass(frozen=True)
class Example:
    """A row that fills in a page.

    Attributes:
        title: What it is called in the list.
        values: By field; files are copies in the folder of the page.
        gone: By field, why its file cannot be offered.
    """

    title: str
    values: dict[str, Any]
    gone: dict[str, str]


def read_examples(rows: Path, model: PageModel) -> list[Example]:
    """Return the first rows of a file as examples.

    Args:
        rows: CSV, JSONL or Parquet; paths in it start from its folder and may not leave it.
        model: The model, in whose folder their files are copied, for a page shows nothing else.

    Raises:
        DataError: If the file cannot be read or lacks a column that the model reads.
    """
    frame = read_rows(rows).head(MOST_EXAMPLES)
    # A modality that was trained from a store has no column in the rows, and stays empty.
    asked = [field for field in model.fields if field.kind != VECTOR_FIELD or set(field.columns) <= set(frame)]
    require_columns(frame, [column for field in asked for column in field.columns])
    root = Path(frame.attrs.get(ROOT, rows.parent)).absolute()
    folder = model.folder / "examples"
    return [_example(frame.iloc[[row]], row, asked, root, folder / str(row)) for row in range(len(frame))]


def _example(row: pd.DataFrame, place: int, fields: Sequence[Field], root: Path, folder: Path) -> Example:
    values: dict[str, Any] = {}
    gone: dict[str, str] = {}
    for number, field in enumerate(fields):
        try:
            values[field.name] = _value(row, field, root, folder / str(number))
        except DataError as error:
            gone[field.name] = f"{row[field.columns[0]].iloc[0]}: {error}"
    texts = [values[field.name] for field in fields if field.kind == TEXT_FIELD and values.get(field.name)]
    text = " / ".join(texts) or "(no text)"
    return Example(f"{place + 1}. {text if len(text) <= SNIPPET else f'{text[: SNIPPET - 1]}…'}", values, gone)


def _value(row: pd.DataFrame, field: Field, root: Path, folder: Path) -> Any:
    """Return what a row gives for a field.

    Raises:
        DataError: If its cell cannot be used.
    """
    cell = row[field.columns[0]].iloc[0]
    if len(field.columns) > 1:
        numbers = [to_number(row[column].iloc[0]) for column in field.columns]
        return None if None in numbers else _saved(np.array(numbers, dtype=np.float32), field, folder)
    if is_missing(cell):
        return None
    if field.kind == TEXT_FIELD:
        return str(cell)
    if field.kind == NUMBER_FIELD:
        number = to_number(cell)
        if number is None:
            raise DataError("it is no number")
        return f"{number:.15g}" if math.isfinite(number) else None
    if field.kind == CATEGORY_FIELD:
        return category_key(cell)
    if field.kind == CATEGORIES_FIELD:
        (found,) = value_rows(row, field.columns[0], field.separator)
        return None if found is None else [key for value in found if (key := category_key(value)) is not None]
    return _file(cell, field, root, folder)


def _file(cell: Any, field: Field, root: Path, folder: Path) -> str | None:
    is_path = isinstance(cell, (str, Path)) and not str(cell).strip().startswith("[")
    source = safe_path(cell, root) if is_path else None
    if source is not None:
        checked_size(source, LIMITS)
    if field.kind == VECTOR_FIELD:
        features = read_features(cell if source is None else str(source), f"'{field.name}'", str(root))
        if features is None:
            return None
        return _saved(features if isinstance(features, np.ndarray) else features.load(), field, folder)
    if source is None:
        raise DataError(f"a {type(cell).__name__} is no path")
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.copyfile(source, str(folder / source.name))


def _saved(array: np.ndarray, field: Field, folder: Path) -> str | None:
    if not np.isfinite(array).all():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{field.name}.npy"
    np.save(file, array)
    return str(file)
