"""Reading: every bit as it was written, at random, from many readers at once, without memory that grows."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import tempfile
import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from store_helpers import COLUMNS, assert_holds, files, sum_of_row, write

from mmadapters.errors import DataError
from mmadapters.features.store import FeatureStore, StoreColumn, StoreWriter, compact, export_parquet, verify
from mmadapters.features.store_format import MANIFEST, arrow_schema, read_manifest

ROUND_TRIP = [
    StoreColumn("half", 3, is_sequence=False),
    StoreColumn("single", 2, is_sequence=False, dtype="float32"),
    StoreColumn("halves", 2, is_sequence=True, pool_mean=True),
    StoreColumn("singles", 3, is_sequence=True, dtype="float32"),
]


def any_bits(column: StoreColumn) -> st.SearchStrategy[np.ndarray | None]:
    """Arrays of any bits: all numbers, infinities, and NaN of every kind."""
    bits = np.uint16 if column.dtype == "float16" else np.uint32
    steps = st.integers(0, 4).map(lambda steps: (steps, column.feature_dim))
    shapes = steps if column.is_sequence else st.just((column.feature_dim,))
    return st.none() | npst.arrays(bits, shapes).map(lambda array: array.view(column.dtype))


rows = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.fixed_dictionaries({column.name: any_bits(column) for column in ROUND_TRIP}),
        st.fixed_dictionaries({}, optional={column.name: st.sampled_from(["degraded", "é"]) for column in ROUND_TRIP}),
        st.fixed_dictionaries({}, optional={column.name: st.text() for column in ROUND_TRIP}),
    ),
    max_size=9,
    unique_by=lambda row: row[0],
)


def same_bits(found: np.ndarray | None, expected: np.ndarray | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def assert_same_rows(store: FeatureStore, expected: list[Any]) -> None:
    assert store.ids == tuple(id for id, *_ in expected)
    for index, (id, values, status, errors) in enumerate(expected):
        assert store.index_of(id) == index
        for name, array in values.items():
            assert same_bits(store.read(index, name), array)
            assert store.status(index, name) == status.get(name, "missing" if array is None else "ok")
            stored = errors.get(name, "").encode("utf-8", "backslashreplace").decode()
            assert store.error(index, name) == stored
        steps = values["halves"]
        mean = store.read(index, "halves_mean")
        assert (mean is None) == (steps is None or len(steps) == 0)


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.mark.usefixtures("_no_waiting")
def test_every_row_is_read_back_bit_for_bit() -> None:
    # Examples are small, and to make them smaller would take minutes.
    @settings(derandomize=True, deadline=None, max_examples=60, phases=[Phase.generate])
    @given(rows, st.integers(1, 4), st.integers(0, 9))
    def check(rows: list[Any], rows_per_shard: int, cut: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "store"
            for part in (rows[:cut], rows[cut:]):
                with StoreWriter(store, ROUND_TRIP, rows_per_shard=rows_per_shard) as writer:
                    for row in part:
                        writer.add(*row)
            assert_same_rows(FeatureStore.open(store), rows)
            assert verify(store).ok
            compact(store, Path(folder) / "compact", rows_per_shard=6)
            assert_same_rows(FeatureStore.open(Path(folder) / "compact"), rows)
            export_parquet(store, Path(folder) / "rows.parquet")

    check()


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    write(tmp_path, range(50), rows_per_shard=7)
    store = FeatureStore.open(tmp_path)
    assert len(store) == 50
    for index in np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3)):
        steps = store.read(index, "trailer")
        if steps is not None:
            assert len(steps) == index % 4
            assert len(steps) == 0 or steps[0, 0] == index
        assert (store.read(index, "poster") is None) == (index % 3 == 2)
    assert_holds(store, range(50))


def test_a_store_without_rows(tmp_path: Path) -> None:
    write(tmp_path, [])
    store = FeatureStore.open(str(tmp_path))
    assert (len(store), store.ids, "tt0" in store) == (0, (), False)
    with pytest.raises(IndexError, match="Row 0 was asked for, and the store has the rows 0 to -1"):
        store.read(0, "poster")


def test_columns_are_those_of_the_writer_and_means_are_known(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    store = FeatureStore.open(tmp_path)
    assert store.columns == tuple(COLUMNS)
    assert store.column("trailer") == COLUMNS[1]
    assert store.column("trailer_mean") == COLUMNS[1].mean
    assert store.error(2, "trailer_mean") == ""


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    store = FeatureStore.open(tmp_path)
    unknown = (
        f"The feature store '{tmp_path}' has no column 'postr'. It has 'poster', 'trailer', 'trailer_mean'. Did you "
        "mean 'poster'?"
    )
    for ask in (store.read, store.status, store.error):
        with pytest.raises(DataError) as caught:
            ask(0, "postr")
        assert str(caught.value) == unknown
        for index in (-1, 3, 10**20):
            with pytest.raises(IndexError, match=f"Row {index} was asked for, and the store has the rows 0 to 2"):
                ask(index, "poster")
    with pytest.raises(DataError, match="has no column 'poster_mean'"):
        store.column("poster_mean")
    with pytest.raises(DataError, match=r"has no row 'tt3' among its 3\."):
        store.index_of("tt3")
    assert "tt2" in store
    assert "tt3" not in store
    with pytest.raises(TypeError):
        store.read("0", "poster")  # type: ignore[arg-type]


def test_a_reader_sees_what_was_committed_when_it_was_opened(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    early = FeatureStore.open(tmp_path)
    write(tmp_path, range(9))
    assert_holds(early, range(4))
    assert_holds(FeatureStore.open(tmp_path), range(9))


def test_a_shard_that_goes_later_is_an_error_and_one_that_was_read_stays(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    store = FeatureStore.open(tmp_path)
    assert store.read(0, "poster") is not None
    for path in tmp_path.glob("*.arrow"):
        path.unlink()
    assert store.read(1, "poster") is not None
    with pytest.raises(DataError, match="cannot be read: No such file"):
        store.read(2, "poster")


def test_opening_compares_the_files_with_the_manifest(tmp_path: Path) -> None:
    write(tmp_path, range(5))
    shard = tmp_path / "shard-00001.arrow"
    content = shard.read_bytes()
    for changed in (content[:-8], content + bytes(8), b""):
        shard.write_bytes(changed)
        with pytest.raises(DataError, match=f"has {len(changed)} bytes, and the manifest says {len(content)}"):
            FeatureStore.open(tmp_path)
    shard.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        FeatureStore.open(tmp_path)


def test_an_id_that_is_there_twice_is_not_looked_up(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    shard = tmp_path / "shard-00001.arrow"
    shard.write_bytes(shard.read_bytes().replace(b"tt2tt3", b"tt0tt1"))
    store = FeatureStore.open(tmp_path)
    assert store.ids == ("tt0", "tt1", "tt0", "tt1")
    with pytest.raises(DataError, match="has an id more than once"):
        store.index_of("tt0")


def test_reading_takes_no_memory(tmp_path: Path) -> None:
    column = StoreColumn("frames", 64, is_sequence=True, pool_mean=True)
    steps = np.ones((32, 64), np.float16)
    with StoreWriter(tmp_path, [column], rows_per_shard=100) as writer:
        for number in range(1000):
            writer.add(str(number), {"frames": steps})
    store = FeatureStore.open(tmp_path)
    allocated, handles = pa.total_allocated_bytes(), len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    for index in np.random.default_rng(0).integers(0, 1000, 3000):
        assert store.read(index, "frames").shape == (32, 64)
        assert store.read(index, "frames_mean").shape == (64,)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pa.total_allocated_bytes() == allocated
    assert len(os.listdir("/proc/self/fd")) == handles
    assert peak < 300_000
    assert read_manifest(tmp_path).bytes > 4_000_000


def test_a_pickled_store_is_small_and_reads_the_same(tmp_path: Path) -> None:
    write(tmp_path, range(20))
    store = FeatureStore.open(tmp_path)
    assert_holds(store, range(20))
    pickled = pickle.dumps(store)
    assert len(pickled) < 4000
    assert_holds(pickle.loads(pickled), range(20))


def test_threads_read_at_once(tmp_path: Path) -> None:
    write(tmp_path, range(60))
    store = FeatureStore.open(tmp_path)
    expected = [sum_of_row((FeatureStore.open(tmp_path), index)) for index in range(60)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            assert list(threads.map(sum_of_row, [(store, index) for index in range(60)])) == expected


def test_processes_read_at_once_while_one_writes(tmp_path: Path) -> None:
    write(tmp_path, range(20))
    store = FeatureStore.open(tmp_path)
    expected = [sum_of_row((store, index)) for index in range(20)]
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(2, mp_context=context) as processes,
        StoreWriter(tmp_path, COLUMNS, rows_per_shard=1) as writer,
    ):
        found = processes.map(sum_of_row, [(store, index) for index in range(20)])
        for number in range(5):
            writer.add(f"new{number}", {})
        assert list(found) == expected


def test_datasets_opens_a_shard(tmp_path: Path) -> None:
    import datasets

    write(tmp_path, range(6), rows_per_shard=3)
    shards = [datasets.Dataset.from_file(str(tmp_path / shard.file)) for shard in read_manifest(tmp_path).shards]
    dataset = datasets.concatenate_datasets(shards)
    assert dataset.column_names == arrow_schema(COLUMNS).names
    assert dataset["id"][:] == [f"tt{number}" for number in range(6)]
    store = FeatureStore.open(tmp_path)
    for index in range(6):
        for name in ("poster", "trailer", "trailer_mean"):
            expected = store.read(index, name)
            assert dataset[index][name] == (None if expected is None else expected.tolist())
    assert dataset[2]["poster_status"] == "error"


def test_a_hostile_manifest_opens_no_other_file(tmp_path: Path) -> None:
    write(tmp_path / "store", range(2))
    secret = tmp_path / "secret.arrow"
    secret.write_bytes(files(tmp_path / "store")["shard-00000.arrow"])
    path = tmp_path / "store" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["file"] = "../secret.arrow"
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="which no writer writes"):
        FeatureStore.open(tmp_path / "store")
