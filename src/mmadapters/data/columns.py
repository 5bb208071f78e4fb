"""What the columns of a table seem to hold: text, categories, numbers, labels, paths of media, or vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.features.cells import category_key, is_missing, list_in_text, to_number

EMPTY = "empty"
TEXT = "text"
IDENTIFIER = "identifier"
CATEGORY = "category"
NUMBER = "number"
LIST = "list"
VECTOR = "vector"
NPY_PATH = "npy path"

SEPARATORS = ("|", ";", ",")
"""Texts that may stand between the values of a cell, the likeliest first."""

ENDINGS: dict[str, tuple[str, ...]] = {
    "image path": (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic"),
    "audio path": (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff"),
    "video path": (
        *(".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv", ".3gp"),
    ),
    NPY_PATH: (".npy",),
}
"""How the files of each type of path end, in lower case."""

_TYPE_OF_ENDING = {ending: type for type, endings in ENDINGS.items() for ending in endings}
_NEARLY_ALL = 0.9
_LIST_SHARE = 0.05
_MOST_WORDS = 5
_LONGEST_PATH = 4096
_SHOWN = 5


@dataclass(frozen=True)
class Column:
    """What a column of N rows seems to hold.

    Attributes:
        name: Its name.
        type: ``empty``, ``text``, ``identifier``, ``category``, ``number``, ``list``, ``vector``, ``image path``,
            ``audio path``, ``video path`` or ``npy path``.
        missing: Number of empty cells.
        distinct: Number of different values; of a list column, of different values in the lists.
        separator: Text between the values of a cell of a list column; None where the cells are lists.
        values: How often each value occurs, the most frequent first; of categories and lists.
        numbers: Smallest, mean and largest; of numbers.
        words: Mean and largest number of words of a cell; of text.
        shapes: How often each form occurs, ``(D,)`` or ``(T, D)`` with the number for D; of vectors.
        odd: Some of the rows whose cells do not fit the type, and what they hold.
        n_odd: Number of all such rows.
    """

    name: str
    type: str
    missing: int
    distinct: int
    separator: str | None = None
    values: dict[str, int] = field(default_factory=dict)
    numbers: tuple[float, float, float] | None = None
    words: tuple[float, int] | None = None
    shapes: dict[str, int] = field(default_factory=dict)
    odd: dict[Any, str] = field(default_factory=dict)
    n_odd: int = 0


def describe_column(series: pd.Series, separator: str | None = None) -> Column:
    """Return what a column seems to hold.

    Lists, arrays and JSON lists are a ``vector`` where they hold numbers and are equally wide, and else a ``list``.
    Text is a path where most cells end like a file of media, and a number where nearly all cells are numbers. It is a
    ``list`` where a separator stands between short values that come again in other cells. What is left is a
    ``category`` (short, and each value twice on average), an ``identifier`` (all different, without blanks), or
    ``text``.

    Args:
        series: The column; its index names the rows.
        separator: Text between the values of a cell, where it is known; the column is a ``list`` then.
    """
    present = {row: cell for row, cell in series.items() if not is_missing(cell)}
    base = Column(str(series.name), EMPTY, len(series) - len(present), 0)
    if not present:
        return base
    entries = {row: entry for row, cell in present.items() if (entry := _entries(cell)) is not None}
    if separator is not None:
        return _described_list(base, present, separator)
    if len(entries) >= _NEARLY_ALL * len(present):
        vectors = _vectors(entries)
        if vectors is not None:
            odd = {row: cell for row, cell in present.items() if row not in vectors}
            return _described_vectors(base, vectors, odd)
        return _described_list(base, present, None)
    return _described_values(base, present)


def parts_of(cell: Any, separator: str | None) -> list[str]:
    """Return the values in a cell that is not missing, as texts.

    Args:
        cell: A list, an array, a JSON list, or text with separators between the values.
        separator: The separator, or None where a text that is no list is one value.
    """
    entries = _entries(cell)
    if entries is None:
        entries = str(cell).split(separator) if separator is not None else [cell]
    return [str(category_key(entry)) for entry in entries if not is_missing(entry)]


def vector_shape(shape: Sequence[int]) -> str:
    """Return the form of an array for people: ``(D,)``, or ``(T, D)`` with the letter T, since lengths differ."""
    return f"({shape[0]},)" if len(shape) == 1 else f"(T, {shape[1]})" if len(shape) == 2 else str(tuple(shape))


def _entries(cell: Any) -> list[Any] | None:
    if isinstance(cell, str):
        return list_in_text(cell)
    if isinstance(cell, np.ndarray):
        return list(np.atleast_1d(cell))
    return list(cell) if isinstance(cell, (list, tuple, set, frozenset)) else None


def _vectors(entries: Mapping[Any, list[Any]]) -> dict[Any, np.ndarray] | None:
    """Return the arrays of a column of vectors, or None where its lists are something else, such as labels."""
    arrays = {}
    for row, entry in entries.items():
        array = _array(entry)
        if array is None:
            return None
        arrays[row] = array
    widths = Counter(array.shape[-1] for array in arrays.values())
    (width, count), *_ = widths.most_common(1)
    # Lists of whole numbers that are not equally long are rather labels.
    whole = all((array == np.round(array)).all() for array in arrays.values())
    fits = width > 1 and (count == len(arrays) or not whole)
    return arrays if fits else None


def _array(entry: list[Any]) -> np.ndarray | None:
    try:
        array = np.asarray(entry)
    except ValueError:
        return None
    if array.dtype.kind == "O":
        # Parquet gives (T, D) as an array of arrays; JSON has null where NumPy has NaN.
        try:
            array = np.stack([np.asarray(part, dtype=np.float64) for part in entry])
        except (TypeError, ValueError):
            return None
    is_numeric = array.dtype.kind in "iuf" and array.ndim in (1, 2) and array.size > 0
    return array.astype(np.float64) if is_numeric else None


def _described_vectors(base: Column, vectors: Mapping[Any, np.ndarray], others: Mapping[Any, Any]) -> Column:
    shapes = Counter(vector_shape(vector.shape) for vector in vectors.values())
    odd = {row: repr(cell) for row, cell in others.items()}
    odd |= {row: "NaN or infinite numbers" for row, vector in vectors.items() if not np.isfinite(vector).all()}
    distinct = len({(vector.shape, vector.tobytes()) for vector in vectors.values()})
    return _with_odd(replace(base, type=VECTOR, distinct=distinct, shapes=dict(shapes.most_common())), odd)


def _described_list(base: Column, present: Mapping[Any, Any], separator: str | None) -> Column:
    counts = Counter(part for cell in present.values() for part in dict.fromkeys(parts_of(cell, separator)))
    return replace(base, type=LIST, distinct=len(counts), separator=separator, values=dict(counts.most_common()))


def _described_values(base: Column, present: Mapping[Any, Any]) -> Column:
    """Describe cells that hold one value each, or several behind a separator."""
    texts = {row: str(category_key(cell)) for row, cell in present.items()}
    counts = Counter(texts.values())
    base = replace(base, distinct=len(counts))
    numbers = {row: number for row, cell in present.items() if (number := to_number(cell)) is not None}
    if len(numbers) >= _NEARLY_ALL * len(present):
        return _described_numbers(base, present, numbers)
    path_type = _path_type(list(texts.values()))
    if path_type is not None:
        fitting = ENDINGS[path_type]
        odd = {row: repr(text) for row, text in texts.items() if _ending(text) not in fitting}
        return _with_odd(replace(base, type=path_type), odd)
    separator = _separator(list(texts.values()))
    if separator is not None:
        return _described_list(base, present, separator)
    words = [len(text.split()) for text in texts.values()]
    if 2 * len(counts) <= len(texts) and max(words) <= 2 * _MOST_WORDS:
        return replace(base, type=CATEGORY, values=dict(counts.most_common()))
    if len(counts) == len(texts) and max(words) == 1:
        return replace(base, type=IDENTIFIER)
    return replace(base, type=TEXT, words=(sum(words) / len(words), max(words)))


def _described_numbers(base: Column, present: Mapping[Any, Any], numbers: Mapping[Any, float]) -> Column:
    odd = {row: repr(cell) for row, cell in present.items() if not np.isfinite(numbers.get(row, np.nan))}
    finite = [number for number in numbers.values() if np.isfinite(number)]
    stated = (min(finite), sum(finite) / len(finite), max(finite)) if finite else None
    return _with_odd(replace(base, type=NUMBER, numbers=stated), odd)


def _path_type(texts: list[str]) -> str | None:
    types = Counter(_TYPE_OF_ENDING.get(_ending(text)) for text in texts)
    (type, count), *_ = types.most_common(1)
    return type if type is not None and 2 * count > len(texts) else None


def _ending(text: str) -> str:
    is_path = len(text) <= _LONGEST_PATH and "\n" not in text
    return PurePath(text).suffix.lower() if is_path else ""


def _separator(texts: list[str]) -> str | None:
    """Return what stands between short values that come again in other cells, or None."""
    for separator in SEPARATORS:
        holding = sum(separator in text for text in texts)
        if holding < max(2, _LIST_SHARE * len(texts)):
            continue
        parts = [part.strip() for text in texts for part in text.split(separator)]
        distinct = set(parts)
        short = max(len(part.split()) for part in distinct) <= _MOST_WORDS
        again = 2 * len(distinct) <= len(parts)
        # "Lastname, Firstname" and its like have more parts than there are cells. A bar is in no name.
        if short and again and (separator == "|" or len(distinct) <= len(set(texts))):
            return separator
    return None


def _with_odd(column: Column, odd: Mapping[Any, str]) -> Column:
    some = {row: cell if len(cell) <= 60 else f"{cell[:57]}…" for row, cell in list(odd.items())[:_SHOWN]}
    return replace(column, odd=some, n_odd=len(odd))
