"""Features of a data set's rows that stay in a feature store until their row is asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd

from mmadapters.data.schema import StoredFeatures
from mmadapters.errors import DataError, listed
from mmadapters.features.extract_rows import row_id, row_ids
from mmadapters.features.extractor import fingerprint_changes
from mmadapters.features.store import FeatureStore
from mmadapters.features.table_columns import require_columns
from mmadapters.modality import Modality, ModalityKind

logger = logging.getLogger(__name__)

_NAMED = 5


class StoredFeatureColumn:
    """One modality's features of N rows, memory-mapped; it has the interface of ``FeatureColumn``.

    Args:
        modality: Name and width D of the features.
        store: The store.
        column: Column of the store.
        positions: Int64 (N,): row of the store for each row of the data, -1 where it has none.
        mean: Whether a sequence is read as the mean over its steps.
    """

    def __init__(
        self, modality: Modality, store: FeatureStore, column: str, positions: np.ndarray, mean: bool = False
    ) -> None:
        self.modality = modality
        self._store = store
        self._column = column
        self._positions = positions
        self._mean = mean
        self._present: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, row: int) -> np.ndarray | None:
        """Return the features of a row, float32 (D,) or (T, D), or None where the modality is missing.

        Raises:
            DataError: If they are not finite, or the store is damaged.
        """
        stored = self._stored(self._positions[row])
        if stored is None or not stored.size:
            return None
        features = stored.astype(np.float32)
        if self._mean and features.ndim == 2:
            features = features.mean(axis=0)
        if not np.isfinite(features).all():
            raise DataError(
                f"Modality '{self.modality.name}', row '{self._store.ids[self._positions[row]]}' of the store "
                f"'{self._store.folder}': features are NaN or infinite. Extract them anew."
            )
        return features

    @property
    def present(self) -> np.ndarray:
        """Bool (N,): whether a row has the modality."""
        if self._present is None:
            stored = map(self._stored, self._positions)
            self._present = np.array([entry is not None and entry.size > 0 for entry in stored], dtype=bool)
        return self._present

    def _stored(self, position: int) -> np.ndarray | None:
        return None if position < 0 else self._store.read(position, self._column)


def look_up(source: StoredFeatures) -> tuple[Modality, str]:
    """Return the modality that a store's column gives, and the fingerprint of its features.

    Args:
        source: Which column of which store.

    Raises:
        DataError: If there is no such store or column.
    """
    column = FeatureStore.open(source.store).column(source.store_column)
    return Modality(source.name, column.feature_dim, kind=_kind(column.fingerprint)), column.fingerprint


def stored_column(
    source: StoredFeatures,
    modality: Modality,
    fingerprint: str,
    frame: pd.DataFrame,
    id_column: str | None,
    store: FeatureStore | None = None,
) -> StoredFeatureColumn:
    """Find the features of rows in a store.

    Args:
        source: Which column of which store.
        modality: Name and width of the features of the training rows.
        fingerprint: What those were made with.
        frame: N rows with the id column.
        id_column: Column that names a row, where the source has none of its own.
        store: The store where it is open already, as for one of many chunks of rows.

    Returns:
        The features of the N rows, in their order.

    Raises:
        DataError: If the store cannot be opened, or does not hold a row, or features of another width or made in
            another way.
    """
    store = open_store(source) if store is None else store
    name = source.store_column
    stored = store.column(name)
    if stored.feature_dim != modality.feature_dim:
        raise DataError(
            f"Modality '{source.name}' has {stored.feature_dim} features in the store '{source.store}' and "
            f"{modality.feature_dim} in training. Make the features of all rows in the same way."
        )
    _check_fingerprint(source, fingerprint, stored.fingerprint)
    positions = _positions(store, source, _ids(source, frame, id_column))
    pooled = f"{name}_mean"
    if source.pooling == "mean" and any(column.name == name and column.pool_mean for column in store.columns):
        return StoredFeatureColumn(modality, store, pooled, positions)
    return StoredFeatureColumn(modality, store, name, positions, mean=source.pooling == "mean")


def open_store(source: StoredFeatures) -> FeatureStore:
    """Open the store of a modality.

    Raises:
        DataError: If there is none; the message names the modality.
    """
    try:
        return FeatureStore.open(source.store)
    except DataError as error:
        raise DataError(
            f"The features of modality '{source.name}' cannot be read. {error} `predict` and `evaluate` take another "
            f"store by --store {source.name}=folder."
        ) from error


def _ids(source: StoredFeatures, frame: pd.DataFrame, id_column: str | None) -> list[str | None]:
    """Return what names each row in a store, None where a column of the modality's own is empty."""
    if source.id is not None:
        require_columns(frame, [source.id])
        return [row_id(cell) for cell in frame[source.id]]
    return list(row_ids(frame, str(id_column)))


def _positions(store: FeatureStore, source: StoredFeatures, ids: Sequence[str | None]) -> np.ndarray:
    absent = [id for id in ids if id is not None and id not in store]
    if absent:
        raise DataError(
            f"The store '{source.store}' of modality '{source.name}' lacks {len(absent)} of {len(ids)} rows: "
            f"{listed(absent[:_NAMED])}{', …' if len(absent) > _NAMED else ''}. Extract them with `mmadapters "
            "extract`, which adds only the rows that are new; a row without media is then there as missing."
        )
    return np.array([-1 if id is None else store.index_of(id) for id in ids], dtype=np.int64)


def _check_fingerprint(source: StoredFeatures, trained: str, given: str) -> None:
    changes = fingerprint_changes(trained, given)
    serious = [change for change in changes if not change.startswith("versions.")]
    if serious:
        raise DataError(
            f"The features of modality '{source.name}' in the store '{source.store}' were made in another way than "
            f"those of the training rows: {'; '.join(serious)}. Extract the rows as the training rows were."
        )
    for change in changes:
        logger.warning("Modality '%s', store '%s': %s since training.", source.name, source.store, change)


def _kind(fingerprint: str) -> ModalityKind:
    """Return what features were made from where their fingerprint says so."""
    try:
        kind = json.loads(fingerprint).get("kind")
    except (ValueError, AttributeError):
        return "vector"
    return kind if kind in get_args(ModalityKind) else "vector"
