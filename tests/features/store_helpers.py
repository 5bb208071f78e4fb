"""Rows for stores that are small and have everything: every dtype, missing features, empty sequences, errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mmadapters.features.store import FeatureStore, StoreColumn, StoreWriter

POSTER = StoreColumn("poster", 3, is_sequence=False, dtype="float32", fingerprint="encoder-1")
TRAILER = StoreColumn("trailer", 4, is_sequence=True, fingerprint="encoder-2", pool_mean=True)
COLUMNS = [POSTER, TRAILER]
Row = tuple[str, dict[str, np.ndarray | None], dict[str, str], dict[str, str]]


def row(number: int) -> Row:
    """Row ``number``: every third has no poster, every fifth no trailer, and trailers have 0 to 3 steps."""
    poster = None if number % 3 == 2 else np.full(3, number + 0.1, np.float32)
    steps = np.arange(number % 4 * 4, dtype=np.float16).reshape(-1, 4) + number
    trailer = None if number % 5 == 4 else steps.astype(np.float16)
    failed = poster is None
    return (
        f"tt{number}",
        {"poster": poster, "trailer": trailer},
        {"poster": "error" if failed else "ok", "trailer": "missing" if trailer is None else "ok"},
        {"poster": "no image"} if failed else {},
    )


def write(
    folder: Path,
    numbers: Iterable[int],
    columns: Sequence[StoreColumn] = COLUMNS,
    rows_per_shard: int = 2,
    overwrite: bool = False,
) -> None:
    """Write rows that are not there yet, as a run that is resumed does."""
    with StoreWriter(folder, columns, rows_per_shard=rows_per_shard, overwrite=overwrite) as writer:
        done = writer.done_ids()
        for number in numbers:
            if f"tt{number}" not in done:
                writer.add(*row(number))


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of a store but the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def assert_holds(store: FeatureStore, numbers: Sequence[int]) -> None:
    """Check every value of a store that ``write`` wrote."""
    assert store.ids == tuple(f"tt{number}" for number in numbers)
    for index, number in enumerate(numbers):
        _, values, status, errors = row(number)
        for name, expected in values.items():
            found = store.read(index, name)
            assert (found is None) == (expected is None)
            if expected is not None:
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected)
            assert store.status(index, name) == status[name]
            assert store.error(index, name) == errors.get(name, "")


def sum_of_row(task: tuple[FeatureStore, int]) -> float:
    """What a reader in another process computes."""
    store, index = task
    values = store.read(index, "trailer")
    return -1.0 if values is None else float(values.sum(dtype=np.float64))
