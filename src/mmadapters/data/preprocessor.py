"""From rows to model inputs: everything that is learned from the training rows and used again for others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from mmadapters.data.dataset import FeatureColumn, Features, MultimodalDataset, read_features, width_of
from mmadapters.data.files import ROOT
from mmadapters.data.labels import LabelEncoder, rows_named
from mmadapters.data.schema import DatasetSchema, ModalitySource, StoredFeatures, TabularColumns, VectorColumn
from mmadapters.data.stored import StoredFeatureColumn, look_up, stored_column
from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed
from mmadapters.features.cells import is_missing
from mmadapters.features.tabular import TabularEncoder, numeric_values, require_columns
from mmadapters.modality import Modality

logger = logging.getLogger(__name__)

DEFAULT_MAX_LENGTH = 512


class Preprocessor:
    """Turns rows into a data set in the way that the training rows fixed.

    Make one with ``Preprocessor.fit`` or ``Preprocessor.from_dict``.

    Attributes:
        schema: What the columns mean.
        labels: Problem type and classes, or None where the schema names no label.
        tabular: The fitted encoder of each tabular modality, by its name.
        modalities: The modalities in the order of the schema, with the widths of the training rows.
        max_length: Number of tokens, special ones included, that a text is cut to.
        tokenizer: Tokenizer of the text encoder.
        fingerprints: What the features of each modality that a store holds were made with, by its name.
    """

    def __init__(
        self,
        schema: DatasetSchema,
        tokenizer: PreTrainedTokenizerBase,
        labels: LabelEncoder | None,
        tabular: Mapping[str, TabularEncoder],
        modalities: list[Modality],
        max_length: int,
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.schema = schema
        self.tokenizer = tokenizer
        self.labels = labels
        self.tabular = dict(tabular)
        self.modalities = list(modalities)
        self.max_length = max_length
        self.fingerprints = dict(fingerprints or {})

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        schema: DatasetSchema,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
    ) -> Preprocessor:
        """Learn labels, table statistics and feature widths from the training rows.

        Args:
            frame: Rows of the training split only.
            schema: What the columns mean.
            tokenizer: Tokenizer of the text encoder.
            max_length: Number of tokens to cut a text to; None for what the tokenizer allows, at most 512.

        Returns:
            The fitted preprocessor.

        Raises:
            DataError: If there are no rows, a column is absent, labels or tables cannot be used, a vector modality or
                one from a store is missing in every row, or a store cannot be read or lacks rows.
            ConfigurationError: If ``max_length`` leaves no room for text.
        """
        _check_rows(frame, (*schema.input_columns, *schema.label_columns))
        length = _text_length(max_length, schema, tokenizer)
        labels = None
        if schema.label is not None:
            labels = LabelEncoder(schema.problem_type, schema.label_separator).fit(_label_values(frame, schema))
        tabular = {
            source.name: source.encoder().fit(frame)
            for source in schema.modalities
            if isinstance(source, TabularColumns)
        }
        modalities = []
        fingerprints = {}
        for source in schema.modalities:
            if isinstance(source, TabularColumns):
                modalities.append(Modality(source.name, tabular[source.name].feature_dim, kind="tabular"))
            elif isinstance(source, StoredFeatures):
                modality, fingerprints[source.name] = look_up(source)
                modalities.append(modality)
                column = stored_column(source, modality, fingerprints[source.name], frame, str(schema.id))
                if not column.present.any():
                    raise _missing_everywhere(source.name, "Look at the errors with `mmadapters store info`")
            else:
                modalities.append(Modality(source.name, _first_width(frame, source), kind="vector"))
        return cls(schema, tokenizer, labels, tabular, modalities, length, fingerprints)

    def transform(self, frame: pd.DataFrame, with_labels: bool = True) -> MultimodalDataset:
        """Turn rows into a data set.

        A text that is missing becomes the empty text. A vector modality is missing in a row whose cell is ``None``,
        ``NaN``, blank or an array without an element; relative ``.npy`` paths start from ``frame.attrs["root"]``, or
        from the working folder. A modality from a store is missing where the store has no features for the row's id.

        Args:
            frame: N rows.
            with_labels: Whether to read the label columns; False for rows to predict.

        Returns:
            The data set of the N rows, in their order.

        Raises:
            DataError: If there are no rows, a column is absent, a label is missing, a feature has another width than
                in training or is not finite, a ``.npy`` file cannot be read, or a store lacks rows or holds features
                that were made in another way than those of the training rows.
        """
        read_labels = with_labels and self.labels is not None
        _check_rows(frame, (*self.schema.input_columns, *(self.schema.label_columns if read_labels else ())))
        labels, unseen = None, Counter[str]()
        if self.labels is not None and read_labels:
            labels, unseen = self.labels.transform(_label_values(frame, self.schema))
        columns = [
            self._feature_column(frame, source, modality)
            for source, modality in zip(self.schema.modalities, self.modalities, strict=True)
        ]
        return MultimodalDataset(self._tokens(frame), columns, labels, unseen)

    def restricted_to(self, modalities: Iterable[str]) -> Preprocessor:
        """Return the preprocessor of a model that reads fewer modalities; it asks for no column of the others.

        Args:
            modalities: Names of the modalities to keep. Their order stays that of the schema.
        """
        kept = set(modalities)
        sources = tuple(source for source in self.schema.modalities if source.name in kept)
        return Preprocessor(
            schema=replace(self.schema, modalities=sources),
            tokenizer=self.tokenizer,
            labels=self.labels,
            tabular={name: encoder for name, encoder in self.tabular.items() if name in kept},
            modalities=[modality for modality in self.modalities if modality.name in kept],
            max_length=self.max_length,
            fingerprints={name: text for name, text in self.fingerprints.items() if name in kept},
        )

    def with_stores(self, stores: Mapping[str, str]) -> Preprocessor:
        """Return the same preprocessor reading features from other stores, as on another machine or for other rows.

        Args:
            stores: Folder of the store, by modality.

        Raises:
            ConfigurationError: If a modality is not read from a store.
        """
        stored = [source.name for source in self.schema.modalities if isinstance(source, StoredFeatures)]
        for name in stores:
            if name not in stored:
                raise ConfigurationError(
                    f"A store was given for '{name}', and the modalities that are read from stores are "
                    f"{listed(stored)}.{did_you_mean(name, stored)}"
                )
        sources = tuple(
            replace(source, store=stores[source.name])
            if isinstance(source, StoredFeatures) and source.name in stores
            else source
            for source in self.schema.modalities
        )
        return Preprocessor(
            schema=replace(self.schema, modalities=sources),
            tokenizer=self.tokenizer,
            labels=self.labels,
            tabular=self.tabular,
            modalities=self.modalities,
            max_length=self.max_length,
            fingerprints=self.fingerprints,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all but the tokenizer as plain values, for JSON."""
        return {
            "schema": self.schema.to_dict(),
            "labels": None if self.labels is None else self.labels.to_dict(),
            "tabular": {name: encoder.to_dict() for name, encoder in self.tabular.items()},
            "modalities": [modality.to_dict() for modality in self.modalities],
            "max_length": self.max_length,
            **({"fingerprints": self.fingerprints} if self.fingerprints else {}),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> Preprocessor:
        """Return the preprocessor that ``to_dict`` described, with the tokenizer of the same text encoder."""
        schema = DatasetSchema.from_dict(state["schema"])
        tables = [source.name for source in schema.modalities if isinstance(source, TabularColumns)]
        return cls(
            schema=schema,
            tokenizer=tokenizer,
            labels=None if state["labels"] is None else LabelEncoder.from_dict(state["labels"]),
            tabular={name: TabularEncoder.from_dict(state["tabular"][name]) for name in tables},
            modalities=[Modality(**fields) for fields in state["modalities"]],
            max_length=state["max_length"],
            fingerprints=state.get("fingerprints"),
        )

    def _tokens(self, frame: pd.DataFrame) -> dict[str, list[list[int]]]:
        texts = [_texts(frame, column) for column in self.schema.text_columns]
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_length, padding=False)
        return {name: encoded[name] for name in self.tokenizer.model_input_names if name in encoded}

    def _feature_column(
        self, frame: pd.DataFrame, source: ModalitySource, modality: Modality
    ) -> FeatureColumn | StoredFeatureColumn:
        if isinstance(source, TabularColumns):
            return FeatureColumn(modality, self.tabular[source.name].transform(frame))
        column: FeatureColumn | StoredFeatureColumn
        if isinstance(source, StoredFeatures):
            assert self.schema.id is not None
            column = stored_column(source, modality, self.fingerprints[source.name], frame, self.schema.id)
        else:
            column = FeatureColumn(modality, _of_width(frame, source, modality.feature_dim))
        missing = len(column) - int(column.present.sum())
        if missing:
            logger.info("Modality '%s' is missing in %d of %d rows.", modality.name, missing, len(column))
        return column


def _check_rows(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    require_columns(frame, columns)
    if not len(frame):
        raise DataError("There are no rows. Give a frame with at least one row.")


def _text_length(max_length: int | None, schema: DatasetSchema, tokenizer: PreTrainedTokenizerBase) -> int:
    if max_length is None:
        return min(DEFAULT_MAX_LENGTH, tokenizer.model_max_length)
    special = tokenizer.num_special_tokens_to_add(pair=len(schema.text_columns) == 2)
    if not isinstance(max_length, int) or isinstance(max_length, bool) or max_length <= special:
        raise ConfigurationError(
            f"max_length={max_length!r} leaves no room for text beside {special} special tokens. Give a whole number "
            f"above {special}, or None for {min(DEFAULT_MAX_LENGTH, tokenizer.model_max_length)}."
        )
    if max_length > tokenizer.model_max_length:
        logger.warning(
            "max_length=%d is above the %d tokens that the tokenizer states for its encoder.",
            max_length,
            tokenizer.model_max_length,
        )
    return max_length


def _label_values(frame: pd.DataFrame, schema: DatasetSchema) -> pd.Series | pd.DataFrame:
    return frame[list(schema.label)] if isinstance(schema.label, tuple) else frame[schema.label]


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
    texts = []
    missing = 0
    for row, value in frame[column].items():
        if is_missing(value):
            missing += 1
            texts.append("")
        elif not pd.api.types.is_scalar(value):
            raise DataError(
                f"Text column '{column}' holds a {type(value).__name__} in row {row}. Give one text a row; join parts "
                "first."
            )
        else:
            whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
            texts.append(str(int(value)) if whole else str(value))
    if missing:
        logger.warning("Text column '%s' is empty in %d of %d rows.", column, missing, len(texts))
    return texts


def _cells(frame: pd.DataFrame, source: VectorColumn) -> Iterator[Features]:
    """Yield each row's features of a vector modality."""
    if isinstance(source.column, tuple):
        yield from _joined(frame, source.name, source.column)
        return
    root = frame.attrs.get(ROOT, "")
    for row, cell in frame[source.column].items():
        yield read_features(cell, f"Modality '{source.name}', row {row}", root)


def _joined(frame: pd.DataFrame, name: str, columns: tuple[str, ...]) -> Iterator[Features]:
    """Yield the vector that several numeric columns make in each row; None where all of them are missing."""
    advice = f"Every column of the vector modality '{name}' has to hold numbers."
    numbers = np.stack([numeric_values(frame, column, advice) for column in columns], axis=1)
    missing = np.isnan(numbers)
    partly = missing.any(axis=1) & ~missing.all(axis=1)
    if partly.any():
        first = columns[int(np.flatnonzero(missing[partly][0])[0])]
        raise DataError(
            f"Modality '{name}' is missing or infinite in some of its columns (such as '{first}') in "
            f"{rows_named(frame.index[partly])}. Fill them, leave all of the row's columns empty, or give the columns "
            "as a table."
        )
    for vector, absent in zip(numbers, missing[:, 0], strict=True):
        yield None if absent else vector.astype(np.float32)


def _first_width(frame: pd.DataFrame, source: VectorColumn) -> int:
    for features in _cells(frame, source):
        if features is not None:
            return width_of(features)
    raise _missing_everywhere(source.name, "Fill its column")


def _missing_everywhere(name: str, advice: str) -> DataError:
    return DataError(f"Modality '{name}' is missing in every training row. {advice}, or leave the modality out.")


def _of_width(frame: pd.DataFrame, source: VectorColumn, feature_dim: int) -> Iterator[Features]:
    for row, features in zip(frame.index, _cells(frame, source), strict=True):
        if features is not None and width_of(features) != feature_dim:
            raise DataError(
                f"Modality '{source.name}' has {width_of(features)} features in row {row} and {feature_dim} in the "
                "training rows. Make the features of all rows in the same way."
            )
        yield features
