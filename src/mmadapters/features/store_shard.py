"""One shard of a feature store: written in steps that leave no half of it, read through a memory map.

A row is read by arithmetic on Arrow's buffers, with no Python object a value: the features of a row are a view on the
mapped file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from mmadapters.errors import DataError
from mmadapters.features.store_format import ID, ShardEntry, StoreColumn, arrow_schema, shard_name, sync_folder

_CHUNK = 1 << 20
_DAMAGED = "Extract it again, or bring back a copy; `mmadapters store verify` lists everything that is damaged."


def write_shard(folder: Path, number: int, batch: pa.RecordBatch) -> ShardEntry:
    """Write a shard under its name, all or nothing, and wait until it is on the disk.

    Args:
        folder: Of the store.
        number: Of the shard.
        batch: All of its rows.

    Returns:
        What the manifest is to say of it. Until it does, the file counts for nothing.
    """
    target = folder / shard_name(number)
    temporary = temporary_name(target)
    try:
        with open(temporary, "wb") as file:
            sink = DigestingFile(file)
            with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), batch.schema) as stream:
                stream.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_folder(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return ShardEntry(target.name, batch.num_rows, sink.size, sink.digest.hexdigest())


def temporary_name(target: Path) -> Path:
    """Return the name under which a shard is written until it is whole."""
    return target.with_name(f".{target.name}.tmp")


class DigestingFile:
    """A file open for writing that computes the size and the SHA-256 of what goes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, content: bytes) -> int:
        """Write ``content``."""
        self.digest.update(content)
        self.size += len(content)
        return self._file.write(content)

    def flush(self) -> None:
        """Write what is buffered."""
        self._file.flush()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_file(folder: Path, entry: ShardEntry) -> None:
    """Check that a shard is there, a regular file, and as long as the manifest says.

    Raises:
        DataError: If it is not.
    """
    path = folder / entry.file
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"The shard '{path}' of the manifest cannot be read: {error.strerror}. {_DAMAGED}") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"The shard '{path}' is no regular file. {_DAMAGED}")
    if found.st_size != entry.bytes:
        raise DataError(
            f"The shard '{path}' has {found.st_size} bytes, and the manifest says {entry.bytes}. {_DAMAGED}"
        )


def read_batch(folder: Path, entry: ShardEntry, columns: Sequence[StoreColumn]) -> pa.RecordBatch:
    """Map a shard into memory and return its rows, which are read from the disk only where they are looked at.

    Schema, number of rows, offsets and texts are checked in full, so that no content of the file can make a later read
    leave it; the numbers themselves are not looked at.

    Args:
        folder: Of the store.
        entry: What the manifest says of the shard.
        columns: Of the store.

    Raises:
        DataError: If the file is not what the manifest says.
    """
    check_file(folder, entry)
    path = folder / entry.file
    try:
        # The map outlives the file handle, which is closed here: a store of many shards needs no handle for each.
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            if not stream.schema.equals(arrow_schema(columns), check_metadata=True):
                raise DataError(f"The shard '{path}' has other columns than the manifest. {_DAMAGED}")
            batch = stream.read_next_batch()
            more = next(iter(stream), None)
        batch.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration, MemoryError) as error:
        raise DataError(f"The shard '{path}' is damaged: {error}. {_DAMAGED}") from error
    if more is not None or batch.num_rows != entry.rows:
        raise DataError(f"The shard '{path}' does not have the {entry.rows} rows of the manifest. {_DAMAGED}")
    if any(_unexpected_nulls(array) for array in batch.columns):
        raise DataError(f"The shard '{path}' has nulls where a store has none. {_DAMAGED}")
    return batch


class Shard:
    """The rows of a mapped shard.

    Attributes:
        features: By column name, means included: what gives the features of a row number.
        texts: By Arrow column name (id, status, error): what gives the text of a row number.
    """

    def __init__(self, batch: pa.RecordBatch, columns: Sequence[StoreColumn]) -> None:
        self.features: dict[str, _Vectors | _Sequences] = {}
        self.texts = {ID: _texts(batch.column(ID))}
        for column in columns:
            for feature in column.feature_columns:
                array = batch.column(feature.name)
                self.features[feature.name] = _sequences(array) if feature.is_sequence else _vectors(array)
            for name in (column.status_field, column.error_field):
                self.texts[name] = _texts(batch.column(name))


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Vectors (N, D), with a bit a row that says whether it has one."""

    values: np.ndarray
    present: np.ndarray | None

    def __getitem__(self, row: int) -> np.ndarray | None:
        return self.values[row] if _is_present(self.present, row) else None


@dataclass(frozen=True, slots=True)
class _Sequences:
    """Sequences, one after the other (steps, D), with N + 1 offsets and a bit a row."""

    values: np.ndarray
    offsets: np.ndarray
    present: np.ndarray | None

    def __getitem__(self, row: int) -> np.ndarray | None:
        if not _is_present(self.present, row):
            return None
        return self.values[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True)
class _Texts:
    """Texts, one after the other in UTF-8, with N + 1 offsets."""

    content: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, row: int) -> str:
        return self.content[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8")


def _is_present(bits: np.ndarray | None, row: int) -> bool:
    return bits is None or bool(bits[row >> 3] >> (row & 7) & 1)


def _vectors(array: pa.FixedSizeListArray) -> _Vectors:
    present, _, values = array.buffers()
    dtype, width = array.type.value_type.to_pandas_dtype(), array.type.list_size
    return _Vectors(_view(values, dtype, len(array) * width).reshape(-1, width), _bits(present, len(array)))


def _sequences(array: pa.LargeListArray) -> _Sequences:
    present, offsets, *inner = array.buffers()
    step = array.type.value_type
    dtype, width, steps = step.value_type.to_pandas_dtype(), step.list_size, len(array.values)
    return _Sequences(
        _view(inner[-1], dtype, steps * width).reshape(-1, width),
        _view(offsets, np.int64, len(array) + 1),
        _bits(present, len(array)),
    )


def _texts(array: pa.StringArray) -> _Texts:
    _, offsets, content = array.buffers()
    places = _view(offsets, np.int32, len(array) + 1)
    return _Texts(_view(content, np.uint8, int(places[-1])), places)


def _bits(buffer: pa.Buffer | None, rows: int) -> np.ndarray | None:
    return None if buffer is None else _view(buffer, np.uint8, (rows + 7) // 8)


def _view(buffer: pa.Buffer | None, dtype: type, count: int) -> np.ndarray:
    return np.frombuffer(buffer, dtype, count) if buffer is not None and count else np.empty(0, dtype)


def _unexpected_nulls(array: pa.Array) -> bool:
    """Tell whether an array has nulls other than missing features: in a text, or below the row's level."""
    if pa.types.is_string(array.type):
        return array.null_count > 0
    inner = array.values
    while inner.null_count == 0 and pa.types.is_nested(inner.type):
        inner = inner.values
    return inner.null_count > 0
