"""Which columns of a table hold the text, the labels and the modalities."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.features.tabular import TabularEncoder
from mmadapters.modality import Modality

MULTI_LABEL = "multi_label_classification"
SINGLE_LABEL = "single_label_classification"
REGRESSION = "regression"
PROBLEM_TYPES: tuple[str, ...] = (MULTI_LABEL, SINGLE_LABEL, REGRESSION)


@dataclass(frozen=True)
class VectorColumn:
    """A modality whose features the table holds, or points to.

    Attributes:
        name: Name of the modality.
        column: One column, whose cells are arrays or lists of numbers (D,) or (T, D) or paths of ``.npy`` files with
            such an array; or several numeric columns, whose values make the vector (D,) in the given order.

    Raises:
        ConfigurationError: If the name or the columns cannot be used.
    """

    name: str
    column: str | tuple[str, ...]

    def __post_init__(self) -> None:
        Modality(self.name, feature_dim=1)
        object.__setattr__(self, "column", _one_or_more(f"column of modality '{self.name}'", self.column))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the modality is read from."""
        return _as_tuple(self.column)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, with ``kind: vector``."""
        return {"kind": "vector", "name": self.name, "column": _plain(self.column)}


@dataclass(frozen=True)
class TabularColumns:
    """A modality made of numeric, categorical and multi-valued columns; see ``TabularEncoder`` for their encoding.

    Attributes:
        name: Name of the modality.
        numeric: Columns to standardise.
        categorical: Columns to encode one-hot.
        max_categories: The most categories to keep for a column.
        min_frequency: Number of training rows that a category must occur in to be kept.
        multi_valued: Columns whose cells have several categories, to encode multi-hot.
        value_separator: Text between the categories of such a cell, where it is no list.

    Raises:
        ConfigurationError: If the name, the columns, a limit or the separator cannot be used.
    """

    name: str
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    max_categories: int = 50
    min_frequency: int = 1
    multi_valued: tuple[str, ...] = ()
    value_separator: str = "|"

    def __post_init__(self) -> None:
        Modality(self.name, feature_dim=1)
        encoder = self.encoder()
        object.__setattr__(self, "numeric", encoder.numeric)
        object.__setattr__(self, "categorical", encoder.categorical)
        object.__setattr__(self, "multi_valued", encoder.multi_valued)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the modality is read from."""
        return (*self.numeric, *self.categorical, *self.multi_valued)

    def encoder(self) -> TabularEncoder:
        """Return an encoder for these columns that has learned nothing yet."""
        return TabularEncoder(
            self.numeric,
            self.categorical,
            self.max_categories,
            self.min_frequency,
            self.multi_valued,
            self.value_separator,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, with ``kind: tabular``."""
        return {
            "kind": "tabular",
            "name": self.name,
            "numeric": list(self.numeric),
            "categorical": list(self.categorical),
            "max_categories": self.max_categories,
            "min_frequency": self.min_frequency,
            "multi_valued": list(self.multi_valued),
            "value_separator": self.value_separator,
        }


@dataclass(frozen=True)
class StoredFeatures:
    """A modality whose features a store holds, which ``mmadapters extract`` made; the row's id finds them.

    Attributes:
        name: Name of the modality.
        store: Folder of the store; a relative path starts from the working folder.
        column: Column of the store; None for the one that is called like the modality.
        pooling: ``mean`` to read the mean over the steps of a sequence instead of the sequence.
        id: Column of the table whose cells name the rows of this store; an empty cell is a missing modality. None for
            the schema's id, which every row has.

    Raises:
        ConfigurationError: If the name, the store, a column or the pooling cannot be used.
    """

    name: str
    store: str
    column: str | None = None
    pooling: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        Modality(self.name, feature_dim=1)
        if not isinstance(self.store, (str, os.PathLike)) or not os.fspath(self.store):
            raise ConfigurationError(f"Modality '{self.name}' was given store={self.store!r}. Give a store's folder.")
        object.__setattr__(self, "store", os.fspath(self.store))
        if self.column is not None:
            _one_or_more(f"column of modality '{self.name}'", self.column)
        if self.id is not None:
            _one_or_more(f"id of modality '{self.name}'", self.id)
        if self.pooling not in (None, "mean"):
            raise ConfigurationError(
                f"Modality '{self.name}' was given pooling={self.pooling!r}. Accepted are 'mean', and None for the "
                "features as they are in the store."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The id column of its own, if it has one; beside the schema's id, it needs no other column of the table."""
        return () if self.id is None else (self.id,)

    @property
    def store_column(self) -> str:
        """Column of the store."""
        return self.column or self.name

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, with ``kind: store``."""
        own = {} if self.id is None else {"id": self.id}
        return {
            "kind": "store",
            "name": self.name,
            "store": self.store,
            "column": self.column,
            "pooling": self.pooling,
            **own,
        }


ModalitySource = VectorColumn | TabularColumns | StoredFeatures
_KINDS: dict[str, type[VectorColumn] | type[TabularColumns] | type[StoredFeatures]] = {
    "vector": VectorColumn,
    "tabular": TabularColumns,
    "store": StoredFeatures,
}
_REQUIRED = {"vector": ["name", "column"], "tabular": ["name"], "store": ["name", "store"]}


@dataclass(frozen=True)
class DatasetSchema:
    """What the columns of a data set mean.

    Attributes:
        text: Column of the text, or two columns that the tokenizer joins as a pair of sentences.
        label: Column of the label or labels; or at least two columns of 0 and 1, one for each label of a multi-label
            problem; or None for rows without labels.
        modalities: The other sources of information, in the order in which the model takes them.
        problem_type: ``multi_label_classification``, ``single_label_classification`` or ``regression``; None to infer
            it from the labels of the training rows.
        label_separator: Text between the labels of one cell, such as ``"|"``; it makes the problem multi-label.
        id: Column that identifies a row in the outputs. It is no input of the model and may be absent from the rows,
            unless features are read from a store, where it finds them.

    Raises:
        ConfigurationError: If a field cannot be used, a modality's name is used twice or a label column is also an
            input of the model.
    """

    text: str | tuple[str, ...]
    label: str | tuple[str, ...] | None = None
    modalities: tuple[ModalitySource, ...] = ()
    problem_type: str | None = None
    label_separator: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _one_or_more("text", self.text))
        if self.label is not None:
            object.__setattr__(self, "label", _one_or_more("label", self.label))
        object.__setattr__(self, "modalities", tuple(self.modalities))
        self._check_text()
        self._check_modalities()
        self._check_problem_type()
        self._check_label()
        self._check_no_leak()

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The text column, or the two columns of the pair."""
        return _as_tuple(self.text)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The label column, the columns of 0 and 1, or nothing."""
        return () if self.label is None else _as_tuple(self.label)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Every column that the model's inputs are read from, each once; the id where it finds features in a store."""
        names = [*self.text_columns, *(column for modality in self.modalities for column in modality.columns)]
        if self.id is not None and any(_needs_id(modality) for modality in self.modalities):
            names.append(self.id)
        return tuple(dict.fromkeys(names))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return {
            "text": _plain(self.text),
            "label": _plain(self.label),
            "modalities": [modality.to_dict() for modality in self.modalities],
            "problem_type": self.problem_type,
            "label_separator": self.label_separator,
            "id": self.id,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> DatasetSchema:
        """Return the schema that ``to_dict``, or a person, described.

        Raises:
            ConfigurationError: If a key is unknown or absent, or a value cannot be used.
        """
        _check_keys("a data set's schema", state, [field.name for field in fields(cls)], required=["text"])
        modalities = tuple(_modality(entry) for entry in state.get("modalities") or ())
        return cls(**{**state, "modalities": modalities})

    def _check_text(self) -> None:
        if len(self.text_columns) > 2:
            raise ConfigurationError(
                f"text was given {len(self.text_columns)} columns: {listed(self.text_columns)}. Accepted are one "
                "column, or two that make a pair of sentences. Join the others into one column first."
            )

    def _check_modalities(self) -> None:
        for modality in self.modalities:
            if not isinstance(modality, (VectorColumn, TabularColumns, StoredFeatures)):
                raise ConfigurationError(
                    f"modalities holds {modality!r}. Accepted are VectorColumn, TabularColumns and StoredFeatures "
                    "objects."
                )
            if _needs_id(modality) and self.id is None:
                raise ConfigurationError(
                    f"Modality '{modality.name}' is read from a store, where the row's id finds its features, and the "
                    "schema names no id column. Set id to the column that the features were extracted with."
                )
        for name, count in Counter(modality.name for modality in self.modalities).items():
            if count > 1:
                raise ConfigurationError(f"{count} modalities are named '{name}'. Give each a name of its own.")

    def _check_problem_type(self) -> None:
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise ConfigurationError(
                f"problem_type={self.problem_type!r} cannot be used. Accepted are {listed(PROBLEM_TYPES)}, or None to "
                f"infer it from the labels.{did_you_mean(str(self.problem_type), PROBLEM_TYPES)}"
            )

    def _check_label(self) -> None:
        if isinstance(self.label, tuple) and len(self.label) == 1:
            raise ConfigurationError(
                f"label is a list of the one column {listed(self.label)}. Give a column of labels as a text, "
                f"label={self.label[0]!r}; a list stands for columns of 0 and 1, one for each of several labels."
            )
        if self.label_separator is None:
            several = isinstance(self.label, tuple)
        elif not isinstance(self.label_separator, str) or not self.label_separator or not isinstance(self.label, str):
            raise ConfigurationError(
                f"label_separator={self.label_separator!r} cannot be used with label={self.label!r}. It is the text "
                "between the labels of one cell, such as '|', and needs one label column."
            )
        else:
            several = True
        if several and self.problem_type not in (None, MULTI_LABEL):
            raise ConfigurationError(
                f"problem_type='{self.problem_type}' does not fit label={self.label!r} with "
                f"label_separator={self.label_separator!r}, which give a row several labels. Use '{MULTI_LABEL}', or "
                "one label column without a separator."
            )

    def _check_no_leak(self) -> None:
        leaked = [column for column in self.label_columns if column in self.input_columns]
        if leaked:
            raise ConfigurationError(
                f"Label column {listed(leaked)} is also an input of the model, which would read the answer from it. "
                "Leave it out of text and modalities."
            )


def _needs_id(modality: ModalitySource) -> bool:
    """Tell whether the schema's id finds a modality's features."""
    return isinstance(modality, StoredFeatures) and modality.id is None


def _modality(entry: ModalitySource | Mapping[str, Any]) -> ModalitySource:
    if isinstance(entry, (VectorColumn, TabularColumns, StoredFeatures)):
        return entry
    if not isinstance(entry, Mapping) or entry.get("kind") not in _KINDS:
        given = entry.get("kind") if isinstance(entry, Mapping) else entry
        raise ConfigurationError(
            f"A modality was given kind={given!r}. Accepted are {listed(_KINDS)}: 'vector' with 'name' and 'column', "
            "'tabular' with 'name' and 'numeric', 'categorical' or 'multi_valued', 'store' with 'name' and 'store'."
        )
    kind = _KINDS[entry["kind"]]
    state = {key: value for key, value in entry.items() if key != "kind"}
    _check_keys(f"a {entry['kind']} modality", state, [field.name for field in fields(kind)], _REQUIRED[entry["kind"]])
    return kind(**state)


def _check_keys(owner: str, state: Mapping[str, Any], accepted: list[str], required: list[str]) -> None:
    for key in state:
        if key not in accepted:
            raise ConfigurationError(
                f"'{key}' is no key of {owner}. Accepted are {listed(accepted)}.{did_you_mean(str(key), accepted)}"
            )
    absent = [key for key in required if key not in state]
    if absent:
        raise ConfigurationError(f"{owner.capitalize()} needs the key {listed(absent)}; given were {listed(state)}.")


def _one_or_more(setting: str, value: str | Iterable[str]) -> str | tuple[str, ...]:
    """Return one column's name, or the names of several as a tuple."""
    names = value if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if not names or not all(isinstance(name, str) and name for name in _as_tuple(names)):
        raise ConfigurationError(f"{setting} was given as {value!r}. Give the name of a column or a list of names.")
    repeated = [name for name, count in Counter(_as_tuple(names)).items() if count > 1]
    if repeated:
        raise ConfigurationError(f"{setting} lists column {listed(repeated)} more than once. List every column once.")
    return names


def _as_tuple(names: Any) -> tuple[Any, ...]:
    return names if isinstance(names, tuple) else (names,)


def _plain(names: str | tuple[str, ...] | None) -> str | list[str] | None:
    return list(names) if isinstance(names, tuple) else names
