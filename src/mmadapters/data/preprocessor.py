"""From rows to model inputs: everything that is learned from the training rows and used again for others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmadapters.data.dataset import FeatureColumn, MultimodalDataset
from mmadapters.data.labels import LabelEncoder, report_unseen
from mmadapters.data.preprocessor_statistics import PreprocessorStatistics, label_values, require_rows
from mmadapters.data.schema import DatasetSchema, ModalitySource, StoredFeatures, TabularColumns, VectorColumn
from mmadapters.data.stored import StoredFeatureColumn, open_store, stored_column
from mmadapters.data.vector_cells import of_width
from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed
from mmadapters.features.cells import is_missing
from mmadapters.features.store import FeatureStore
from mmadapters.features.tabular import TabularEncoder
from mmadapters.modality import Modality

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
        require_rows(frame, (*schema.input_columns, *schema.label_columns))
        length = text_length(max_length, schema, tokenizer)
        return cls.learned_from(PreprocessorStatistics(schema).add(frame), tokenizer, length)

    @classmethod
    def learned_from(
        cls, statistics: PreprocessorStatistics, tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Preprocessor:
        """Return the preprocessor that the statistics of all training rows make.

        Args:
            statistics: Of the training rows.
            tokenizer: Tokenizer of the text encoder.
            max_length: Number of tokens to cut a text to.

        Raises:
            DataError: If there is only one label, or a modality is missing in every row.
        """
        labels, tabular = statistics.label_encoder(), statistics.table_encoders()
        modalities = statistics.modalities()
        return cls(
            statistics.schema, tokenizer, labels, tabular, modalities, max_length, fingerprints=statistics.fingerprints
        )

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
        data = self.transform_chunk(frame, {}, with_labels)
        _tell_what_is_missing(frame, self.schema, data)
        report_unseen(data.unseen_labels)
        return data

    def transform_chunk(
        self, frame: pd.DataFrame, stores: dict[str, FeatureStore], with_labels: bool = True
    ) -> MultimodalDataset:
        """Turn one of many chunks of rows into a data set, as ``transform`` does, without a word on what is missing.

        Args:
            frame: The rows of the chunk.
            stores: Stores that are open, by modality; those that are opened are added.
            with_labels: Whether to read the label columns.

        Raises:
            DataError: As ``transform``.
        """
        read_labels = with_labels and self.labels is not None
        require_rows(frame, (*self.schema.input_columns, *(self.schema.label_columns if read_labels else ())))
        labels, unseen = None, Counter[str]()
        if self.labels is not None and read_labels:
            labels, unseen = self.labels.encode(label_values(frame, self.schema))
        columns = [
            self._feature_column(frame, source, modality, stores)
            for source, modality in zip(self.schema.modalities, self.modalities, strict=True)
        ]
        return MultimodalDataset(self._tokens(frame), columns, labels, unseen)

    def restricted_to(self, modalities: Iterable[str]) -> Preprocessor:
        """Return the preprocessor of a model that reads fewer modalities; it asks for no column of the others.

        Args:
            modalities: Names of the modalities to keep. Their order stays that of the schema.
        """
        kept = set(modalities)
        return self._with_sources([source for source in self.schema.modalities if source.name in kept])

    def with_store_names(self, names: Mapping[str, str]) -> Preprocessor:
        """Return the same preprocessor with other names for where its stores are; nothing else changes.

        Args:
            names: Of the stores, by modality; those of other modalities stay.
        """
        return self._with_sources(
            replace(source, store=names[source.name])
            if isinstance(source, StoredFeatures) and source.name in names
            else source
            for source in self.schema.modalities
        )

    def with_stores(self, stores: Mapping[str, str]) -> Preprocessor:
        """Return the same preprocessor reading features from other stores, as on another machine or for other rows.

        A modality that had an id column of its own is then found by the schema's id, in the column of its name.

        Args:
            stores: Folder of the store, by modality.

        Raises:
            ConfigurationError: If a modality is not read from a store, or the schema has no id.
        """
        stored = [source.name for source in self.schema.modalities if isinstance(source, StoredFeatures)]
        for name in stores:
            if name not in stored:
                raise ConfigurationError(
                    f"A store was given for '{name}', and the modalities that are read from stores are "
                    f"{listed(stored)}.{did_you_mean(name, stored)}"
                )
        return self._with_sources(
            _from_store(source, stores[source.name])
            if isinstance(source, StoredFeatures) and source.name in stores
            else source
            for source in self.schema.modalities
        )

    def with_vectors(self, modalities: Iterable[str]) -> Preprocessor:
        """Return the same preprocessor reading features of some modalities as vectors, in columns of their names.

        What was extracted into a store can be given that way without one. Nothing then tells whether it was made like
        the features of the training rows, beside its width.

        Args:
            modalities: Their names.
        """
        names = set(modalities)
        return self._with_sources(
            VectorColumn(source.name, source.name) if source.name in names else source
            for source in self.schema.modalities
        )

    def _with_sources(self, sources: Iterable[ModalitySource]) -> Preprocessor:
        """Return the preprocessor with some of the modalities, in their order, from other places."""
        kept = tuple(sources)
        names = {source.name for source in kept}
        return Preprocessor(
            schema=replace(self.schema, modalities=kept),
            tokenizer=self.tokenizer,
            labels=self.labels,
            tabular={name: encoder for name, encoder in self.tabular.items() if name in names},
            modalities=[modality for modality in self.modalities if modality.name in names],
            max_length=self.max_length,
            fingerprints={name: text for name, text in self.fingerprints.items() if name in names},
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
        self, frame: pd.DataFrame, source: ModalitySource, modality: Modality, stores: dict[str, FeatureStore]
    ) -> FeatureColumn | StoredFeatureColumn:
        if isinstance(source, TabularColumns):
            return FeatureColumn(modality, self.tabular[source.name].transform(frame))
        if isinstance(source, StoredFeatures):
            if source.name not in stores:
                stores[source.name] = open_store(source)
            fingerprint = self.fingerprints[source.name]
            return stored_column(source, modality, fingerprint, frame, self.schema.id, stores[source.name])
        return FeatureColumn(modality, of_width(frame, source, modality.feature_dim))


def _from_store(source: StoredFeatures, store: str) -> StoredFeatures:
    return replace(source, store=store, id=None, column=None if source.id is not None else source.column)


def _tell_what_is_missing(frame: pd.DataFrame, schema: DatasetSchema, data: MultimodalDataset) -> None:
    warn_of_missing_texts(missing_texts(frame, schema), len(frame))
    for source in schema.modalities:
        if not isinstance(source, TabularColumns):
            missing = len(data) - int(data.present(source.name).sum())
            if missing:
                logger.info("Modality '%s' is missing in %d of %d rows.", source.name, missing, len(data))


def missing_texts(frame: pd.DataFrame, schema: DatasetSchema) -> Counter[str]:
    """Return how many rows have no text, by text column."""
    return Counter({column: sum(map(is_missing, frame[column])) for column in schema.text_columns})


def warn_of_missing_texts(missing: Counter[str], rows: int) -> None:
    """Log a warning for each text column with rows that have no text.

    Args:
        missing: Such rows, by column.
        rows: Number of all rows.
    """
    for column, count in missing.items():
        if count:
            logger.warning("Text column '%s' is empty in %d of %d rows.", column, count, rows)


def text_length(max_length: int | None, schema: DatasetSchema, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens that texts are cut to.

    Args:
        max_length: As it was given; None for what the tokenizer allows, at most ``DEFAULT_MAX_LENGTH``.
        schema: Whether texts are pairs.
        tokenizer: Tokenizer of the text encoder.

    Raises:
        ConfigurationError: If it leaves no room for text.
    """
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


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
    texts = []
    for row, value in frame[column].items():
        if is_missing(value):
            texts.append("")
        elif not pd.api.types.is_scalar(value):
            raise DataError(
                f"Text column '{column}' holds a {type(value).__name__} in row {row}. Give one text a row; join parts "
                "first."
            )
        else:
            whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
            texts.append(str(int(value)) if whole else str(value))
    return texts
