"""Predictions for tables of any size: a thousand rows at a time, wherever they come from.

Which rows share a batch decides the last bits of a prediction, for padding and the order of sums depend on it. So rows
are always taken in runs of ``CHUNK_ROWS``, counted from the first: the same rows in the same order have the same
predictions, bit for bit, in memory, streamed from a file, and in a run that was resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.labels import report_unseen
from mmadapters.data.preprocessor import missing_texts, warn_of_missing_texts
from mmadapters.data.schema import StoredFeatures
from mmadapters.data.stored import open_store
from mmadapters.errors import DataError
from mmadapters.evaluation.predictions import Predictions, RowModel
from mmadapters.features.store import FeatureStore
from mmadapters.features.table_columns import require_columns
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.preparation import PreparedRows, RowPreparation, Unusable

CHUNK_ROWS = 1024


@dataclass(frozen=True)
class PredictedChunk:
    """What is predicted for some rows.

    Attributes:
        predictions: Of the rows that could be read.
        rows: Int64 (n,): the places of these rows in the chunk, ascending.
        notes: By place, what of a row cannot be used and counts as missing.
        errors: By place, why a row could not be read.
    """

    predictions: Predictions | None
    rows: np.ndarray
    notes: dict[int, list[str]]
    errors: dict[int, str]


@dataclass(frozen=True)
class RowPredictor:
    """A model with all that it takes to predict rows as people have them.

    Attributes:
        artefact: The model.
        preparation: What is done to the rows first.
        max_tokens_per_batch: Most tokens of a batch, padding included; None for what the model was saved with.
        stores: Feature stores that are open, by modality.
    """

    artefact: RowModel
    preparation: RowPreparation
    max_tokens_per_batch: int | None = None
    stores: dict[str, FeatureStore] = field(default_factory=dict)

    def predict(
        self,
        frame: pd.DataFrame,
        place: Place,
        *,
        output_pooled: bool = False,
        progress: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> Predictions:
        """Predict rows in memory.

        Args:
            frame: N rows.
            place: Where the files are that they name.
            output_pooled: Whether to collect what the head reads.
            progress: Whether to show a progress bar.
            tell: Called with a line on what cannot be used.

        Raises:
            DataError: If there are no rows, a column is absent, or a row cannot be read.
        """
        parts = []
        with self._bar(len(frame), progress) as bar:
            for data in self.data_sets(frame, place, tell=tell):
                parts.append(self.run(data, output_pooled))
                bar.update(len(data))
        return joined(parts)

    def data_sets(
        self,
        frame: pd.DataFrame,
        place: Place,
        *,
        with_labels: bool = False,
        tell: Callable[[str], None] = lambda line: None,
        rows_at_once: int = CHUNK_ROWS,
    ) -> Iterator[MultimodalDataset]:
        """Yield rows in memory as data sets.

        Args:
            frame: N rows.
            place: Where the files are that they name.
            with_labels: Whether to read the label columns.
            tell: Called with a line on what cannot be used, after the last.
            rows_at_once: Rows of a data set; the last one may have fewer.

        Raises:
            DataError: As ``predict``.
        """
        if not len(frame):
            raise DataError("There are no rows to predict. Give a frame with at least one row.")
        found = Unusable()
        with self.preparation.workers():
            for start in range(0, len(frame), rows_at_once):
                chunk = frame.iloc[start : start + rows_at_once]
                chunk.attrs = frame.attrs
                prepared = self.preparation.of(chunk, place)
                found.add(prepared)
                yield self._data_set(prepared, with_labels=with_labels)
        for line in found.lines():
            tell(line)

    def data_set(
        self,
        frame: pd.DataFrame,
        place: Place,
        *,
        with_labels: bool = False,
        tell: Callable[[str], None] = lambda line: None,
    ) -> MultimodalDataset:
        """Return all rows in memory as one data set.

        Args:
            frame: N rows.
            place: Where the files are that they name.
            with_labels: Whether to read the label columns.
            tell: Called with a line on what cannot be used.

        Raises:
            DataError: As ``predict``.
        """
        (data,) = self.data_sets(frame, place, with_labels=with_labels, tell=tell, rows_at_once=max(len(frame), 1))
        warn_of_missing_texts(missing_texts(frame, self.artefact.preprocessor.schema), len(frame))
        report_unseen(data.unseen_labels)
        return data

    def predict_chunk(self, frame: pd.DataFrame, place: Place) -> PredictedChunk:
        """Predict one chunk of many, going on past rows that cannot be read.

        Args:
            frame: At most ``CHUNK_ROWS`` rows.
            place: Where the files are that they name.

        Raises:
            DataError: If a column is absent, or a store cannot be opened.
        """
        prepared = self.preparation.of(frame, place)
        errors: dict[int, str] = {}
        good = np.arange(len(frame))
        try:
            data = self._data_set(prepared)
        except DataError:
            require_columns(frame, self.artefact.preprocessor.schema.input_columns)
            good, errors = self._readable(prepared)
            if not len(good):
                return PredictedChunk(None, good, prepared.notes, errors)
            data = self._data_set(prepared, good)
        return PredictedChunk(self.run(data), good, prepared.notes, errors)

    def open_stores(self) -> None:
        """Open the stores that features are read from, beside those of the cache.

        Raises:
            DataError: If one cannot be opened.
        """
        extracted = {recipe.modality for recipe in self.preparation.media.recipes}
        for source in self.artefact.preprocessor.schema.modalities:
            if isinstance(source, StoredFeatures) and source.name not in extracted:
                self.stores[source.name] = open_store(source)

    def _data_set(
        self, prepared: PreparedRows, rows: np.ndarray | None = None, with_labels: bool = False
    ) -> MultimodalDataset:
        """Return prepared rows, or those at some places, as a data set."""
        frame = prepared.frame if rows is None else prepared.frame.iloc[rows]
        frame.attrs = prepared.frame.attrs
        self.stores.update(prepared.stores)
        return self.artefact.preprocessor.transform_chunk(frame, self.stores, with_labels)

    def run(self, data: MultimodalDataset, output_pooled: bool = False) -> Predictions:
        """Run the model over a data set.

        Args:
            data: At most ``CHUNK_ROWS`` rows.
            output_pooled: Whether to collect what the head reads.
        """
        how: dict[str, Any] = {"max_tokens_per_batch": self.max_tokens_per_batch}
        if output_pooled:
            # Of an artefact alone: an exported model gives no such vectors.
            how["output_pooled"] = True
        return self.artefact.predict_dataset(data, **how)

    def _readable(self, prepared: PreparedRows) -> tuple[np.ndarray, dict[int, str]]:
        """Return the places of the rows that the preprocessor can read, and why it cannot read the others."""
        errors: dict[int, str] = {}
        waiting = [np.arange(len(prepared.frame))]
        good: list[np.ndarray] = []
        while waiting:
            rows = waiting.pop()
            try:
                self._data_set(prepared, rows)
                good.append(rows)
            except DataError as error:
                if len(rows) == 1:
                    errors[int(rows[0])] = str(error)
                else:
                    waiting += np.array_split(rows, 2)
        return np.sort(np.concatenate(good)) if good else np.empty(0, dtype=np.int64), errors

    def _bar(self, rows: int, progress: bool) -> tqdm:
        return tqdm(total=rows, desc="predicting", unit="row", disable=not progress or rows <= CHUNK_ROWS)


def joined(parts: list[Predictions]) -> Predictions:
    """Return the predictions of several chunks together.

    Args:
        parts: At least one.
    """
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Predictions(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.logits for part in parts]),
        pooled=np.concatenate(pooled) if pooled else None,
    )
