"""What is done with a feature store as a whole: check, merge, export, describe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store_format import (
    ID,
    Manifest,
    ShardEntry,
    StoreColumn,
    arrow_schema,
    read_manifest,
    sync_folder,
    write_manifest,
)
from mmadapters.features.store_shard import file_digest, read_batch, write_shard
from mmadapters.files import replace_folder

ROWS_PER_COMPACT_SHARD = 65_536
BYTES_PER_COMPACT_SHARD = 512 << 20


@dataclass(frozen=True)
class StoreReport:
    """What ``verify`` found.

    Attributes:
        rows: Number of rows that the manifest names.
        shards: Number of shards that it names.
        bytes: Their size.
        problems: A line for each thing that is wrong; none where the store is whole.
    """

    rows: int
    shards: int
    bytes: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(folder: str | Path) -> StoreReport:
    """Check all of a store against its manifest: size and digest of every shard, all offsets and texts, ids unique.

    Args:
        folder: Of the store.

    Raises:
        DataError: If there is no manifest that can be read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    problems: list[str] = []
    counted: Counter[str] = Counter()
    for entry in manifest.shards:
        try:
            counted.update(_intact_batch(folder, entry, manifest.columns).column(ID).to_pylist())
        except DataError as error:
            problems.append(str(error))
    problems += [f"The id '{id}' is there {count} times." for id, count in counted.items() if count > 1]
    return StoreReport(manifest.rows, len(manifest.shards), manifest.bytes, tuple(problems))


def compact(
    folders: str | Path | Sequence[str | Path],
    target: str | Path,
    rows_per_shard: int = ROWS_PER_COMPACT_SHARD,
    bytes_per_shard: int = BYTES_PER_COMPACT_SHARD,
) -> Manifest:
    """Write the rows of one or several stores into a new one with fewer shards, all or nothing.

    Consecutive shards are joined as long as they stay within both limits; no shard is divided. Rows, their order and
    every bit of their features stay as they are.

    Args:
        folders: Of the store, or of the stores in the order in which their rows are to come.
        target: Where to; there must be nothing.
        rows_per_shard: The most rows of a shard that is joined from several.
        bytes_per_shard: The most bytes of one.

    Returns:
        The manifest of the new store.

    Raises:
        ConfigurationError: If there is something at ``target``, no store is given, or their columns differ.
        DataError: If a store is damaged, or an id is there twice.
    """
    sources = [Path(folders)] if isinstance(folders, str | Path) else [Path(folder) for folder in folders]
    if os.path.lexists(target):
        raise ConfigurationError(f"'{target}' exists, and a store is compacted into a new folder. Name another path.")
    manifests = {source: read_manifest(source) for source in sources}
    columns = _common_columns(manifests)
    versions = list({tuple(v.items()): v for manifest in manifests.values() for v in manifest.versions}.values())
    compacted = Manifest(columns, versions=tuple(versions)).written_here()
    shards = [(source, entry) for source in sources for entry in manifests[source].shards]
    seen: set[str] = set()
    with replace_folder(target) as folder:
        for group in _grouped(shards, rows_per_shard, bytes_per_shard):
            batches = [_intact_batch(source, entry, columns) for source, entry in group]
            for batch in batches:
                _add_new_ids(seen, batch.column(ID).to_pylist())
            (joined,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
            compacted = compacted.with_shard(write_shard(folder, len(compacted.shards), joined))
        write_manifest(folder, compacted)
    sync_folder(Path(target).resolve().parent)
    return compacted


def export_parquet(folder: str | Path, target: str | Path) -> None:
    """Write a store as one Parquet file, a row group a shard, all or nothing; an existing file is replaced.

    Vectors become lists of numbers, sequences lists of lists, in the type in which they are stored.

    Args:
        folder: Of the store.
        target: The file.

    Raises:
        ConfigurationError: If ``target`` is a folder.
        DataError: If the store is damaged.
    """
    from pyarrow.parquet import ParquetWriter

    folder, target = Path(folder), Path(target)
    if target.is_dir():
        raise ConfigurationError(f"'{target}' is a folder. Name the Parquet file to write, for example 'rows.parquet'.")
    manifest = read_manifest(folder)
    schema = _parquet_schema(manifest.columns)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            with ParquetWriter(file, schema, compression="zstd") as writer:
                for entry in manifest.shards:
                    batch = _intact_batch(folder, entry, manifest.columns)
                    arrays = [_plain_list(batch.column(field.name), field.type) for field in schema]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=batch.num_rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def store_info(folder: str | Path) -> dict[str, Any]:
    """Return what a store holds, as plain values: sizes, versions, and of each column its form and its statuses.

    Args:
        folder: Of the store.

    Raises:
        DataError: If it is no store, or a shard cannot be read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    statuses: dict[str, Counter[str]] = {column.name: Counter() for column in manifest.columns}
    steps: Counter[str] = Counter()
    for entry in manifest.shards:
        batch = read_batch(folder, entry, manifest.columns)
        for column in manifest.columns:
            counts = batch.column(column.status_field).value_counts().to_pylist()
            statuses[column.name].update({count["values"]: count["counts"] for count in counts})
            if column.is_sequence:
                steps[column.name] += len(batch.column(column.name).values)
    return {
        "folder": str(folder),
        "rows": manifest.rows,
        "shards": len(manifest.shards),
        "bytes": manifest.bytes,
        "versions": [dict(versions) for versions in manifest.versions],
        "columns": {column.name: _described(column, statuses[column.name], steps) for column in manifest.columns},
    }


def _described(column: StoreColumn, statuses: Counter[str], steps: Counter[str]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "kind": "sequence" if column.is_sequence else "vector",
        "feature_dim": column.feature_dim,
        "dtype": column.dtype,
        "fingerprint": column.fingerprint,
        "status": dict(sorted(statuses.items())),
    }
    if column.is_sequence:
        described |= {"pool_mean": column.pool_mean, "steps": steps[column.name]}
    return described


def _intact_batch(folder: Path, entry: ShardEntry, columns: Sequence[StoreColumn]) -> pa.RecordBatch:
    """Return the rows of a shard after all of the file, numbers included, was compared with its digest."""
    batch = read_batch(folder, entry, columns)
    found = file_digest(folder / entry.file)
    if found != entry.sha256:
        raise DataError(
            f"The shard '{folder / entry.file}' has the SHA-256 {found}, and the manifest says {entry.sha256}. Extract "
            "it again, or bring back a copy."
        )
    return batch


def _common_columns(manifests: dict[Path, Manifest]) -> tuple[StoreColumn, ...]:
    if not manifests:
        raise ConfigurationError("No feature store was given to compact. Give the folder of at least one.")
    (first, manifest), *others = manifests.items()
    for folder, other in others:
        if other.columns != manifest.columns:
            raise ConfigurationError(
                f"The stores '{first}' and '{folder}' have different columns or fingerprints, and do not fit into one."
            )
    return manifest.columns


def _grouped(
    shards: Iterable[tuple[Path, ShardEntry]], rows_per_shard: int, bytes_per_shard: int
) -> Iterator[list[tuple[Path, ShardEntry]]]:
    """Yield consecutive shards that fit into one together; one that is too large alone is a group of its own."""
    group: list[tuple[Path, ShardEntry]] = []
    rows = size = 0
    for source, entry in shards:
        if group and (rows + entry.rows > rows_per_shard or size + entry.bytes > bytes_per_shard):
            yield group
            group, rows, size = [], 0, 0
        group.append((source, entry))
        rows, size = rows + entry.rows, size + entry.bytes
    if group:
        yield group


def _add_new_ids(seen: set[str], ids: Iterable[str]) -> None:
    for id in ids:
        if id in seen:
            raise DataError(f"The id '{id}' is there twice. Every example may be in one of the stores only.")
        seen.add(id)


def _parquet_schema(columns: Sequence[StoreColumn]) -> pa.Schema:
    schema = arrow_schema(columns)
    for column in columns:
        for feature in column.feature_columns:
            step = feature.arrow_type.value_type if feature.is_sequence else feature.arrow_type
            plain = pa.list_(step.value_type)
            field = pa.field(feature.name, pa.large_list(plain) if feature.is_sequence else plain)
            schema = schema.set(schema.get_field_index(feature.name), field)
    return schema


def _plain_list(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return features as lists without a fixed size, which every reader of Parquet knows; texts as they are."""
    if array.type == kind:
        return array
    if pa.types.is_large_list(kind):
        inner = _plain_list(array.values, kind.value_type)
        return pa.Array.from_buffers(kind, len(array), array.buffers()[:2], children=[inner])
    present = array.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, np.int32)
    np.cumsum(present * array.type.list_size, out=offsets[1:])
    numbers = array.drop_null().flatten()
    return pa.Array.from_buffers(kind, len(array), [array.buffers()[0], pa.py_buffer(offsets)], children=[numbers])
