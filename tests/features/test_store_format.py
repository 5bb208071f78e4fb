"""Columns, schema and manifest: what is written, and that nothing else is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from store_helpers import COLUMNS, write

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store import FeatureStore, StoreColumn
from mmadapters.features.store_format import (
    MANIFEST,
    Manifest,
    ShardEntry,
    arrow_schema,
    check_columns,
    read_manifest,
    write_manifest,
)


def test_the_schema_is_plain_arrow() -> None:
    schema = arrow_schema(COLUMNS)
    step = pa.list_(pa.float16(), 4)
    assert {field.name: field.type for field in schema} == {
        "id": pa.string(),
        "poster": pa.list_(pa.float32(), 3),
        "poster_status": pa.string(),
        "poster_error": pa.string(),
        "trailer": pa.large_list(step),
        "trailer_mean": step,
        "trailer_status": pa.string(),
        "trailer_error": pa.string(),
    }
    described = json.loads(schema.metadata[b"mmadapters"])
    assert [(column["name"], column["fingerprint"]) for column in described["columns"]] == [
        ("poster", "encoder-1"),
        ("trailer", "encoder-2"),
    ]


def test_the_mean_is_a_vector_column_of_the_same_kind() -> None:
    assert COLUMNS[0].mean is None
    assert COLUMNS[1].mean == StoreColumn("trailer_mean", 4, False, "float16", "encoder-2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a b"}, "A modality was named 'a b'."),
        ({"feature_dim": 0}, "was given feature_dim=0."),
        ({"feature_dim": 2**31}, "Column 'poster' was given feature_dim=2147483648. A store takes at most 2147483647."),
        ({"dtype": "float61"}, "dtype='float61'. Accepted are 'float16', 'float32'. Did you mean 'float16'?"),
        ({"is_sequence": 1}, "was given is_sequence=1. Give True or False."),
        ({"fingerprint": None}, "was given fingerprint=None. A fingerprint is a text."),
        ({"pool_mean": True}, "was given pool_mean=True and is a vector, which has no steps to average."),
    ],
)
def test_a_column_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StoreColumn(**{"name": "poster", "feature_dim": 3, "is_sequence": False} | settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([], "A feature store was given no column."),
        ([StoreColumn("id", 3, False)], "need 'id' more than once"),
        ([COLUMNS[0], COLUMNS[0]], "need 'poster', 'poster_status', 'poster_error' more than once"),
        ([COLUMNS[1], StoreColumn("trailer_mean", 4, False)], "need 'trailer_mean' more than once"),
        ([COLUMNS[1], StoreColumn("trailer_error", 4, False)], "need 'trailer_error' more than once"),
    ],
)
def test_columns_have_names_of_their_own(columns: list[StoreColumn], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_columns(columns)
    assert message in str(caught.value)


def test_a_manifest_is_read_back_as_it_was(tmp_path: Path) -> None:
    manifest = Manifest(tuple(COLUMNS)).with_shard(ShardEntry("shard-00000.arrow", 5, 1000, "ab"))
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert (manifest.rows, manifest.bytes) == (5, 1000)
    content = json.loads((tmp_path / MANIFEST).read_text())
    assert content["schema"]["trailer"] == "list<float16[4]>"
    assert content["rows"] == 5
    assert set(content["versions"][0]) == {"mmadapters", "numpy", "pyarrow"}


def test_every_set_of_versions_that_wrote_is_named_once() -> None:
    old = {"mmadapters": "0.0.1", "numpy": "1", "pyarrow": "17"}
    manifest = Manifest(tuple(COLUMNS), versions=(old,)).with_shard(ShardEntry("shard-00000.arrow", 5, 1000, "ab"))
    manifest = manifest.with_shard(ShardEntry("shard-00001.arrow", 5, 1000, "ab"))
    assert len(manifest.versions) == 2
    assert manifest.versions[0] == old


def changed(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest | changes


def changed_shard(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest | {"shards": [manifest["shards"][0] | changes]}


def changed_column(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest | {"columns": [manifest["columns"][0] | changes, manifest["columns"][1]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: [manifest], "so it is no feature store's manifest"),
        (changed(format="parquet"), "so it is no feature store's manifest"),
        (changed(format_version=2), "It has format_version 2, and this version of mmadapters reads 1."),
        (changed(shards=None), "Its 'shards' is no list."),
        (changed(columns=[]), "was given no column"),
        (changed(rows=3), "Its rows, schema or keys contradict its columns and shards."),
        (changed(schema={}), "Its rows, schema or keys contradict"),
        (changed(pickle="x"), "Its rows, schema or keys contradict"),
        (changed(versions=[{"numpy": 1}]), "is no table of library versions"),
        (changed_shard(file="../../etc/passwd"), "which no writer writes"),
        (changed_shard(file="/etc/passwd"), "which no writer writes"),
        (changed_shard(file="shard-00001.arrow"), "which no writer writes"),
        (changed_shard(rows=0), "which no writer writes"),
        (changed_shard(rows=True), "is no ShardEntry: it needs 'file', 'rows', 'bytes', 'sha256', each of its type"),
        (changed_shard(bytes="1"), "is no ShardEntry"),
        (changed_shard(more=1), "is no ShardEntry"),
        (changed_column(feature_dim=2.0), "is no StoreColumn"),
        (changed_column(feature_dim=10**30), "A store takes at most"),
        (changed_column(dtype="object"), "Accepted are 'float16', 'float32'."),
        (changed_column(name="../poster"), "A modality was named '../poster'."),
        (changed_column(name="trailer"), "more than once"),
    ],
)
def test_a_manifest_that_no_writer_wrote_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    write(tmp_path, range(2))
    path = tmp_path / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DataError) as caught:
        FeatureStore.open(tmp_path)
    assert f"The manifest '{path}' cannot be used." in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}', b"null"])
def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match="cannot be used"):
        read_manifest(tmp_path)


def test_without_a_manifest_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no feature store: it has no manifest\.json\. Name the folder that"):
        read_manifest(tmp_path)
    with pytest.raises(DataError, match="is no feature store: there is no such folder"):
        read_manifest(tmp_path / "nowhere")
    os.mkfifo(tmp_path / MANIFEST)
    with pytest.raises(DataError, match=r"it has no manifest\.json"):
        read_manifest(tmp_path)
