"""What each column of a table is used as, where nobody said it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from mmadapters.data.columns import (
    CATEGORY,
    EMPTY,
    IDENTIFIER,
    LIST,
    NPY_PATH,
    NUMBER,
    TEXT,
    VECTOR,
    Column,
    describe_column,
)
from mmadapters.errors import DataError
from mmadapters.features.cells import category_key, is_missing
from mmadapters.predictor.media_kinds import AUDIO, IMAGE, VIDEO, FilesFound, files_of, looks_like_paths

NUMERIC, CATEGORICAL, MULTI_VALUED, IGNORED = "numeric", "categorical", "multi_valued", "ignore"
MEDIA = (IMAGE, VIDEO, AUDIO)
TABLE = (NUMERIC, CATEGORICAL, MULTI_VALUED)
KINDS = (TEXT, *MEDIA, *TABLE, VECTOR, IGNORED)
"""What a column can be used as."""

MOST_TEXTS = 2
"""A model reads one text, or two as a pair."""

SAMPLED_ROWS = 10_000
"""Rows that columns are judged by."""

_FEW_WORDS = 10
_MOSTLY_DIFFERENT = 0.9
_ID_NAME = re.compile(r"(.*[_\- ])?(id|key|index|uuid|guid)|.*[a-z]Id|unnamed: ?\d+", re.IGNORECASE)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")


@dataclass(frozen=True)
class Guess:
    """What a column is used as.

    Attributes:
        column: Its name.
        kinds: One of ``KINDS``; for a video with sound ``video`` and ``audio``.
        reason: What it was told by, for people.
        separator: Text between the values of a cell of a ``multi_valued`` column; None where cells are lists.
    """

    column: str
    kinds: tuple[str, ...]
    reason: str
    separator: str | None = None


def sample_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that columns are judged by: all, or some from all over the table.

    Args:
        frame: The rows.
    """
    if len(frame) <= SAMPLED_ROWS:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, SAMPLED_ROWS, dtype=np.int64)]


def guess_columns(
    frame: pd.DataFrame, given: Mapping[str, tuple[str, ...]], root: str, allow_outside_root: bool
) -> list[Guess]:
    """Tell what columns are used as.

    Args:
        frame: Rows, without the columns of the labels.
        given: What some columns are used as, as was said.
        root: Folder that relative paths start from.
        allow_outside_root: Whether paths may leave it.

    Returns:
        A guess for each column, in the order of the frame.

    Raises:
        DataError: If a column holds paths of media and none leads to a file.
    """
    sample = sample_of(frame)
    guesses = [
        _said(sample[name], given[name])
        if name in given
        else _guess(sample[name], frame[name], root, allow_outside_root)
        for name in frame.columns
    ]
    return _with_fewer_texts(guesses, sample, set(given))


def separator_of(series: pd.Series) -> str | None:
    """Return the text between the values of a column's cells, or None where they are lists or hold one value.

    Args:
        series: The column.
    """
    return describe_column(series).separator


def _said(series: pd.Series, kinds: tuple[str, ...]) -> Guess:
    separator = separator_of(series) if kinds == (MULTI_VALUED,) else None
    return Guess(str(series.name), kinds, "as given", separator)


def _guess(series: pd.Series, whole: pd.Series, root: str, allow_outside_root: bool) -> Guess:
    name = str(series.name)
    column = describe_column(series)
    if column.type == EMPTY:
        return Guess(name, (IGNORED,), "no row has a value")
    media = _media(series, column, root, allow_outside_root)
    if media is not None:
        return media
    if column.type == NPY_PATH:
        return Guess(name, (VECTOR,), "paths of .npy files")
    if column.type == VECTOR:
        return Guess(name, (VECTOR,), f"vectors {', '.join(column.shapes)}")
    if column.type == LIST:
        how = "lists" if column.separator is None else f"several values a cell, with {column.separator!r} between"
        return Guess(name, (MULTI_VALUED,), f"{how}; {column.distinct:,} different", column.separator)
    if column.distinct == 1 and not column.missing and _is_constant(whole):
        return Guess(name, (IGNORED,), "every row has the same value")
    return _by_type(series, column) or _single_values(column, len(series))


def _by_type(series: pd.Series, column: Column) -> Guess | None:
    """Return a guess for a column whose type in Python or pandas says more than its values do, None for another."""
    if _are_dates(series):
        return Guess(column.name, (IGNORED,), "dates are not read; make a number of them, such as the year")
    if _are_durations(series):
        return Guess(column.name, (IGNORED,), "durations are not read; make a number of them, such as seconds")
    if column.type == NUMBER and isinstance(series.dtype, pd.CategoricalDtype):
        return Guess(column.name, (CATEGORICAL,), f"a categorical column; {column.distinct:,} different values")
    if column.type == NUMBER and _are_truth_values(series):
        # In a file they are the words for them.
        return Guess(column.name, (CATEGORICAL,), "truth values")
    return None


def _media(series: pd.Series, column: Column, root: str, allow_outside_root: bool) -> Guess | None:
    """Return a guess for a column of paths, None for another."""
    if column.type in (NUMBER, LIST, VECTOR, NPY_PATH):
        return None
    by_name = looks_like_paths(series)
    found = files_of(series, root, allow_outside_root)
    if not found.kinds:
        if by_name:
            raise no_files(str(series.name), found, root)
        return None
    return Guess(str(series.name), found.kinds, _what_was_found(found, by_name))


def no_files(name: str, found: FilesFound, root: str) -> DataError:
    """Return the error that a column of paths leads to no media.

    Args:
        name: The column.
        found: What its cells lead to.
        root: Folder that relative paths start from.
    """
    if found.files:
        return DataError(
            f"Column '{name}' holds paths, and what the first {found.looked_at} lead to are no images, videos or "
            f"sounds that are known. Leave the column out: column_kinds={{'{name}': 'ignore'}}."
        )
    return DataError(
        f"Column '{name}' holds paths of media, and none of {found.looked_at} that were looked at leads to a file: "
        f"{found.problem}. Relative paths start from '{root}'; give another folder by root=…, or leave the column out: "
        f"column_kinds={{'{name}': 'ignore'}}."
    )


def _what_was_found(found: FilesFound, by_name: bool) -> str:
    what = {
        (IMAGE,): "images",
        (VIDEO,): "videos without sound",
        (AUDIO,): "sounds",
        (VIDEO, AUDIO): "videos with sound",
    }[found.kinds]
    misnamed = f"; {found.misnamed} have another ending" if found.misnamed and by_name else ""
    return f"{found.files} of {found.looked_at} paths that were followed lead to files: {what}{misnamed}"


def _single_values(column: Column, rows: int) -> Guess:
    """Return a guess for a column whose cells have one value each."""
    name, present = column.name, rows - column.missing
    is_id_name = _ID_NAME.fullmatch(name) is not None
    all_different = column.distinct == present and present > 1
    if is_id_name and 2 * column.distinct > present:
        return Guess(name, (IGNORED,), "it names rows, by its name and its values")
    if column.type == NUMBER:
        if is_id_name:
            return Guess(name, (CATEGORICAL,), f"codes; {column.distinct:,} different")
        low, mean, high = column.numbers or (0.0, 0.0, 0.0)
        odd = f"; {column.n_odd} of {present} cells are no numbers" if column.n_odd else ""
        return Guess(name, (NUMERIC,), f"numbers from {low:g} to {high:g}{odd}")
    if column.type == IDENTIFIER or (all_different and column.words is None):
        return Guess(name, (IGNORED,), "every row has another value, of one word: it names rows")
    if column.type == CATEGORY or is_id_name:
        return Guess(name, (CATEGORICAL,), f"{column.distinct:,} different values")
    mean_words, most_words = column.words or (0.0, 0)
    if most_words <= _FEW_WORDS and column.distinct < _MOSTLY_DIFFERENT * present:
        return Guess(name, (CATEGORICAL,), f"{column.distinct:,} different values of few words")
    return Guess(name, (TEXT,), f"{mean_words:.0f} words a cell")


def _with_fewer_texts(guesses: list[Guess], sample: pd.DataFrame, given: set[str]) -> list[Guess]:
    """Leave out texts where there are more than a model reads: those with the fewest words."""
    texts = [guess.column for guess in guesses if guess.kinds == (TEXT,)]
    free = [name for name in texts if name not in given]
    room = max(0, MOST_TEXTS - len(set(texts) & given))
    words = {name: _mean_words(sample[name].tolist()) for name in free}
    kept = set(sorted(free, key=lambda name: -words[name])[:room])
    return [
        Guess(guess.column, (IGNORED,), "a model reads at most two text columns; join them into one to have all read")
        if guess.column in free and guess.column not in kept
        else guess
        for guess in guesses
    ]


def _mean_words(cells: Iterable[object]) -> float:
    counts = [len(str(cell).split()) for cell in cells if not is_missing(cell)]
    return sum(counts) / max(len(counts), 1)


def _is_constant(series: pd.Series) -> bool:
    keys: Iterable[str | None] = (category_key(cell) for cell in series)
    first = category_key(series.iloc[0])
    return all(key == first for key in keys)


def _are_dates(series: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(series):
        return True
    present = [cell for cell in series if not is_missing(cell)]
    return all(isinstance(cell, (date, pd.Period)) or _ISO_DATE.fullmatch(str(cell).strip()) for cell in present)


def _are_truth_values(series: pd.Series) -> bool:
    return all(isinstance(cell, (bool, np.bool_)) for cell in series if not is_missing(cell))


def _are_durations(series: pd.Series) -> bool:
    if pd.api.types.is_timedelta64_dtype(series):
        return True
    return all(isinstance(cell, timedelta) for cell in series if not is_missing(cell))
