"""Writing: what is committed and when, what is refused, and that a store which is opened again goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_helpers import COLUMNS, POSTER, TRAILER, assert_holds, files, row, write

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store import FeatureStore, StoreColumn, StoreWriter, verify
from mmadapters.features.store_format import MANIFEST, read_manifest


def rows_of_shards(folder: Path) -> list[int]:
    return [shard.rows for shard in read_manifest(folder).shards]


def test_rows_are_visible_when_they_are_committed(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, COLUMNS, rows_per_shard=3) as writer:
        assert len(FeatureStore.open(tmp_path)) == 0
        for number in range(2):
            writer.add(*row(number))
        assert len(FeatureStore.open(tmp_path)) == len(writer) == 0
        assert writer.done_ids() == set()
        writer.add(*row(2))
        assert len(FeatureStore.open(tmp_path)) == len(writer) == 3
        assert writer.done_ids() == {"tt0", "tt1", "tt2"}
        writer.add(*row(3))
        writer.commit()
        writer.commit()
        assert len(FeatureStore.open(tmp_path)) == 4
        writer.add(*row(4))
    assert rows_of_shards(tmp_path) == [3, 1, 1]
    assert_holds(FeatureStore.open(tmp_path), range(5))


def test_a_shard_is_full_when_its_features_have_so_many_bytes(tmp_path: Path) -> None:
    column = StoreColumn("poster", 100, is_sequence=False, dtype="float32")
    with StoreWriter(tmp_path, [column], bytes_per_shard=1000) as writer:
        for number in range(7):
            writer.add(str(number), {"poster": np.ones(100)})
    assert rows_of_shards(tmp_path) == [3, 3, 1]


def test_a_mean_counts_among_the_bytes_of_a_shard(tmp_path: Path) -> None:
    for pool_mean, expected in ((False, [2, 1]), (True, [1, 1, 1])):
        folder = tmp_path / str(pool_mean)
        with StoreWriter(folder, [StoreColumn("s", 10, True, pool_mean=pool_mean)], bytes_per_shard=40) as writer:
            for number in range(3):
                writer.add(str(number), {"s": np.ones((1, 10))})
        assert rows_of_shards(folder) == expected


def test_a_store_goes_on_where_it_was_left(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    before = files(tmp_path)
    write(tmp_path, range(8))
    assert rows_of_shards(tmp_path) == [2, 1, 2, 2, 1]
    assert_holds(FeatureStore.open(tmp_path), range(8))
    after = files(tmp_path)
    assert all(after[name] == content for name, content in before.items() if name != MANIFEST)
    write(tmp_path, range(8))
    assert files(tmp_path) == after


def test_the_same_rows_give_the_same_bytes_anywhere(tmp_path: Path) -> None:
    write(tmp_path / "a", range(7))
    write(tmp_path / "b" / "c", range(7))
    program = (
        "import sys; from pathlib import Path; from store_helpers import write; write(Path(sys.argv[1]), range(7))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "d")], check=True, cwd=Path(__file__).parent)
    assert files(tmp_path / "a") == files(tmp_path / "b" / "c") == files(tmp_path / "d")


def test_the_manifest_is_replaced_after_the_shard_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, rename = os.fsync, os.replace

    def recorded_fsync(handle: int) -> None:
        fsync(handle)
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        seen.append(f"synchronised {'.manifest' if name.startswith('.manifest') else name}")

    def recorded_replace(source: Any, target: Any) -> None:
        seen.append(f"{Path(target).name} takes its place")
        rename(source, target)

    folder = tmp_path / "store"
    with StoreWriter(folder, COLUMNS) as writer:
        writer.add(*row(0))
        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "replace", recorded_replace)
        writer.commit()
        assert seen == [
            "synchronised .shard-00000.arrow.tmp",
            "shard-00000.arrow takes its place",
            "synchronised store",
            "synchronised .manifest",
            "manifest.json takes its place",
            "synchronised store",
        ]


def test_a_block_that_raises_discards_what_was_not_committed(tmp_path: Path) -> None:
    def interrupted() -> None:
        with StoreWriter(tmp_path, COLUMNS, rows_per_shard=2) as writer:
            for number in range(3):
                writer.add(*row(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert rows_of_shards(tmp_path) == [2]
    write(tmp_path, range(7))
    write(tmp_path.with_name("whole"), range(7))
    assert files(tmp_path) == files(tmp_path.with_name("whole"))


@pytest.mark.parametrize("failing", range(6))
def test_a_full_disk_closes_the_writer_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    calls: list[str] = []

    def fails_once(function: Any) -> Any:
        def stand_in(*arguments: Any) -> None:
            calls.append(function.__name__)
            if len(calls) == failing + 1:
                raise OSError(28, "No space left on device")
            function(*arguments)

        return stand_in

    folder, whole = tmp_path / "store", tmp_path / "whole"
    writer = StoreWriter(folder, COLUMNS, rows_per_shard=2)
    for number in range(3):
        writer.add(*row(number))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_once(os.fsync))
        patch.setattr(os, "replace", fails_once(os.replace))
        with pytest.raises(OSError, match="No space left on device"):
            writer.add(*row(3))
    assert len(calls) == failing + 1
    with pytest.raises(DataError, match=r"is closed, by close\(\) or by a commit that failed"):
        writer.add(*row(4))
    with pytest.raises(DataError, match="is closed"):
        writer.__exit__(None, None, None)
    assert verify(folder).ok
    assert_holds(FeatureStore.open(folder), range(4 if failing == 5 else 2))
    write(folder, range(7))
    write(whole, range(7))
    assert files(folder) == files(whole)


def test_closing_lets_another_writer_in(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, COLUMNS)
    writer.add(*row(0))
    with pytest.raises(DataError, match="Another writer has the feature store"):
        StoreWriter(tmp_path, COLUMNS)
    writer.close()
    writer.close()
    assert writer.done_ids() == set()
    with StoreWriter(tmp_path, COLUMNS) as other:
        other.add(*row(0))
        other.commit()
        other.close()
    assert_holds(FeatureStore.open(tmp_path), [0])


def test_a_writer_that_cannot_open_the_store_leaves_it_unlocked(tmp_path: Path) -> None:
    write(tmp_path, range(2))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="has other columns"):
            StoreWriter(tmp_path, [POSTER])


def test_every_id_is_there_once(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, COLUMNS, rows_per_shard=2) as writer:
        for number in range(3):
            writer.add(*row(number))
        for id in ("tt0", "tt2"):
            with pytest.raises(DataError) as caught:
                writer.add(id, {})
            assert str(caught.value) == (
                f"The id '{id}' is in the store already. Every id may be added once; see done_ids()."
            )
    with StoreWriter(tmp_path, COLUMNS) as writer, pytest.raises(DataError, match="The id 'tt1' is in the store"):
        writer.add("tt1", {})
    assert_holds(FeatureStore.open(tmp_path), range(3))


@pytest.mark.parametrize("id", ["", None, 7, "\ud800", b"tt1"])
def test_an_id_is_a_text(tmp_path: Path, id: Any) -> None:
    with (
        StoreWriter(tmp_path, COLUMNS) as writer,
        pytest.raises(DataError, match="A row was given the id"),
    ):
        writer.add(id, {})


@pytest.mark.parametrize("id", ["a b", "../etc/passwd", "\x00", "é🎬", "x" * 10_000, "=1+1"])
def test_any_text_is_an_id_and_none_is_a_file_name(tmp_path: Path, id: str) -> None:
    with StoreWriter(tmp_path, COLUMNS) as writer:
        writer.add(id, {})
    store = FeatureStore.open(tmp_path)
    assert store.ids == (id,)
    assert store.index_of(id) == 0
    assert sorted(files(tmp_path)) == [MANIFEST, "shard-00000.arrow"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"poster": np.ones(4)}, "Row 'tt9' has the shape (4,) for column 'poster', which takes (3,)."),
        ({"poster": np.ones((1, 3))}, "Row 'tt9' has the shape (1, 3) for column 'poster', which takes (3,)."),
        ({"trailer": np.ones(4)}, "Row 'tt9' has the shape (4,) for column 'trailer', which takes (T, 4)."),
        ({"trailer": np.ones((0,))}, "Row 'tt9' has the shape (0,) for column 'trailer', which takes (T, 4)."),
        ({"poster": np.ones(())}, "Row 'tt9' has the shape () for column 'poster', which takes (3,)."),
        ({"poster": [1.0, 2.0, 3.0]}, "Row 'tt9' has a list for column 'poster'. Give a numpy array of floating"),
        ({"poster": np.array([1, 2, 3])}, "Row 'tt9' has an array of int64 for column 'poster'."),
        ({"poster": np.array([None] * 3)}, "Row 'tt9' has an array of object for column 'poster'."),
        ({"trailer": np.full((2, 4), 1e6)}, "has the number 1e+06 for column 'trailer', which float16 cannot hold"),
        ({"poster": np.full(3, -1e300)}, "has the number -1e+300 for column 'poster', which float32 cannot hold"),
        ({"postr": np.ones(3)}, "has the columns 'poster', 'trailer'. Did you mean 'poster'?"),
    ],
)
def test_features_that_do_not_fit_are_refused_and_the_writer_goes_on(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with StoreWriter(tmp_path, COLUMNS) as writer:
        writer.add(*row(0))
        with pytest.raises(DataError) as caught:
            writer.add("tt9", {"trailer": np.ones((1, 4)), **values})
        assert message in str(caught.value)
        writer.add(*row(1))
    assert_holds(FeatureStore.open(tmp_path), range(2))


@pytest.mark.parametrize(
    ("status", "errors", "message"),
    [
        ({"postr": "ok"}, {}, "Row 'tt9' has something for column 'postr'"),
        ({}, {"id": "x"}, "Row 'tt9' has something for column 'id'"),
        ({"poster": 3}, {}, "Row 'tt9' has 3 as status or error of column 'poster'. Give a text."),
        ({}, {"trailer": None}, "Row 'tt9' has None as status or error of column 'trailer'."),
    ],
)
def test_status_and_error_are_texts_by_column(
    tmp_path: Path, status: dict[str, Any], errors: dict[str, Any], message: str
) -> None:
    with StoreWriter(tmp_path, COLUMNS) as writer, pytest.raises(DataError) as caught:
        writer.add("tt9", {}, status, errors)
    assert message in str(caught.value)


def test_a_status_may_be_left_out_or_be_a_member_of_an_enumeration(tmp_path: Path) -> None:
    class Status(str, Enum):
        DEGRADED = "degraded"

    with StoreWriter(tmp_path, COLUMNS) as writer:
        writer.add("a", {"poster": np.ones(3), "trailer": None})
        writer.add("b", {"poster": np.ones(3)}, {"poster": Status.DEGRADED}, {"poster": "half of \udcff.png\nis gone"})
    store = FeatureStore.open(tmp_path)
    assert [store.status(0, name) for name in ("poster", "trailer", "trailer_mean")] == ["ok", "missing", "missing"]
    assert store.status(1, "poster") == "degraded"
    assert store.error(1, "poster") == "half of \\udcff.png\nis gone"


def test_features_are_copied_and_converted(tmp_path: Path) -> None:
    poster = np.arange(6, dtype=np.float64)[::2]
    trailer = np.asfortranarray(np.arange(8, dtype=np.float32).reshape(2, 4))
    expected = poster.copy(), trailer.copy()
    with StoreWriter(tmp_path, COLUMNS) as writer:
        writer.add("a", {"poster": poster, "trailer": trailer})
        poster[:] = trailer[:] = 99
    store = FeatureStore.open(tmp_path)
    for name, values in zip(("poster", "trailer"), expected, strict=True):
        found = store.read(0, name)
        assert found is not None
        assert found.dtype == store.column(name).dtype
        np.testing.assert_array_equal(found, values)


def test_infinities_and_nan_are_stored_as_they_are(tmp_path: Path) -> None:
    values = np.array([[np.inf, -np.inf, np.nan, 65504.0], [1, -np.inf, 0, 65504.0]], np.float32)
    with StoreWriter(tmp_path, COLUMNS) as writer:
        writer.add("a", {"trailer": values})
    store = FeatureStore.open(tmp_path)
    np.testing.assert_array_equal(store.read(0, "trailer"), values)
    np.testing.assert_array_equal(store.read(0, "trailer_mean"), [np.inf, -np.inf, np.nan, 65504.0])


def test_the_mean_is_that_of_what_is_stored(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    steps = random.normal(size=(200, 4)).astype(np.float32) * 100
    with StoreWriter(tmp_path, COLUMNS) as writer:
        writer.add("a", {"trailer": steps})
        writer.add("b", {"trailer": steps[:0]})
    store = FeatureStore.open(tmp_path)
    expected = steps.astype(np.float16).astype(np.float64).mean(axis=0).astype(np.float16)
    np.testing.assert_array_equal(store.read(0, "trailer_mean"), expected)
    assert store.read(1, "trailer_mean") is None
    assert store.status(1, "trailer_mean") == "ok"


OTHERS = {
    "another fingerprint": [StoreColumn("poster", 3, False, "float32", "encoder-9"), TRAILER],
    "another width": [StoreColumn("poster", 5, False, "float32", "encoder-1"), TRAILER],
    "another dtype": [StoreColumn("poster", 3, False, "float16", "encoder-1"), TRAILER],
    "no mean": [POSTER, StoreColumn("trailer", 4, True, fingerprint="encoder-2")],
    "another order": [TRAILER, POSTER],
    "fewer columns": [TRAILER],
}


@pytest.mark.parametrize("columns", OTHERS.values(), ids=OTHERS)
def test_other_columns_are_refused_unless_they_overwrite(tmp_path: Path, columns: list[StoreColumn]) -> None:
    write(tmp_path / "store", range(5), columns=COLUMNS)
    before = files(tmp_path / "store")
    with pytest.raises(ConfigurationError, match=r"has other columns: .*discard its 5 rows\."):
        StoreWriter(tmp_path / "store", columns)
    assert files(tmp_path / "store") == before
    for folder in ("store", "fresh"):
        with StoreWriter(tmp_path / folder, columns, overwrite=True) as writer:
            assert len(writer.done_ids()) == 0
            writer.add("a", {"trailer": np.ones((2, 4))})
    assert files(tmp_path / "store") == files(tmp_path / "fresh")


def test_the_refusal_says_what_differs(tmp_path: Path) -> None:
    write(tmp_path, range(5))
    with pytest.raises(ConfigurationError) as caught:
        StoreWriter(tmp_path, OTHERS["another fingerprint"])
    assert str(caught.value) == (
        f"The feature store '{tmp_path}' has other columns: 'poster' has fingerprint='encoder-1', given was "
        "'encoder-9'. Features of different kinds do not mix: name another folder, or give overwrite=True to discard "
        "its 5 rows."
    )
    with pytest.raises(ConfigurationError, match="it has 'poster', 'trailer', given were 'trailer'"):
        StoreWriter(tmp_path, OTHERS["fewer columns"])


def test_overwriting_with_the_same_columns_goes_on(tmp_path: Path) -> None:
    write(tmp_path, range(3), overwrite=True)
    write(tmp_path, range(5), overwrite=True)
    assert_holds(FeatureStore.open(tmp_path), range(5))


def test_leftovers_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    write(tmp_path, range(2))
    left = ["shard-00001.arrow", ".shard-00001.arrow.tmp", ".manifest.json.abc.tmp"]
    others = ["README.md", "shard-1.arrow.bak", "notes.tmp", "part-00000-of-00002"]
    for name in left + others:
        (tmp_path / name).write_text("x")
    assert_holds(FeatureStore.open(tmp_path), range(2))
    assert verify(tmp_path).ok
    write(tmp_path, range(2))
    assert sorted(files(tmp_path)) == sorted([MANIFEST, "shard-00000.arrow", *others])


def test_shards_without_a_manifest_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, range(2))
    (tmp_path / MANIFEST).unlink()
    before = files(tmp_path)
    with pytest.raises(DataError, match=r"holds shard-00000\.arrow and no manifest\.json\. Bring the manifest back"):
        StoreWriter(tmp_path, COLUMNS, overwrite=True)
    assert files(tmp_path) == before


def test_a_damaged_store_is_not_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path, range(5))
    shard = tmp_path / "shard-00001.arrow"
    content = shard.read_bytes()
    shard.write_bytes(content[:-8])
    with pytest.raises(DataError, match="bytes, and the manifest says"):
        StoreWriter(tmp_path, COLUMNS)
    shard.write_bytes(content.replace(b"tt2tt3", b"tt0tt1"))
    with pytest.raises(DataError, match="has an id more than once"):
        StoreWriter(tmp_path, COLUMNS)
    manifest = tmp_path / MANIFEST
    manifest.write_text(json.dumps({"format": "other"}))
    with pytest.raises(DataError, match="cannot be used"):
        StoreWriter(tmp_path, COLUMNS, overwrite=True)


@pytest.mark.parametrize("setting", ["rows_per_shard", "bytes_per_shard"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "3"])
def test_a_limit_is_a_whole_number(tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{setting}={value!r} cannot be used\. Give a whole number"):
        StoreWriter(tmp_path, COLUMNS, **{setting: value})
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("precious")
    with pytest.raises(ConfigurationError, match="is a file, and a feature store is a folder"):
        StoreWriter(tmp_path / "note", COLUMNS)
    assert (tmp_path / "note").read_text() == "precious"
