"""What a feature store is on disk: its columns, the Arrow schema of its shards, and its manifest.

A store is a folder with ``manifest.json`` and shards ``shard-00000.arrow``, ``shard-00001.arrow``, …, each an Arrow IPC
stream of one record batch. A shard counts only where the manifest names it. Nothing in a store depends on when or in
which process it was written: the same rows in the same order give the same bytes.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from mmadapters.errors import ConfigurationError, DataError, did_you_mean, listed
from mmadapters.files import write_json_atomically
from mmadapters.modality import Modality

FORMAT = "mmadapters-feature-store"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LOCK = ".lock"
ID = "id"
SCHEMA_KEY = "mmadapters"
"""Under this key of the schema's metadata, a shard carries the columns as JSON."""

StoreDtype = Literal["float16", "float32"]
DTYPES: tuple[str, ...] = get_args(StoreDtype)
_WIDEST = 2**31 - 1
_PACKAGES = ("mmadapters", "numpy", "pyarrow")


@dataclass(frozen=True)
class StoreColumn:
    """The features of one modality in a store.

    Attributes:
        name: Of the modality; letters, digits, ``_`` and ``-``.
        feature_dim: Width D of a vector, or of one step of a sequence.
        is_sequence: Whether a row holds (T, D), with T of its own (0 included), instead of (D,).
        dtype: How numbers are stored: ``float16`` or ``float32``.
        fingerprint: What the features were computed with: encoder, preprocessing, versions. Features of different
            fingerprints do not mix in one store.
        pool_mean: Whether the store also holds ``<name>_mean``, the mean over the steps of a sequence as a vector, so
            that whoever pools reads D numbers instead of T x D.

    Raises:
        ConfigurationError: If a value cannot be used.
    """

    name: str
    feature_dim: int
    is_sequence: bool
    dtype: StoreDtype = "float16"
    fingerprint: str = ""
    pool_mean: bool = False

    def __post_init__(self) -> None:
        Modality(self.name, self.feature_dim)
        if self.feature_dim > _WIDEST:
            raise ConfigurationError(
                f"Column '{self.name}' was given feature_dim={self.feature_dim}. A store takes at most {_WIDEST}."
            )
        if self.dtype not in DTYPES:
            raise ConfigurationError(
                f"Column '{self.name}' was given dtype={self.dtype!r}. Accepted are {listed(DTYPES)}."
                f"{did_you_mean(str(self.dtype), DTYPES)}"
            )
        for setting in ("is_sequence", "pool_mean"):
            if not isinstance(getattr(self, setting), bool):
                raise ConfigurationError(
                    f"Column '{self.name}' was given {setting}={getattr(self, setting)!r}. Give True or False."
                )
        if not isinstance(self.fingerprint, str):
            raise ConfigurationError(
                f"Column '{self.name}' was given fingerprint={self.fingerprint!r}. A fingerprint is a text."
            )
        if self.pool_mean and not self.is_sequence:
            raise ConfigurationError(
                f"Column '{self.name}' was given pool_mean=True and is a vector, which has no steps to average. Set "
                "pool_mean=False or is_sequence=True."
            )

    @property
    def status_field(self) -> str:
        """Name of the Arrow column that holds the status of every row."""
        return f"{self.name}_status"

    @property
    def error_field(self) -> str:
        """Name of the Arrow column that holds the error text of every row."""
        return f"{self.name}_error"

    @property
    def mean(self) -> StoreColumn | None:
        """The vector column ``<name>_mean`` where there is one."""
        if not self.pool_mean:
            return None
        return StoreColumn(f"{self.name}_mean", self.feature_dim, False, self.dtype, self.fingerprint)

    @property
    def feature_columns(self) -> list[StoreColumn]:
        """The column itself and, where there is one, its mean."""
        return [self] if self.mean is None else [self, self.mean]

    @property
    def arrow_type(self) -> pa.DataType:
        """``FixedSizeList[D]`` of numbers, or for a sequence a ``LargeList`` of these."""
        number = pa.field("item", pa.float16() if self.dtype == "float16" else pa.float32())
        step = pa.list_(number, self.feature_dim)
        return pa.large_list(pa.field("item", step)) if self.is_sequence else step


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard.

    Attributes:
        file: Name within the folder.
        rows: Number of rows, at least 1.
        bytes: Size of the file.
        sha256: Digest of the file, in hexadecimal.
    """

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Attributes:
        columns: In the order in which they were given.
        shards: In the order of their rows.
        versions: The distinct sets of library versions that have written into the store, in order.
    """

    columns: tuple[StoreColumn, ...]
    shards: tuple[ShardEntry, ...] = ()
    versions: tuple[Mapping[str, str], ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def with_shard(self, entry: ShardEntry) -> Manifest:
        """Return the manifest with one more shard, written by the library versions of this process."""
        return replace(self, shards=(*self.shards, entry)).written_here()

    def written_here(self) -> Manifest:
        """Return the manifest with the library versions of this process among its versions."""
        here = {package: version(package) for package in _PACKAGES}
        return self if here in self.versions else replace(self, versions=(*self.versions, here))

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain values, as it stands in ``manifest.json``."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "columns": [asdict(column) for column in self.columns],
            "schema": _described_schema(self.columns),
            "versions": [dict(versions) for versions in self.versions],
            "rows": self.rows,
            "shards": [asdict(shard) for shard in self.shards],
        }

    @classmethod
    def from_dict(cls, value: Any) -> Manifest:
        """Return the manifest that ``to_dict`` described.

        Raises:
            DataError: If anything in it is not as ``to_dict`` writes it.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise DataError(f'It does not say "format": "{FORMAT}", so it is no feature store\'s manifest.')
        if value.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"It has format_version {value.get('format_version')!r}, and this version of mmadapters reads "
                f"{FORMAT_VERSION}. Read it with the version that wrote it."
            )
        manifest = cls(
            columns=tuple(_from_fields(StoreColumn, entry) for entry in _list(value, "columns")),
            shards=tuple(_from_fields(ShardEntry, entry) for entry in _list(value, "shards")),
            versions=tuple(_versions(entry) for entry in _list(value, "versions")),
        )
        check_columns(manifest.columns)
        for number, shard in enumerate(manifest.shards):
            if shard.file != shard_name(number) or shard.rows < 1 or shard.bytes < 1:
                raise DataError(f"Shard {number} is described as {asdict(shard)}, which no writer writes.")
        if manifest.to_dict() != value:
            raise DataError("Its rows, schema or keys contradict its columns and shards.")
        return manifest


def shard_name(number: int) -> str:
    """Return the file name of shard ``number``."""
    return f"shard-{number:05d}.arrow"


def check_columns(columns: Sequence[StoreColumn]) -> None:
    """Check that there is a column, and that the Arrow columns that they need have names of their own.

    Raises:
        ConfigurationError: Naming what is there twice.
    """
    if not columns:
        raise ConfigurationError("A feature store was given no column. Give at least one StoreColumn.")
    taken = Counter([ID])
    for column in columns:
        taken.update([feature.name for feature in column.feature_columns])
        taken.update([column.status_field, column.error_field])
    repeated = [name for name, count in taken.items() if count > 1]
    if repeated:
        raise ConfigurationError(
            f"The columns {listed(column.name for column in columns)} need {listed(repeated)} more than once. A store "
            "has 'id' and for each column '<name>', '<name>_status', '<name>_error' and, with pool_mean, "
            "'<name>_mean': rename a column."
        )


def arrow_schema(columns: Sequence[StoreColumn]) -> pa.Schema:
    """Return the schema of a shard: the id, then of each column its features, mean, status and error."""
    parts = [pa.field(ID, pa.string(), nullable=False)]
    for column in columns:
        parts += [pa.field(feature.name, feature.arrow_type) for feature in column.feature_columns]
        parts += [pa.field(column.status_field, pa.string(), nullable=False)]
        parts += [pa.field(column.error_field, pa.string(), nullable=False)]
    described = {"format_version": FORMAT_VERSION, "columns": [asdict(column) for column in columns]}
    return pa.schema(parts, metadata={SCHEMA_KEY: json.dumps(described)})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a store.

    Raises:
        DataError: If there is none, or it is not as a writer writes it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        reason = f"it has no {MANIFEST}" if folder.is_dir() else "there is no such folder"
        raise DataError(
            f"'{folder}' is no feature store: {reason}. Name the folder that `mmadapters extract` or a StoreWriter "
            "wrote."
        )
    try:
        return Manifest.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"The manifest '{path}' cannot be used. {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in the place of the store's, all or nothing, and wait until it is on the disk."""
    write_json_atomically(folder / MANIFEST, manifest.to_dict())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _described_schema(columns: Sequence[StoreColumn]) -> dict[str, str]:
    described = {}
    for field in arrow_schema(columns):
        described[field.name] = "string"
    for column in columns:
        for feature in column.feature_columns:
            step = f"{feature.dtype}[{feature.feature_dim}]"
            described[feature.name] = f"list<{step}>" if feature.is_sequence else step
    return described


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    entries = value.get(key)
    if not isinstance(entries, list):
        raise DataError(f"Its '{key}' is no list.")
    return entries


def _from_fields(kind: Any, entry: Any) -> Any:
    """Return a data class from a JSON object that has all of its fields, of their types, and no others."""
    types = {"str": str, "int": int, "bool": bool, "StoreDtype": str}
    wanted = {field.name: types[str(field.type)] for field in fields(kind)}
    if not isinstance(entry, dict) or {name: type(value) for name, value in entry.items()} != wanted:
        raise DataError(f"{entry!r} is no {kind.__name__}: it needs {listed(wanted)}, each of its type.")
    return kind(**entry)


def _versions(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
        raise DataError(f"{entry!r} is no table of library versions.")
    return entry
