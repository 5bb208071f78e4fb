"""Streamed rows: fit and items of the rows in memory, every row once an epoch, the same order again."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data_helpers import tiny_tokenizer
from stream_rows import (
    NUMBER,
    SCHEMA,
    Rows,
    number_of,
    same_item,
    stream_rows,
    write_shards,
    write_text_shards,
)
from torch.utils.data import DataLoader

from mmadapters.data import stream_survey
from mmadapters.data.files import read_rows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, StoredFeatures, TabularColumns, VectorColumn
from mmadapters.data.stream_order import EpochOrder
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store import StoreColumn, StoreWriter

N = 2500
NUMBERED = DatasetSchema(text="title", label="genres", modalities=(NUMBER,))


def assert_close(first: Any, second: Any) -> None:
    """Two states of preprocessors are equal, numbers up to rounding."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        for name in first:
            assert_close(first[name], second[name])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_close(one, other)
    elif isinstance(first, float):
        assert first == pytest.approx(second, rel=1e-12)
    else:
        assert first == second


def in_source_order(data: StreamedDataset) -> list[dict[str, Any]]:
    return [part[row] for part in data.at(np.arange(len(data))) for row in range(len(part))]


def shards_of(frame: pd.DataFrame, folder: Path, kind: str) -> Any:
    if kind == "parquet":
        return write_shards(frame, folder, [700, 1500], row_group_size=300)
    if kind == "iterable":
        return Rows(frame)
    return write_text_shards(frame, folder, kind, [1100, 900])


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl", "iterable"])
def test_the_fit_and_the_items_are_those_of_the_rows_in_memory(tmp_path: Path, kind: str) -> None:
    frame = stream_rows(N)
    preprocessor, data = StreamedDataset.fit(shards_of(frame, tmp_path, kind), SCHEMA, tiny_tokenizer(), 10)
    expected = Preprocessor.fit(frame, SCHEMA, tiny_tokenizer(), 10)
    assert_close(preprocessor.to_dict(), expected.to_dict())
    assert preprocessor.to_dict()["tabular"]["facts"]["numeric"][0]["std"] > 1
    rows = preprocessor.transform(frame)
    assert len(data) == N
    assert data.lengths.tolist() == rows.lengths.tolist()
    assert data.label_frequencies.tolist() == rows.labels.sum(axis=0).tolist()
    assert data.modalities == rows.modalities
    streamed = in_source_order(data)
    assert len(streamed) == N
    assert all(same_item(item, rows[row]) for row, item in enumerate(streamed))
    assert sorted(map(repr, data)) == sorted(repr(rows[row]) for row in range(N))


def test_a_whole_file_and_its_stream_teach_the_same(tmp_path: Path) -> None:
    frame = stream_rows(N)
    file = write_text_shards(frame, tmp_path, "csv", []) / "part-0.csv"
    in_memory = Preprocessor.fit(read_rows(file), SCHEMA, tiny_tokenizer())
    streamed, _ = StreamedDataset.fit(file, SCHEMA, tiny_tokenizer())
    assert_close(streamed.to_dict(), in_memory.to_dict())


@pytest.mark.parametrize("problem", ["single", "regression", "indicators"])
def test_every_kind_of_label(tmp_path: Path, problem: str) -> None:
    frame = stream_rows(N)
    frame["stars"] = frame["row"] % 3
    frame["price"] = frame["budget"]
    frame["is_war"] = [int("war" in labels) for labels in frame["genres"]]
    frame["is_art"] = [int("art" in labels) for labels in frame["genres"]]
    label = {"single": "stars", "regression": "price", "indicators": ("is_war", "is_art")}[problem]
    schema = DatasetSchema("title", label)
    preprocessor, data = StreamedDataset.fit(write_shards(frame, tmp_path, [600]), schema, tiny_tokenizer())
    expected = Preprocessor.fit(frame, schema, tiny_tokenizer())
    assert preprocessor.to_dict() == expected.to_dict()
    labels = expected.transform(frame).labels
    np.testing.assert_array_equal(np.array([item["labels"] for item in in_source_order(data)]), labels)
    if problem == "single":
        assert data.label_frequencies.tolist() == np.bincount(labels).tolist()
    elif problem == "indicators":
        assert data.label_frequencies.tolist() == labels.sum(axis=0).tolist()
    else:
        assert data.label_frequencies is None
        of_known = StreamedDataset(data.source, preprocessor)
        for found in (data, of_known):
            assert found.label_mean == pytest.approx(labels.mean(dtype=np.float64))
            assert found.label_deviation == pytest.approx(labels.std(dtype=np.float64))


def test_a_preprocessor_that_is_fitted_reads_other_rows(tmp_path: Path) -> None:
    preprocessor = Preprocessor.fit(stream_rows(300, seed=1), SCHEMA, tiny_tokenizer())
    frame = stream_rows(N)
    data = StreamedDataset(write_shards(frame, tmp_path, [700]), preprocessor)
    rows = preprocessor.transform(frame)
    assert all(same_item(item, rows[row]) for row, item in enumerate(in_source_order(data)))
    assert data.label_frequencies.tolist() == rows.labels.sum(axis=0).tolist()
    frame["genres"] = [["new"] if row % 2 else ["war"] for row in range(N)]
    schema = replace(SCHEMA, label="genre", problem_type="single_label_classification")
    frame["genre"] = [labels[0] for labels in frame["genres"]]
    known = Preprocessor.fit(frame.assign(genre=["war", "art"] * (N // 2)), schema, tiny_tokenizer())
    counted = StreamedDataset(write_shards(frame, tmp_path / "other", []), known)
    assert counted.label_frequencies.tolist() == [0, N // 2]


def test_features_of_a_store_are_found_by_id_and_the_store_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = stream_rows(N)
    vectors = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    with StoreWriter(tmp_path / "store", [StoreColumn("trailer", 4, is_sequence=False)]) as writer:
        for row in np.random.default_rng(1).permutation(N):
            writer.add(str(row), {"trailer": None if row % 9 == 0 else vectors[row]})
    schema = DatasetSchema("title", "genres", (StoredFeatures("trailer", str(tmp_path / "store")),), id="row")
    from mmadapters.data import stored

    opened: list[Any] = []
    real = stored.FeatureStore.open
    monkeypatch.setattr(stored.FeatureStore, "open", lambda folder: opened.append(folder) or real(folder))
    preprocessor, data = StreamedDataset.fit(write_shards(frame, tmp_path / "rows", [600]), schema, tiny_tokenizer())
    list(data)
    list(data)
    assert len(opened) <= 3
    assert preprocessor.to_dict() == Preprocessor.fit(frame, schema, tiny_tokenizer()).to_dict()
    rows = preprocessor.transform(frame)
    assert all(same_item(item, rows[row]) for row, item in enumerate(in_source_order(data)))


def test_npy_files_are_found_from_the_folder_of_their_shard(tmp_path: Path) -> None:
    frames = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "poster.npy", np.full((2, 3), ord(name), dtype=np.float32))
        frame = stream_rows(20).assign(poster="poster.npy")
        frames.append(frame)
        write_shards(frame, tmp_path / name, [])
    schema = DatasetSchema("title", "genres", (VectorColumn("poster", "poster"),))
    _, data = StreamedDataset.fit([tmp_path / "a", tmp_path / "b" / "*.parquet"], schema, tiny_tokenizer())
    found = [item["modality_features"]["poster"][0, 0] for item in in_source_order(data)]
    assert found == [ord("a")] * 20 + [ord("b")] * 20


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> StreamedDataset:
    folder = write_shards(stream_rows(N), tmp_path_factory.mktemp("numbered"), [700, 1500], row_group_size=300)
    return StreamedDataset.fit(folder, NUMBERED, tiny_tokenizer(), shuffle_buffer=400, seed=3)[1]


def numbers(data: StreamedDataset, epoch: int = 0) -> list[int]:
    data.set_epoch(epoch)
    return [number_of(item) for item in data]


def test_every_row_is_in_an_epoch_once_in_an_order_of_its_own(numbered: StreamedDataset) -> None:
    first, again, second = (numbers(numbered, epoch) for epoch in (0, 0, 1))
    assert sorted(first) == sorted(second) == list(range(N))
    assert first == again
    assert first != second
    other = StreamedDataset(numbered.source, numbered.preprocessor, shuffle_buffer=400, seed=4, found=numbered.survey)
    assert numbers(other) != first
    # Rows of pieces that are far from one another meet, and within a pool nothing is left of the order of the file.
    order = EpochOrder(numbered.survey.rows_of_pieces, 400, 3, 0)
    sizes = [order.size(pool) for pool in range(len(order))]
    pools = np.split(np.array(first), np.cumsum(sizes)[:-1])
    assert all(sorted(pool) == sorted(order.rows(place)) for place, pool in enumerate(pools))
    assert any(np.ptp(pool) > 600 for pool in pools)
    assert all(abs(np.corrcoef(np.arange(len(pool)), pool)[0, 1]) < 0.2 for pool in pools if len(pool) > 100)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_the_rows_and_see_the_epoch(numbered: StreamedDataset, workers: int) -> None:
    loader = DataLoader(numbered, batch_size=None, num_workers=workers, collate_fn=number_of, persistent_workers=True)
    orders = []
    for epoch in (0, 1):
        numbered.set_epoch(epoch)
        orders.append(list(loader))
    assert [sorted(order) for order in orders] == [list(range(N))] * 2
    assert orders[0] != orders[1]


def test_rows_of_an_object_are_not_read_in_workers() -> None:
    _, data = StreamedDataset.fit(Rows(stream_rows(30)), NUMBERED, tiny_tokenizer())
    assert sorted(numbers(data)) == list(range(30))
    with pytest.raises(ConfigurationError, match="dataloader_num_workers=1 was given.*Set it to 0, or write"):
        list(DataLoader(data, batch_size=None, num_workers=1))


def test_a_huggingface_stream_and_a_shuffled_one() -> None:
    datasets = pytest.importorskip("datasets")
    expected = Preprocessor.fit(stream_rows(300), SCHEMA, tiny_tokenizer()).to_dict()
    stream = datasets.Dataset.from_pandas(stream_rows(300)).to_iterable_dataset(num_shards=3)
    preprocessor, data = StreamedDataset.fit(stream, SCHEMA, tiny_tokenizer())
    assert_close(preprocessor.to_dict(), expected)
    rows = preprocessor.transform(stream_rows(300))
    assert all(same_item(item, rows[row]) for row, item in enumerate(in_source_order(data)))
    shuffled = stream.shuffle(seed=1, buffer_size=50).filter(lambda row: row["row"] % 2 == 0)
    numbered = DatasetSchema("title", "genres", (NUMBER,))
    _, half = StreamedDataset.fit(shuffled, numbered, tiny_tokenizer())
    assert len(half) == 150
    assert sorted(numbers(half)) == sorted(numbers(half, 1)) == list(range(0, 300, 2))
    assert [number_of(item) for item in in_source_order(half)] != list(range(0, 300, 2))


def test_chosen_rows_are_read_as_they_are_in_memory(numbered: StreamedDataset) -> None:
    rows = np.sort(np.random.default_rng(0).choice(N, 60, replace=False))
    parts = list(numbered.at(rows))
    assert len(parts) == 1
    assert [number_of(parts[0][place]) for place in range(60)] == rows.tolist()
    assert [number_of(item) for item in numbered.first_items(5)] == [0, 1, 2, 3, 4]
    assert len(numbered.first_items(N + 1)) == N


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    frame = stream_rows(400)

    def digest(frame: pd.DataFrame, name: str, sizes: list[int] = [300], **options: Any) -> str:  # noqa: B006
        rows = write_shards(frame, tmp_path / name, sizes)
        return StreamedDataset.fit(rows, SCHEMA, tiny_tokenizer(), **options)[1].digest()

    first = digest(frame, "a")
    assert digest(frame, "b") == first
    assert digest(frame.assign(unread=1), "c") == first
    changed = {
        "title": frame["title"].where(frame["row"] != 399, "not"),
        "year": frame["year"].where(frame["row"] != 399, 3.0),
        "country": frame["country"].where(frame["row"] != 398, "se"),
        "poster": [vector if row != 398 else vector + 1 for row, vector in enumerate(frame["poster"])],
        "genres": [labels if row != 398 else ["art", "war", "drama"] for row, labels in enumerate(frame["genres"])],
    }
    digests = [digest(frame.assign(**{name: cells}), f"changed-{name}") for name, cells in changed.items()]
    digests += [digest(frame, "pieces", [200]), digest(frame, "buffer", shuffle_buffer=7)]
    assert len({first, *digests}) == 8


def test_rows_that_change_are_noticed(tmp_path: Path) -> None:
    rows = Rows(stream_rows(50))
    _, data = StreamedDataset.fit(rows, NUMBERED, tiny_tokenizer())
    rows.given[7]["title"] += " not a good film"
    with pytest.raises(DataError, match="'the Rows' does not hold the rows that were counted at the start"):
        list(data)
    file = write_text_shards(stream_rows(50), tmp_path, "jsonl", []) / "part-0.jsonl"
    _, data = StreamedDataset.fit(file, NUMBERED, tiny_tokenizer())
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="part-0.jsonl' does not hold the rows that were counted"):
        list(data)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("year", "soon", "Column 'year' holds 'soon' in row 2300"),
        ("poster", [1.0, 2.0], "Modality 'poster' has 2 features in row 2300 and 3 in the training rows"),
        ("genres", None, "Label column 'genres' is missing in row 2300"),
        ("title", ["a"], "Text column 'title' holds a list in row 2300"),
    ],
)
def test_what_is_wrong_far_behind_is_found_before_a_training(tmp_path: Path, column: str, cell: Any, message) -> None:
    frame = stream_rows(N)
    frame[column] = frame[column].astype(object)
    frame.at[2300, column] = cell
    file = write_text_shards(frame, tmp_path, "jsonl", []) / "part-0.jsonl"
    with pytest.raises(DataError, match=rf"In '{file}': {message}"):
        StreamedDataset.fit(file, SCHEMA, tiny_tokenizer())


def test_columns_that_no_row_has_are_named(tmp_path: Path) -> None:
    schema = replace(SCHEMA, text="titel")
    with pytest.raises(DataError, match="have no column 'titel'.*Did you mean 'title'"):
        StreamedDataset.fit(Rows(stream_rows(5)), schema, tiny_tokenizer())
    schema = DatasetSchema("title", "genres", (TabularColumns("facts", ["yaer"]),))
    with pytest.raises(DataError, match="In 'the Rows': The rows have no column 'yaer'.*Did you mean 'year'"):
        StreamedDataset.fit(Rows(stream_rows(5)), schema, tiny_tokenizer())


def test_no_rows_and_a_modality_without_any_are_refused(tmp_path: Path) -> None:
    write_shards(stream_rows(5).iloc[:0], tmp_path / "none", [])
    with pytest.raises(DataError, match="There are no rows. Give shards"):
        StreamedDataset.fit(tmp_path / "none", SCHEMA, tiny_tokenizer())
    frame = stream_rows(20).assign(poster=None)
    with pytest.raises(DataError, match="Modality 'poster' is missing in every training row"):
        StreamedDataset.fit(write_shards(frame, tmp_path / "empty", []), SCHEMA, tiny_tokenizer())
    with pytest.raises(ConfigurationError, match="shuffle_buffer=0 cannot be used"):
        StreamedDataset.fit(Rows(frame), SCHEMA, tiny_tokenizer(), shuffle_buffer=0)


def test_missing_texts_are_told_once_and_progress_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_survey, "REPORTED_ROWS", 1000)
    frame = stream_rows(N)
    frame["title"] = [None if row % 100 == 0 else title for row, title in enumerate(frame["title"])]
    rows = write_shards(frame, tmp_path, [], row_group_size=1250)
    told: list[str] = []
    with caplog.at_level(logging.WARNING):
        _, data = StreamedDataset.fit(rows, NUMBERED, tiny_tokenizer(), report=told.append)
        list(data)
    assert [record.getMessage() for record in caplog.records] == ["Text column 'title' is empty in 25 of 2500 rows."]
    assert told == ["  1024 of 2500 rows read", "  2274 of 2500 rows read"]


def test_the_state_of_the_preprocessor_goes_through_json(tmp_path: Path) -> None:
    preprocessor, data = StreamedDataset.fit(Rows(stream_rows(200)), SCHEMA, tiny_tokenizer())
    again = Preprocessor.from_dict(json.loads(json.dumps(preprocessor.to_dict())), tiny_tokenizer())
    rows = again.transform(stream_rows(200))
    assert all(same_item(item, rows[row]) for row, item in enumerate(in_source_order(data)))
