"""The rows of an extraction: their ids, the paths in their cells, and the share of one worker."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmadapters.errors import ConfigurationError, DataError, listed
from mmadapters.features.cells import is_missing
from mmadapters.features.tabular import require_columns


@dataclass(frozen=True)
class MediaRow:
    """One row that is to be extracted.

    Attributes:
        id: Under which the store keeps it.
        paths: By modality, the path as the cell holds it; None where the cell is empty.
    """

    id: str
    paths: Mapping[str, str | None]


def row_id(value: object) -> str | None:
    """Return a cell of the id column as the text that names the row in a store, or None where it is empty.

    Whole numbers give the same text however a file type stores them: ``7``, ``7.0`` and ``"7"`` are one id. Other
    texts stay as they are, ``"007"`` too.
    """
    if is_missing(value):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def row_ids(rows: pd.DataFrame, column: str) -> list[str]:
    """Return the ids of N rows.

    Raises:
        DataError: If the column is absent or an id is missing.
    """
    require_columns(rows, [column])
    ids = [row_id(value) for value in rows[column]]
    present = [name for name in ids if name is not None]
    if len(present) < len(ids):
        raise DataError(
            f"The id column '{column}' is empty in {len(ids) - len(present)} of {len(ids)} rows. Give every row an id: "
            "the features are found by it."
        )
    return present


def media_rows(rows: pd.DataFrame, id_column: str, columns: Mapping[str, str]) -> list[MediaRow]:
    """Return ids and paths of N rows, in their order.

    Args:
        rows: The table.
        id_column: Column that names a row.
        columns: Column of the paths, by modality.

    Raises:
        DataError: If a column is absent, ids cannot be used, or a cell holds something that is no path.
    """
    require_columns(rows, [id_column, *columns.values()])
    ids = row_ids(rows, id_column)
    _check_unique(ids, id_column)
    paths = {
        name: [_path(value, column, id) for value, id in zip(rows[column], ids, strict=True)]
        for name, column in columns.items()
    }
    return [MediaRow(id, {name: cells[place] for name, cells in paths.items()}) for place, id in enumerate(ids)]


def share_of(rows: Sequence[MediaRow], num_shards: int, shard_index: int) -> list[MediaRow]:
    """Return the rows of one of several workers, in their order.

    The id alone decides, so that a row stays with its worker when others are added.

    Args:
        rows: All rows.
        num_shards: Number of workers.
        shard_index: Number of this one, from 0.

    Raises:
        ConfigurationError: If there is no such worker.
    """
    if num_shards < 1 or not 0 <= shard_index < num_shards:
        raise ConfigurationError(
            f"shard_index={shard_index} of num_shards={num_shards} cannot be used. num_shards is at least 1, and "
            "shard_index goes from 0 to num_shards - 1."
        )
    if num_shards == 1:
        return list(rows)
    return [row for row in rows if _place(row.id) % num_shards == shard_index]


def _place(id: str) -> int:
    return int.from_bytes(hashlib.sha256(id.encode("utf-8", "backslashreplace")).digest()[:8], "big")


def _path(value: object, column: str, id: str) -> str | None:
    if is_missing(value):
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise DataError(
            f"Column '{column}' holds a {type(value).__name__} in row '{id}'. Accepted is the path of a file, or an "
            "empty cell where there is none."
        )
    return os.fspath(value)


def _check_unique(ids: Sequence[str], column: str) -> None:
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DataError(
            f"The id column '{column}' has {len(repeated)} ids more than once: {listed(repeated[:5])}. Give every row "
            "an id of its own."
        )
