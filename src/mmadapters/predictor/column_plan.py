"""From what a person said of columns, and what is guessed, to texts, media, tables and vectors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mmadapters.data.columns import EMPTY, LIST, NUMBER, TEXT, VECTOR, describe_column
from mmadapters.data.schema import ModalitySource, TabularColumns, VectorColumn
from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed
from mmadapters.features.table_columns import require_columns
from mmadapters.predictor.guessing import (
    CATEGORICAL,
    IGNORED,
    KINDS,
    MEDIA,
    MULTI_VALUED,
    NUMERIC,
    TABLE,
    Guess,
    guess_columns,
    sample_of,
)

TABLE_NAME = "table"
"""Name of the modality that table columns make."""

NAMES_ROWS = "names rows"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_\-]")
_NAMES = Mapping[str, Any]


@dataclass(frozen=True)
class ColumnChoice:
    """What a person said of columns; see ``MultimodalPredictor``."""

    label: Any = None
    text: Any = None
    image: Any = None
    video: Any = None
    audio: Any = None
    tabular: Any = None
    vectors: Any = None
    column_kinds: Any = None
    id: str | None = None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The column of the labels, or the columns of 0 and 1."""
        return tuple(_several("label", self.label))

    @property
    def guesses(self) -> bool:
        """Whether nothing was said but the label and kinds of columns, so that the rest is guessed."""
        said = (self.text, self.image, self.video, self.audio, self.tabular, self.vectors)
        return all(value is None for value in said)


@dataclass(frozen=True)
class MediaColumn:
    """A modality that is made from raw media.

    Attributes:
        modality: Its name.
        kind: ``image``, ``video`` or ``audio``.
        column: Column of the paths.
    """

    modality: str
    kind: str
    column: str


@dataclass(frozen=True)
class ColumnPlan:
    """What a model reads.

    Attributes:
        text: One column, or two that make a pair.
        media: Modalities from raw media.
        tables: Modalities from table columns.
        vectors: Modalities from columns of vectors.
        guesses: What each column is used as, where that was guessed.
        id: Column that names rows in outputs, or None.
    """

    text: tuple[str, ...]
    media: tuple[MediaColumn, ...] = ()
    tables: tuple[TabularColumns, ...] = ()
    vectors: tuple[VectorColumn, ...] = ()
    guesses: tuple[Guess, ...] = ()
    id: str | None = None

    @property
    def modality_names(self) -> list[str]:
        """Names of the modalities, in the order of the model."""
        sources: list[ModalitySource] = [*self.tables, *self.vectors]
        return [*(media.modality for media in self.media), *(source.name for source in sources)]

    @property
    def numeric_columns(self) -> list[str]:
        """Columns of the tables that hold numbers."""
        return [column for table in self.tables for column in table.numeric]

    def without(self, modalities: Iterable[str]) -> ColumnPlan:
        """Return the plan of a model that does not read some modalities.

        Args:
            modalities: Their names.
        """
        left_out = set(modalities)
        return replace(
            self,
            media=tuple(media for media in self.media if media.modality not in left_out),
            tables=tuple(table for table in self.tables if table.name not in left_out),
            vectors=tuple(vector for vector in self.vectors if vector.name not in left_out),
        )


def plan_columns(frame: pd.DataFrame, choice: ColumnChoice, root: str, allow_outside_root: bool) -> ColumnPlan:
    """Decide what a model reads of a table.

    Args:
        frame: The rows.
        choice: What was said of the columns.
        root: Folder that relative paths start from.
        allow_outside_root: Whether paths may leave it.

    Raises:
        ConfigurationError: If a kind or a name cannot be used, or a column is given twice as the same.
        DataError: If a column is absent, no column is a text, or a column holds paths that lead to no file.
    """
    kinds = _checked_kinds(choice.column_kinds)
    require_columns(frame, [*choice.label_columns, *kinds, *_columns_said(choice)])
    if choice.guesses:
        others = frame.drop(columns=list(choice.label_columns))
        if choice.id is not None and choice.id in others.columns:
            kinds.setdefault(choice.id, (IGNORED,))
        guesses = guess_columns(others, kinds, root, allow_outside_root)
        return _plan_of_guesses(guesses, choice.id)
    return _plan_as_said(frame, choice, kinds)


def table_kind(series: pd.Series) -> Guess:
    """Return whether a column of a table holds numbers, categories, or several categories a cell.

    Args:
        series: The column.

    Raises:
        DataError: If it holds vectors.
    """
    column = describe_column(series)
    if column.type == VECTOR:
        raise DataError(
            f"Column '{column.name}' was given as one of a table and holds vectors. Give it under vectors: "
            f"vectors={{'{_modality_name(column.name)}': '{column.name}'}}."
        )
    if column.type in (NUMBER, EMPTY):
        return Guess(column.name, (NUMERIC,), "numbers")
    if column.type == LIST:
        return Guess(column.name, (MULTI_VALUED,), "several values a cell", column.separator)
    return Guess(column.name, (CATEGORICAL,), "categories")


def _plan_of_guesses(guesses: Sequence[Guess], id: str | None) -> ColumnPlan:
    texts = tuple(guess.column for guess in guesses if guess.kinds == (TEXT,))
    if not texts:
        columns = [guess.column for guess in guesses]
        likely = [guess.column for guess in guesses if guess.kinds == (CATEGORICAL,)] or columns or ["…"]
        raise DataError(
            f"None of the columns {listed(columns)} was taken for a text, and a model needs one. Name it: "
            f"column_kinds={{'{likely[0]}': 'text'}}."
        )
    media = [(kind, guess.column) for guess in guesses for kind in guess.kinds if kind in MEDIA]
    taken: set[str] = set()
    named = next((guess.column for guess in guesses if guess.kinds == (IGNORED,) and NAMES_ROWS in guess.reason), None)
    return ColumnPlan(
        texts,
        _media_columns([(None, kind, column) for kind, column in media], taken),
        _tables([guess for guess in guesses if guess.kinds[0] in TABLE], taken),
        tuple(
            VectorColumn(_unique(_modality_name(guess.column), taken), guess.column)
            for guess in guesses
            if guess.kinds == (VECTOR,)
        ),
        tuple(guesses),
        id or named,
    )


def _plan_as_said(frame: pd.DataFrame, choice: ColumnChoice, kinds: Mapping[str, tuple[str, ...]]) -> ColumnPlan:
    added = {kind: [column for column, given in kinds.items() if kind in given] for kind in KINDS}
    texts = tuple(dict.fromkeys([*_several("text", choice.text), *added[TEXT]]))
    if not texts:
        raise DataError(
            "No column of text was given, and a model needs one. Name it by text=…; the columns are "
            f"{listed(map(str, frame.columns))}."
        )
    media = [
        (name, kind, column)
        for kind, value in zip(MEDIA, (choice.image, choice.video, choice.audio), strict=True)
        for name, column in [*_named_columns(kind, value), *((None, column) for column in added[kind])]
        if kind in kinds.get(column, (kind,))
    ]
    taken: set[str] = set()
    planned = _media_columns(media, taken)
    tabular = [
        column
        for column in dict.fromkeys([*_several("tabular", choice.tabular), *(c for k in TABLE for c in added[k])])
        if kinds.get(column, (NUMERIC,))[0] in TABLE
    ]
    sample = sample_of(frame)
    tables = [_as_kind(table_kind(sample[column]), kinds.get(column)) for column in tabular]
    given = [(name, column) for name, column in _named_columns("vectors", choice.vectors)]
    vectors = [*given, *((None, column) for column in added[VECTOR] if column not in {c for _, c in given})]
    return ColumnPlan(
        texts,
        planned,
        _tables(tables, taken),
        tuple(VectorColumn(_unique(name or _modality_name(_first(column)), taken), column) for name, column in vectors),
        id=choice.id,
    )


def _as_kind(guess: Guess, kinds: tuple[str, ...] | None) -> Guess:
    if kinds is None or kinds == guess.kinds:
        return guess
    return replace(guess, kinds=kinds)


def _media_columns(media: Sequence[tuple[str | None, str, str]], taken: set[str]) -> tuple[MediaColumn, ...]:
    """Name the modalities: a column is one by its own name, and what else is made from it has its kind behind."""
    planned: list[MediaColumn] = []
    for name, kind, column in media:
        if any((each.kind, each.column) == (kind, column) for each in planned):
            raise ConfigurationError(f"Column '{column}' is given as {kind} twice. Give it once.")
        own = name or _modality_name(column)
        if name is None and own in taken:
            own = f"{own}_{kind}"
        planned.append(MediaColumn(_unique(own, taken), kind, column))
    return tuple(planned)


def _tables(guesses: Sequence[Guess], taken: set[str]) -> tuple[TabularColumns, ...]:
    """Make one modality of the table columns; those with another separator between values are one of their own."""
    separators = list(dict.fromkeys(guess.separator for guess in guesses if guess.separator is not None))
    first = separators[0] if separators else "|"
    groups: dict[str, list[Guess]] = {separator: [] for separator in (first, *separators)}
    for guess in guesses:
        has_own = guess.kinds == (MULTI_VALUED,) and guess.separator is not None
        groups[str(guess.separator) if has_own else first].append(guess)
    return tuple(
        TabularColumns(
            _unique(TABLE_NAME, taken),
            numeric=_of_kind(group, NUMERIC),
            categorical=_of_kind(group, CATEGORICAL),
            multi_valued=_of_kind(group, MULTI_VALUED),
            value_separator=separator,
        )
        for separator, group in groups.items()
        if group
    )


def _of_kind(guesses: Sequence[Guess], kind: str) -> tuple[str, ...]:
    return tuple(guess.column for guess in guesses if guess.kinds == (kind,))


def _modality_name(column: str) -> str:
    """Return a name for a modality that is made from a column."""
    name = _NOT_IN_NAMES.sub("_", column) or "_"
    name = name if name[0].isalpha() or name[0] == "_" else f"_{name}"
    return f"{name}_" if name == TEXT else name


def _unique(name: str, taken: set[str]) -> str:
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    taken.add(unique)
    return unique


def _checked_kinds(given: Any) -> dict[str, tuple[str, ...]]:
    """Return what columns are said to be as tuples of kinds.

    Raises:
        ConfigurationError: If a kind is unknown, or a column cannot be of two kinds.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ConfigurationError(f"column_kinds={given!r} cannot be used. Give kinds by column: {{'year': 'numeric'}}.")
    kinds = {}
    for column, value in (given or {}).items():
        several = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
        for kind in several:
            if kind not in KINDS:
                raise ConfigurationError(
                    f"column_kinds gives '{column}' the kind {kind!r}. Accepted are {listed(KINDS)}."
                    f"{did_you_mean(str(kind), KINDS)}"
                )
        if not several or (len(several) > 1 and not set(several) <= set(MEDIA)):
            raise ConfigurationError(
                f"column_kinds gives '{column}' the kinds {listed(several)}. A column is of one kind; only media "
                "can be two: ('video', 'audio')."
            )
        kinds[str(column)] = tuple(dict.fromkeys(several))
    return kinds


def _columns_said(choice: ColumnChoice) -> list[str]:
    said = [*_several("text", choice.text), *_several("tabular", choice.tabular)]
    for setting in (*MEDIA, "vectors"):
        for _, column in _named_columns(setting, getattr(choice, setting)):
            said += _several(setting, column)
    return said


def _named_columns(setting: str, value: Any) -> list[tuple[str | None, Any]]:
    """Return names of modalities, None where none was given, and their columns.

    Raises:
        ConfigurationError: If the setting cannot be used.
    """
    if isinstance(value, Mapping):
        return [(str(name), _first_or_all(setting, column)) for name, column in value.items()]
    return [(None, column) for column in _several(setting, value)]


def _first_or_all(setting: str, value: Any) -> Any:
    columns = _several(setting, value)
    if not isinstance(value, str) and setting == "vectors":
        return tuple(columns)
    if len(columns) != 1:
        raise ConfigurationError(f"{setting} was given {value!r} for one modality. Give the name of one column.")
    return columns[0]


def _several(setting: str, value: Any) -> list[str]:
    """Return the columns that a setting names: none, one or several.

    Raises:
        ConfigurationError: If it is no name and no list of names.
    """
    if value is None:
        return []
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise ConfigurationError(f"{setting} was given {wrong[0]!r}. Give the name of a column, or a list of names.")
    return names


def _first(column: Any) -> str:
    return str(column if isinstance(column, str) else column[0])
