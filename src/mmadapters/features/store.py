"""The feature store: features of any number of examples on disk, written once and read at random at memory speed.

::

    with StoreWriter("features", [StoreColumn("poster", 1280, is_sequence=False)]) as writer:
        writer.add("tt0111161", {"poster": vector})

    store = FeatureStore.open("features")
    store.read(store.index_of("tt0111161"), "poster")

The folder holds Arrow IPC streams, which Hugging Face ``datasets`` opens too (``Dataset.from_file``), and a manifest;
see ``store_format``.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from mmadapters.errors import DataError, did_you_mean, listed
from mmadapters.features.store_format import ID, ShardEntry, StoreColumn, read_manifest
from mmadapters.features.store_shard import Shard, check_file, read_batch
from mmadapters.features.store_tools import StoreReport, compact, export_parquet, store_info, verify
from mmadapters.features.store_writer import StoreWriter

__all__ = [
    "FeatureStore",
    "StoreColumn",
    "StoreReport",
    "StoreWriter",
    "compact",
    "export_parquet",
    "store_info",
    "verify",
]


class FeatureStore:
    """A store opened for reading: what was committed when it was opened.

    Any number of processes and threads may read a store, also while it is written. Shards are mapped into memory when
    they are first read. A pickled store is a path and a manifest, and maps them anew where it is unpickled, as in the
    workers of a data loader.

    Args:
        folder: Of the store.

    Raises:
        DataError: If it is no store, or a shard is not there or not as long as the manifest says.
    """

    _shards: list[Shard | None]
    _ids: tuple[str, ...] | None
    _index: dict[str, int] | None

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._manifest = read_manifest(self.folder)
        for entry in self._manifest.shards:
            check_file(self.folder, entry)
        self._starts = [0, *accumulate(entry.rows for entry in self._manifest.shards)]
        self._columns = {
            feature.name: (column, feature) for column in self.columns for feature in column.feature_columns
        }
        self._forget()

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Open a store; the same as ``FeatureStore(folder)``."""
        return cls(folder)

    def __len__(self) -> int:
        return self._starts[-1]

    def __contains__(self, id: object) -> bool:
        return id in self._positions()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_shards", "_ids", "_index"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def columns(self) -> tuple[StoreColumn, ...]:
        """The columns as they were given to the writer."""
        return self._manifest.columns

    def column(self, name: str) -> StoreColumn:
        """Return the column that ``read`` knows by ``name``; ``<name>_mean`` is a vector column of its own.

        Raises:
            DataError: If there is none.
        """
        return self._column(name)[1]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all rows, in order. They are read at first use and then kept in memory."""
        if self._ids is None:
            batches = (read_batch(self.folder, entry, self.columns) for entry in self._manifest.shards)
            self._ids = tuple(id for batch in batches for id in batch.column(ID).to_pylist())
        return self._ids

    def index_of(self, id: str) -> int:
        """Return the row number of an example.

        Raises:
            DataError: If it is not in the store.
        """
        index = self._positions().get(id)
        if index is None:
            raise DataError(f"The feature store '{self.folder}' has no row '{id}' among its {len(self)}.")
        return index

    def read(self, index: SupportsIndex, column: str) -> np.ndarray | None:
        """Return the features of a row.

        Args:
            index: Row number, from 0.
            column: Name of the column, or ``<name>_mean`` for the mean over the steps of a column with ``pool_mean``.

        Returns:
            ``(D,)`` or, for a sequence, ``(T, D)``, in the column's type: a read-only view on the file, of which no
            copy is made (``.astype(np.float32)`` makes one). None where the row has none.

        Raises:
            IndexError: If there is no such row.
            DataError: If there is no such column, or the shard is damaged.
        """
        shard, row = self._locate(index)
        cells = shard.features.get(column)
        if cells is None:
            raise self._unknown(column)
        return cells[row]

    def status(self, index: SupportsIndex, column: str) -> str:
        """Return how a row's features came about, for example ``ok``, ``missing`` or ``error``; see ``read``."""
        field = self._column(column)[0].status_field
        shard, row = self._locate(index)
        return shard.texts[field][row]

    def error(self, index: SupportsIndex, column: str) -> str:
        """Return what went wrong with a row's features, an empty text where nothing did; see ``read``."""
        field = self._column(column)[0].error_field
        shard, row = self._locate(index)
        return shard.texts[field][row]

    def _locate(self, index: SupportsIndex) -> tuple[Shard, int]:
        wanted = operator.index(index)
        if not 0 <= wanted < self._starts[-1]:
            raise IndexError(f"Row {wanted} was asked for, and the store has the rows 0 to {len(self) - 1}.")
        place = bisect_right(self._starts, wanted) - 1
        shard = self._shards[place]
        if shard is None:
            shard = self._shards[place] = self._map(self._manifest.shards[place])
        return shard, wanted - self._starts[place]

    def _map(self, entry: ShardEntry) -> Shard:
        return Shard(read_batch(self.folder, entry, self.columns), self.columns)

    def _positions(self) -> dict[str, int]:
        if self._index is None:
            index = {id: position for position, id in enumerate(self.ids)}
            if len(index) != len(self):
                raise DataError(f"The feature store '{self.folder}' has an id more than once. Extract it again.")
            self._index = index
        return self._index

    def _column(self, name: str) -> tuple[StoreColumn, StoreColumn]:
        try:
            return self._columns[name]
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, column: str) -> DataError:
        return DataError(
            f"The feature store '{self.folder}' has no column '{column}'. It has {listed(self._columns)}."
            f"{did_you_mean(str(column), self._columns)}"
        )

    def _forget(self) -> None:
        self._shards = [None] * len(self._manifest.shards)
        self._ids = None
        self._index = None
