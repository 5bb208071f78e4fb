"""Writing a feature store: rows appended shard by shard, resumed wherever it was killed, by one writer at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed
from mmadapters.features.store_format import (
    ID,
    MANIFEST,
    Manifest,
    StoreColumn,
    arrow_schema,
    check_columns,
    read_manifest,
    write_manifest,
)
from mmadapters.features.store_lock import FolderLock
from mmadapters.features.store_shard import check_file, read_batch, write_shard

ROWS_PER_SHARD = 1024
BYTES_PER_SHARD = 128 << 20

_SHARD = re.compile(r"shard-[0-9]{5,}\.arrow")
_TEMPORARY = re.compile(r"\.(shard-[0-9]{5,}\.arrow|manifest\.json\..*)\.tmp")


class StoreWriter:
    """Appends rows to a feature store.

    Rows are gathered in memory until a shard is full; ``commit`` then makes all of them visible at once. What was
    committed survives whatever happens to the process, and what was not leaves nothing behind: a store that is opened
    again goes on after the last committed row. The same rows, added in the same order and committed at the same places,
    give the same bytes, however often the writing was interrupted in between.

    Used as a context manager, it commits what is left where the block ends, and discards it where the block raises.

    Args:
        folder: Of the store; made where it does not exist.
        columns: What a row holds, in this order.
        rows_per_shard: A shard is written when it has so many rows. So many rows at most are lost by a crash.
        bytes_per_shard: A shard is also written when its features have so many bytes, which bounds the memory.
        overwrite: Whether a store whose columns differ (another fingerprint, another width, …) is emptied first. A
            store with the same columns goes on in any case.

    Raises:
        ConfigurationError: If a setting cannot be used, or the store has other columns and ``overwrite`` is False.
        DataError: If the store is damaged, or another writer has it open.
    """

    def __init__(
        self,
        folder: str | Path,
        columns: Sequence[StoreColumn],
        rows_per_shard: int = ROWS_PER_SHARD,
        bytes_per_shard: int = BYTES_PER_SHARD,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.columns = tuple(columns)
        check_columns(self.columns)
        for setting, value in (("rows_per_shard", rows_per_shard), ("bytes_per_shard", bytes_per_shard)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{setting}={value!r} cannot be used. Give a whole number of at least 1.")
        self._rows_per_shard = rows_per_shard
        self._bytes_per_shard = bytes_per_shard
        self._schema = arrow_schema(self.columns)
        self._names = [column.name for column in self.columns]
        _make_folder(self.folder)
        self._lock = FolderLock(self.folder)
        try:
            self._manifest = _open_manifest(self.folder, self.columns, overwrite)
            _remove_leftovers(self.folder, self._manifest)
            self._ids = _committed_ids(self.folder, self._manifest)
        except BaseException:
            self._lock.release()
            raise
        self._pending: list[_Row] = []
        self._pending_bytes = 0
        self._failed = False

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None and (self._failed or self._lock.is_held):
                self.commit()
        finally:
            self.close()

    def __len__(self) -> int:
        return self._manifest.rows

    def done_ids(self) -> frozenset[str]:
        """Return the ids of all rows that are committed."""
        return frozenset(self._ids.difference(row.id for row in self._pending))

    def add(
        self,
        id: str,
        values: Mapping[str, np.ndarray | None],
        status: Mapping[str, str] | None = None,
        errors: Mapping[str, str] | None = None,
    ) -> None:
        """Add a row; it is visible after the next commit, which a full shard brings about by itself.

        Args:
            id: Of the example; every id is there once.
            values: By column name, floating-point numbers (D,) or, for a sequence, (T, D); None or no entry for what is
                missing.
            status: By column name; without an entry ``ok``, or ``missing`` where there are no values.
            errors: By column name, a text; without an entry an empty one.

        Raises:
            DataError: If the id is there already, or something does not fit its column. The row is then not added, and
                the writer can go on.
        """
        self._require_open()
        _check_id(id)
        if id in self._ids:
            raise DataError(f"The id '{id}' is in the store already. Every id may be added once; see done_ids().")
        status, errors = status or {}, errors or {}
        for name in chain(values, status, errors):
            if name not in self._names:
                raise DataError(
                    f"Row '{id}' has something for column '{name}', and the store has the columns "
                    f"{listed(self._names)}.{did_you_mean(str(name), self._names)}"
                )
        row = _Row(id, {}, {})
        for column in self.columns:
            array = _fitting(id, column, values.get(column.name))
            row.features[column.name] = array
            if column.mean is not None:
                row.features[column.mean.name] = _mean(array)
            standing = status.get(column.name) or ("missing" if array is None else "ok")
            row.texts[column.status_field] = _text(id, column, standing)
            row.texts[column.error_field] = _text(id, column, errors.get(column.name, ""))
        self._ids.add(id)
        self._pending.append(row)
        self._pending_bytes += row.nbytes
        if len(self._pending) >= self._rows_per_shard or self._pending_bytes >= self._bytes_per_shard:
            self.commit()

    def commit(self) -> None:
        """Make all rows that were added visible, all or nothing, and wait until they are on the disk.

        Raises:
            DataError: If the writer is closed.
            OSError: If the disk does not take them. The writer is then closed; open the store again to go on.
        """
        self._require_open()
        if not self._pending:
            return
        try:
            batch = _record_batch(self._schema, self.columns, self._pending)
            entry = write_shard(self.folder, len(self._manifest.shards), batch)
            manifest = self._manifest.with_shard(entry)
            write_manifest(self.folder, manifest)
        except BaseException:
            # How far it came is known to the disk alone, and opening the store again finds out.
            self._failed = True
            self.close()
            raise
        self._manifest = manifest
        self._pending = []
        self._pending_bytes = 0

    def close(self) -> None:
        """Let another writer in; rows that were not committed are discarded. Closing twice does nothing."""
        self._ids.difference_update(row.id for row in self._pending)
        self._pending = []
        self._pending_bytes = 0
        self._lock.release()

    def _require_open(self) -> None:
        if not self._lock.is_held:
            raise DataError(
                f"The writer of '{self.folder}' is closed, by close() or by a commit that failed, or belongs to the "
                "process that this one was forked from. Make a new StoreWriter to go on."
            )


class _Row:
    """A row that waits for its shard: features by column name (means included), texts by Arrow column name."""

    __slots__ = ("features", "id", "texts")

    def __init__(self, id: str, features: dict[str, np.ndarray | None], texts: dict[str, str]) -> None:
        self.id = id
        self.features = features
        self.texts = texts

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.features.values() if array is not None)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigurationError(
            f"'{folder}' is a file, and a feature store is a folder. Name another path."
        ) from error


def _open_manifest(folder: Path, columns: tuple[StoreColumn, ...], overwrite: bool) -> Manifest:
    fresh = Manifest(columns)
    if not (folder / MANIFEST).exists():
        shards = sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name))
        if shards:
            raise DataError(
                f"'{folder}' holds {shards[0]} and no {MANIFEST}. Bring the manifest back, or name another folder."
            )
        write_manifest(folder, fresh)
        return fresh
    manifest = read_manifest(folder)
    if manifest.columns == columns:
        for entry in manifest.shards:
            check_file(folder, entry)
        return manifest
    if not overwrite:
        raise ConfigurationError(
            f"The feature store '{folder}' has other columns: {'; '.join(_differences(manifest.columns, columns))}. "
            "Features of different kinds do not mix: name another folder, or give overwrite=True to discard its "
            f"{manifest.rows} rows."
        )
    write_manifest(folder, fresh)
    return fresh


def _differences(there: Sequence[StoreColumn], given: Sequence[StoreColumn]) -> list[str]:
    names = ([column.name for column in there], [column.name for column in given])
    if names[0] != names[1]:
        return [f"it has {listed(names[0])}, given were {listed(names[1])}"]
    return [
        f"'{old.name}' has {field.name}={getattr(old, field.name)!r}, given was {getattr(new, field.name)!r}"
        for old, new in zip(there, given, strict=True)
        for field in fields(StoreColumn)
        if getattr(old, field.name) != getattr(new, field.name)
    ]


def _remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove what an interrupted writer left: temporary files, and shards that the manifest does not name."""
    named = {shard.file for shard in manifest.shards}
    for path in sorted(folder.iterdir()):
        if _TEMPORARY.fullmatch(path.name) or (_SHARD.fullmatch(path.name) and path.name not in named):
            path.unlink()


def _committed_ids(folder: Path, manifest: Manifest) -> set[str]:
    ids: set[str] = set()
    for entry in manifest.shards:
        ids.update(read_batch(folder, entry, manifest.columns).column(ID).to_pylist())
    if len(ids) != manifest.rows:
        raise DataError(f"The feature store '{folder}' has an id more than once. Extract it again into a new folder.")
    return ids


def _check_id(id: object) -> None:
    if not isinstance(id, str) or not id or _storable(id) != id:
        raise DataError(f"A row was given the id {id!r}. An id is a text of at least one character, valid as UTF-8.")


def _text(id: str, column: StoreColumn, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"Row '{id}' has {value!r} as status or error of column '{column.name}'. Give a text.")
    return _storable(value)


def _storable(text: str) -> str:
    """Return a text with what UTF-8 cannot express written out, as in names of files of unknown encoding."""
    return str.__str__(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _fitting(id: str, column: StoreColumn, values: object) -> np.ndarray | None:
    """Return values as a contiguous array of the column's type, of the caller's memory independent."""
    if values is None:
        return None
    wanted = f"(T, {column.feature_dim})" if column.is_sequence else f"({column.feature_dim},)"
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise DataError(
            f"Row '{id}' has {kind} for column '{column.name}'. Give a numpy array of floating-point numbers."
        )
    if values.ndim != 1 + column.is_sequence or values.shape[-1] != column.feature_dim:
        raise DataError(f"Row '{id}' has the shape {values.shape} for column '{column.name}', which takes {wanted}.")
    with np.errstate(over="ignore"):
        stored = np.array(values, dtype=column.dtype, order="C")
    overflowing = np.isinf(stored) & np.isfinite(values)
    if overflowing.any():
        raise DataError(
            f"Row '{id}' has the number {values[overflowing][0]:g} for column '{column.name}', which {column.dtype} "
            f"cannot hold (at most {np.finfo(column.dtype).max:g}). Use dtype='float32', or scale the features."
        )
    return stored


def _mean(sequence: np.ndarray | None) -> np.ndarray | None:
    """Return the mean over the steps of what is stored, None where there is no step."""
    if sequence is None or not len(sequence):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return sequence.mean(axis=0, dtype=np.float64).astype(sequence.dtype)


def _record_batch(schema: pa.Schema, columns: Sequence[StoreColumn], rows: Sequence[_Row]) -> pa.RecordBatch:
    arrays = {ID: pa.array([row.id for row in rows], pa.string())}
    for column in columns:
        for feature in column.feature_columns:
            arrays[feature.name] = _feature_array(feature, [row.features[feature.name] for row in rows])
        for name in (column.status_field, column.error_field):
            arrays[name] = pa.array([row.texts[name] for row in rows], pa.string())
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _feature_array(column: StoreColumn, values: Sequence[np.ndarray | None]) -> pa.Array:
    bits = np.packbits([array is not None for array in values], bitorder="little")
    present = pa.py_buffer(bits.tobytes()) if any(array is None for array in values) else None
    if not column.is_sequence:
        nothing = np.zeros(column.feature_dim, column.dtype)
        return _steps(column.arrow_type, np.stack([nothing if array is None else array for array in values]), present)
    steps = np.concatenate([np.zeros((0, column.feature_dim), column.dtype), *[a for a in values if a is not None]])
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([0 if array is None else len(array) for array in values], out=offsets[1:])
    inner = _steps(column.arrow_type.value_type, steps, None)
    return pa.Array.from_buffers(column.arrow_type, len(values), [present, pa.py_buffer(offsets)], children=[inner])


def _steps(kind: pa.DataType, values: np.ndarray, present: pa.Buffer | None) -> pa.Array:
    numbers = pa.Array.from_buffers(kind.value_type, values.size, [None, pa.py_buffer(values)])
    return pa.Array.from_buffers(kind, len(values), [present], children=[numbers])
