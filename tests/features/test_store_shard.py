"""Shards: the steps of writing one, views on the mapped file, and files that are not what the manifest says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_helpers import COLUMNS, POSTER, write

from mmadapters.errors import DataError
from mmadapters.features.store import FeatureStore, StoreColumn, StoreWriter
from mmadapters.features.store_format import ShardEntry, arrow_schema, read_manifest
from mmadapters.features.store_shard import Shard, read_batch, write_shard


@pytest.fixture
def batch(tmp_path: Path) -> pa.RecordBatch:
    write(tmp_path / "made", range(6), rows_per_shard=6)
    return read_batch(tmp_path / "made", read_manifest(tmp_path / "made").shards[0], COLUMNS)


def put(folder: Path, *batches: pa.RecordBatch, schema: pa.Schema | None = None) -> ShardEntry:
    """Write any stream under a shard's name, with an entry that fits it."""
    path = folder / "shard-00000.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema or batches[0].schema) as stream:
        for each in batches:
            stream.write_batch(each)
    content = path.read_bytes()
    rows = sum(each.num_rows for each in batches)
    return ShardEntry(path.name, rows, len(content), hashlib.sha256(content).hexdigest())


def test_a_shard_reaches_the_disk_before_it_has_its_name(
    tmp_path: Path, batch: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fsync, rename = os.fsync, os.replace

    def recorded_fsync(handle: int) -> None:
        fsync(handle)
        seen.append(f"synchronised {os.path.basename(os.readlink(f'/proc/self/fd/{handle}'))}")

    def recorded_replace(source: Path, target: Path) -> None:
        seen.append(f"{source.name} becomes {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    folder = tmp_path / "store"
    folder.mkdir()
    entry = write_shard(folder, 3, batch)
    assert seen == [
        "synchronised .shard-00003.arrow.tmp",
        ".shard-00003.arrow.tmp becomes shard-00003.arrow",
        "synchronised store",
    ]
    content = (folder / "shard-00003.arrow").read_bytes()
    assert entry == ShardEntry("shard-00003.arrow", 6, len(content), hashlib.sha256(content).hexdigest())
    assert read_batch(folder, entry, COLUMNS).equals(batch)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=repr)
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_shard_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, batch: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    def raising(*_: object) -> None:
        raise error

    folder = tmp_path / "store"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, function, raising)
        with pytest.raises(type(error)):
            write_shard(folder, 0, batch)
    assert list(folder.iterdir()) == []


def test_rows_are_views_on_the_mapped_file(tmp_path: Path, batch: pa.RecordBatch) -> None:
    entry = put(tmp_path, batch)
    allocated, handles = pa.total_allocated_bytes(), len(os.listdir("/proc/self/fd"))
    shard = Shard(read_batch(tmp_path, entry, COLUMNS), COLUMNS)
    assert (pa.total_allocated_bytes(), len(os.listdir("/proc/self/fd"))) == (allocated, handles)
    for name, row in (("poster", 0), ("trailer", 3), ("trailer_mean", 3)):
        values = shard.features[name][row]
        assert values is not None
        assert not values.flags.writeable
        assert not values.flags.owndata
    # The file may go, or be replaced, and what is mapped stays.
    (tmp_path / entry.file).unlink()
    np.testing.assert_array_equal(shard.features["trailer"][1], np.array([[1, 2, 3, 4]]))


def test_a_file_that_is_absent_or_of_another_size_is_named(tmp_path: Path, batch: pa.RecordBatch) -> None:
    entry = put(tmp_path, batch)
    path = tmp_path / entry.file
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(DataError) as caught:
        read_batch(tmp_path, entry, COLUMNS)
    assert str(caught.value) == (
        f"The shard '{path}' has {len(content) - 8} bytes, and the manifest says {len(content)}. Extract it again, or "
        "bring back a copy; `mmadapters store verify` lists everything that is damaged."
    )
    path.unlink()
    with pytest.raises(DataError, match=r"of the manifest cannot be read: No such file or directory\."):
        read_batch(tmp_path, entry, COLUMNS)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "shard-00000.arrow")
    with pytest.raises(DataError, match="is no regular file"):
        read_batch(tmp_path, ShardEntry("shard-00000.arrow", 1, 0, ""), COLUMNS)


def test_a_shard_behind_a_link_is_read(tmp_path: Path, batch: pa.RecordBatch) -> None:
    """The Hugging Face Hub keeps downloads as links into its cache."""
    entry = put(tmp_path, batch)
    (tmp_path / entry.file).rename(tmp_path / "blob")
    (tmp_path / entry.file).symlink_to("blob")
    assert read_batch(tmp_path, entry, COLUMNS).equals(batch)


def test_a_stream_with_more_or_fewer_batches_is_refused(tmp_path: Path, batch: pa.RecordBatch) -> None:
    twice = put(tmp_path, batch, batch)
    with pytest.raises(DataError, match="does not have the 12 rows of the manifest"):
        read_batch(tmp_path, twice, COLUMNS)
    with pytest.raises(DataError, match="does not have the 6 rows of the manifest"):
        read_batch(tmp_path, replace(twice, rows=6), COLUMNS)
    empty = put(tmp_path, schema=batch.schema)
    with pytest.raises(DataError, match="is damaged"):
        read_batch(tmp_path, replace(empty, rows=6), COLUMNS)
    with pytest.raises(DataError, match="does not have the 5 rows of the manifest"):
        read_batch(tmp_path, replace(put(tmp_path, batch), rows=5), COLUMNS)


def test_only_the_manifest_s_schema_is_read(tmp_path: Path, batch: pa.RecordBatch) -> None:
    other = StoreColumn("poster", 3, False, "float32", "encoder-9")
    without_metadata = batch.replace_schema_metadata(None)
    more = batch.append_column("extra", pa.array(range(6)))
    for changed in (without_metadata, more):
        with pytest.raises(DataError, match="has other columns than the manifest"):
            read_batch(tmp_path, put(tmp_path, changed), COLUMNS)
    with pytest.raises(DataError, match="has other columns than the manifest"):
        read_batch(tmp_path, put(tmp_path, batch), [other, COLUMNS[1]])


def test_extension_types_are_refused(tmp_path: Path, batch: pa.RecordBatch) -> None:
    place = batch.schema.get_field_index("poster")
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [3]), batch.column(place))
    registered = batch.set_column(place, pa.field("poster", tensor.type), tensor)
    label = {"ARROW:extension:name": "somebody.unknown", "ARROW:extension:metadata": "x"}
    unknown = batch.set_column(0, batch.schema.field(0).with_metadata(label), batch.column(0))
    for changed in (registered, unknown):
        changed = changed.replace_schema_metadata(batch.schema.metadata)
        with pytest.raises(DataError, match="has other columns than the manifest"):
            read_batch(tmp_path, put(tmp_path, changed), COLUMNS)


def exchanged(folder: Path, batch: pa.RecordBatch, old: bytes, new: bytes) -> ShardEntry:
    """A shard with some bytes of one buffer exchanged, and an entry that fits it."""
    entry = put(folder, batch)
    path = folder / entry.file
    content = path.read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return entry


@pytest.mark.parametrize(
    ("column", "offsets"),
    [
        ("trailer", [0, 0, 1, 3, 6, 6, 10**12]),
        ("trailer", [0, 0, 1, -3, 6, 6, 7]),
        ("trailer", [0, 5, 1, 3, 6, 6, 7]),
        ("trailer", [-1, 0, 1, 3, 6, 6, 7]),
        ("poster_error", [0, 0, 0, 8, 8, 8, 10**9]),
        ("poster_error", [0, 0, 0, 9, 8, 8, 16]),
    ],
)
def test_offsets_that_leave_the_file_are_refused(
    tmp_path: Path, batch: pa.RecordBatch, column: str, offsets: list[int]
) -> None:
    buffer = batch.column(column).buffers()[1]
    dtype = np.int64 if column == "trailer" else np.int32
    entry = exchanged(tmp_path, batch, buffer.to_pybytes(), np.array(offsets, dtype).tobytes())
    with pytest.raises(DataError, match="is damaged"):
        read_batch(tmp_path, entry, COLUMNS)


def test_texts_that_are_no_utf8_are_refused(tmp_path: Path, batch: pa.RecordBatch) -> None:
    entry = exchanged(tmp_path, batch, b"tt0tt1", b"tt0\xfft1")
    with pytest.raises(DataError, match=r"is damaged: .*UTF8"):
        read_batch(tmp_path, entry, COLUMNS)


def test_nulls_are_there_for_missing_features_alone(tmp_path: Path, batch: pa.RecordBatch) -> None:
    def nulls_in(column: str) -> pa.RecordBatch:
        place = batch.schema.get_field_index(column)
        array = batch.column(place)
        if pa.types.is_string(array.type):
            replaced = pa.array([None] * 6, pa.string())
        else:
            numbers = pa.array([None] * 18, pa.float32())
            replaced = pa.Array.from_buffers(array.type, 6, [None], children=[numbers])
        return batch.set_column(place, batch.schema.field(place), replaced)

    for column in ("id", "trailer_status", "poster"):
        with pytest.raises(DataError, match="nulls where a store has none|is damaged"):
            read_batch(tmp_path, put(tmp_path, nulls_in(column)), COLUMNS)


def test_random_damage_is_an_error_or_other_numbers_but_never_a_crash(tmp_path: Path, batch: pa.RecordBatch) -> None:
    entry = put(tmp_path, batch)
    path = tmp_path / entry.file
    content = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, len(content), 3)] = random.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            shard = Shard(read_batch(tmp_path, entry, COLUMNS), COLUMNS)
        except DataError:
            refused += 1
            continue
        for row in range(6):
            for features in shard.features.values():
                values = features[row]
                assert values is None or values.shape[-1] in (3, 4)
            assert all(isinstance(texts[row], str) for texts in shard.texts.values())
    assert 100 < refused < 300


def test_a_store_of_missing_rows_and_one_of_empty_sequences(tmp_path: Path) -> None:
    for name, values in (("missing", None), ("empty", np.empty((0, 4), np.float16))):
        with StoreWriter(tmp_path / name, COLUMNS) as writer:
            for number in range(9):
                writer.add(f"tt{number}", {"trailer": values})
        store = FeatureStore.open(tmp_path / name)
        for number in range(9):
            assert store.read(number, "poster") is None
            assert store.read(number, "trailer_mean") is None
            found = store.read(number, "trailer")
            assert (found is None) if values is None else (found is not None and found.shape == (0, 4))
    assert POSTER.mean is None
    assert arrow_schema([POSTER]).names == ["id", "poster", "poster_status", "poster_error"]
