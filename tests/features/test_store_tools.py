"""What is done with a whole store: damage is found, shards are joined, Parquet is written, contents are told."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from store_helpers import COLUMNS, POSTER, assert_holds, files, row, write

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store import (
    FeatureStore,
    StoreColumn,
    StoreReport,
    StoreWriter,
    compact,
    export_parquet,
    store_info,
    verify,
)
from mmadapters.features.store_format import MANIFEST, read_manifest


def exchange(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def raising(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_whole_store_has_no_problems(tmp_path: Path) -> None:
    write(tmp_path, range(5))
    size = sum(len(content) for name, content in files(tmp_path).items() if name != MANIFEST)
    assert verify(str(tmp_path)) == StoreReport(rows=5, shards=3, bytes=size)
    assert verify(tmp_path).ok


def test_every_damage_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, range(8))
    shards = [tmp_path / shard.file for shard in read_manifest(tmp_path).shards]
    # One bit of a number: nothing but the digest can tell.
    exchange(shards[0], np.float32(1.1).tobytes(), np.float32(1.1000001).tobytes())
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    shards[2].unlink()
    report = verify(tmp_path)
    assert not report.ok
    assert len(report.problems) == 3
    assert f"'{shards[0]}' has the SHA-256" in report.problems[0]
    assert f"'{shards[1]}' has 100 bytes" in report.problems[1]
    assert f"'{shards[2]}' of the manifest cannot be read: No such file" in report.problems[2]


def test_an_id_that_is_there_twice_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "a", range(2))
    write(tmp_path / "b", range(4))
    twice = files(tmp_path / "a")["shard-00000.arrow"]
    (tmp_path / "b" / "shard-00001.arrow").write_bytes(twice)
    manifest = json.loads((tmp_path / "b" / MANIFEST).read_text())
    manifest["shards"][1] = manifest["shards"][0] | {"file": "shard-00001.arrow"}
    (tmp_path / "b" / MANIFEST).write_text(json.dumps(manifest))
    assert verify(tmp_path / "b").problems == ("The id 'tt0' is there 2 times.", "The id 'tt1' is there 2 times.")
    with pytest.raises(DataError, match="The id 'tt0' is there twice"):
        compact(tmp_path / "b", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_without_a_manifest_there_is_nothing_to_verify(tmp_path: Path) -> None:
    for function in (verify, store_info):
        with pytest.raises(DataError, match="is no feature store"):
            function(tmp_path)


def test_shards_are_joined_within_the_limits(tmp_path: Path) -> None:
    write(tmp_path / "store", range(11))
    before = files(tmp_path / "store")
    sizes = [shard.bytes for shard in read_manifest(tmp_path / "store").shards]
    for name, limits, expected in (
        ("one", {}, [11]),
        ("rows", {"rows_per_shard": 5}, [4, 4, 3]),
        ("large", {"rows_per_shard": 1}, [2, 2, 2, 2, 2, 1]),
        ("bytes", {"bytes_per_shard": 2 * max(sizes)}, [4, 4, 3]),
    ):
        manifest = compact(tmp_path / "store", tmp_path / name, **limits)
        assert [shard.rows for shard in manifest.shards] == expected
        assert read_manifest(tmp_path / name) == manifest
        assert verify(tmp_path / name).ok
        assert_holds(FeatureStore.open(tmp_path / name), range(11))
        assert sorted(files(tmp_path / name)) == [MANIFEST, *[shard.file for shard in manifest.shards]]
    assert files(tmp_path / "store") == before


def test_means_are_copied_and_not_computed_anew(tmp_path: Path) -> None:
    write(tmp_path / "store", range(4))
    means = [FeatureStore.open(tmp_path / "store").read(i, "trailer_mean") for i in range(4)]
    shard = tmp_path / "store" / "shard-00000.arrow"
    changed = FeatureStore.open(tmp_path / "store").read(1, "trailer_mean")
    assert changed is not None
    # As if another version of numpy had rounded the mean of row 1, of one step, otherwise.
    content = shard.read_bytes()
    place = content.rindex(changed.tobytes())
    shard.write_bytes(content[:place] + np.float16([9, 9, 9, 9]).tobytes() + content[place + 8 :])
    manifest = json.loads((tmp_path / "store" / MANIFEST).read_text())
    manifest["shards"][0]["sha256"] = hashlib.sha256(shard.read_bytes()).hexdigest()
    (tmp_path / "store" / MANIFEST).write_text(json.dumps(manifest))
    compact(tmp_path / "store", tmp_path / "compact")
    store = FeatureStore.open(tmp_path / "compact")
    np.testing.assert_array_equal(store.read(1, "trailer_mean"), [9, 9, 9, 9])
    np.testing.assert_array_equal(store.read(1, "trailer"), [[1, 2, 3, 4]])
    assert means[0] is None


def test_several_stores_become_one_in_the_given_order(tmp_path: Path) -> None:
    write(tmp_path / "a", range(3))
    write(tmp_path / "b", range(3, 8))
    write(tmp_path / "c", [])
    manifest = compact([tmp_path / "b", tmp_path / "c", str(tmp_path / "a")], tmp_path / "all")
    assert manifest.rows == 8
    assert_holds(FeatureStore.open(tmp_path / "all"), [3, 4, 5, 6, 7, 0, 1, 2])
    write(tmp_path / "all", range(10))
    assert_holds(FeatureStore.open(tmp_path / "all"), [3, 4, 5, 6, 7, 0, 1, 2, 8, 9])


def test_versions_that_wrote_the_sources_are_kept(tmp_path: Path) -> None:
    old = {"mmadapters": "0.0.1", "numpy": "1", "pyarrow": "17"}
    for name in ("a", "b"):
        write(tmp_path / name, [ord(name)])
        manifest = json.loads((tmp_path / name / MANIFEST).read_text())
        manifest["versions"].insert(0, old)
        (tmp_path / name / MANIFEST).write_text(json.dumps(manifest))
    manifest = compact([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert len(manifest.versions) == 2
    assert manifest.versions[0] == old


def test_a_store_without_rows_is_compacted_to_one(tmp_path: Path) -> None:
    write(tmp_path / "store", [])
    assert compact(tmp_path / "store", tmp_path / "compact").rows == 0
    assert len(FeatureStore.open(tmp_path / "compact")) == 0


@pytest.mark.parametrize("target", ["store", "folder", "file", "link"])
def test_compacting_replaces_nothing(tmp_path: Path, target: str) -> None:
    write(tmp_path / "store", range(3))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="exists, and a store is compacted into a new folder"):
        compact(tmp_path / "store", tmp_path / target)
    assert_holds(FeatureStore.open(tmp_path / "store"), range(3))
    assert list((tmp_path / "folder").iterdir()) == []


def test_compacting_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", range(3))
    write(tmp_path / "b", range(3, 6), columns=[StoreColumn("poster", 3, False, "float32", "encoder-9"), COLUMNS[1]])
    write(tmp_path / "c", range(2, 6))
    with pytest.raises(ConfigurationError, match="have different columns or fingerprints"):
        compact([tmp_path / "a", tmp_path / "b"], tmp_path / "d")
    with pytest.raises(DataError, match="The id 'tt2' is there twice"):
        compact([tmp_path / "a", tmp_path / "c"], tmp_path / "d")
    with pytest.raises(ConfigurationError, match="No feature store was given to compact"):
        compact([], tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_damage_is_not_carried_into_a_compact_store_or_an_export(tmp_path: Path) -> None:
    write(tmp_path / "a", range(3))
    exchange(tmp_path / "a" / "shard-00000.arrow", np.float32(1.1).tobytes(), np.float32(1.1000001).tobytes())
    with pytest.raises(DataError, match="has the SHA-256"):
        compact(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DataError, match="has the SHA-256"):
        export_parquet(tmp_path / "a", tmp_path / "rows.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_compacting_onto_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", range(3))
    monkeypatch.setattr(os, "fsync", raising)
    with pytest.raises(OSError, match="No space left"):
        compact(tmp_path / "a", tmp_path / "b")
    with pytest.raises(OSError, match="No space left"):
        export_parquet(tmp_path / "a", tmp_path / "rows.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_parquet_has_the_same_rows(tmp_path: Path) -> None:
    write(tmp_path / "store", range(11), rows_per_shard=4)
    target = tmp_path / "new" / "rows.parquet"
    for _ in range(2):
        export_parquet(tmp_path / "store", target)
    assert [path.name for path in target.parent.iterdir()] == ["rows.parquet"]
    assert parquet.ParquetFile(target).num_row_groups == 3
    table = parquet.read_table(target)
    assert table.schema.field("trailer").type.value_type.value_type == pa.float16()
    found = table.to_pylist()
    assert [entry["id"] for entry in found] == [f"tt{number}" for number in range(11)]
    for number, entry in enumerate(found):
        _, values, status, errors = row(number)
        for name in ("poster", "trailer"):
            array = values[name]
            assert entry[name] == (None if array is None else array.tolist())
            assert entry[f"{name}_status"] == status[name]
            assert entry[f"{name}_error"] == errors.get(name, "")
        mean = FeatureStore.open(tmp_path / "store").read(number, "trailer_mean")
        assert entry["trailer_mean"] == (None if mean is None else mean.tolist())


def test_parquet_of_a_store_without_rows_has_its_columns(tmp_path: Path) -> None:
    write(tmp_path / "store", [])
    export_parquet(tmp_path / "store", tmp_path / "rows.parquet")
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.num_rows == 0
    assert table.column_names[:3] == ["id", "poster", "poster_status"]


def test_parquet_is_a_file(tmp_path: Path) -> None:
    write(tmp_path / "store", range(2))
    with pytest.raises(ConfigurationError, match=r"is a folder\. Name the Parquet file to write"):
        export_parquet(tmp_path / "store", tmp_path)


def test_info_tells_what_a_store_holds(tmp_path: Path) -> None:
    write(tmp_path, range(11), rows_per_shard=4)
    info = store_info(tmp_path)
    json.dumps(info)
    assert info["folder"] == str(tmp_path)
    assert (info["rows"], info["shards"]) == (11, 3)
    assert info["bytes"] == read_manifest(tmp_path).bytes
    assert info["columns"] == {
        "poster": {
            "kind": "vector",
            "feature_dim": 3,
            "dtype": "float32",
            "fingerprint": "encoder-1",
            "status": {"error": 3, "ok": 8},
        },
        "trailer": {
            "kind": "sequence",
            "feature_dim": 4,
            "dtype": "float16",
            "fingerprint": "encoder-2",
            "status": {"missing": 2, "ok": 9},
            "pool_mean": True,
            "steps": sum(number % 4 for number in range(11) if number % 5 != 4),
        },
    }


def test_info_of_a_store_without_rows(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, [POSTER]):
        pass
    info = store_info(tmp_path)
    assert (info["rows"], info["shards"], info["bytes"]) == (0, 0, 0)
    assert info["columns"]["poster"]["status"] == {}
