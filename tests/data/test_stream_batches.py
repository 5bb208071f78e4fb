"""Batches of streamed rows: every row once over all processes, as many in each epoch, of similar length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import tiny_tokenizer
from stream_rows import NUMBER, Rows, number_of, stream_rows, write_shards
from torch.utils.data import DataLoader

from mmadapters.data.batching import TrainingBatches
from mmadapters.data.schema import DatasetSchema
from mmadapters.data.stream_batches import StreamedBatches
from mmadapters.data.stream_order import EpochOrder
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError

N = 1300
SCHEMA = DatasetSchema(text="title", label="genres", modalities=(NUMBER,))
BUDGET = 60


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(stream_rows(N, longest=14), folder, [150, 90, 210, 300, 170, 130])


@pytest.fixture(scope="module")
def rows(shards: Path) -> StreamedDataset:
    return StreamedDataset.fit(shards, SCHEMA, tiny_tokenizer(), shuffle_buffer=200)[1]


def epoch_of(batches: StreamedBatches, epoch: int = 0, skipped: int = 0) -> list[list[int]]:
    batches.set_epoch(epoch)
    batches.skipped = skipped
    return [[number_of(item) for item in batch] for batch in batches]


OPTIONS = [{}, {"by_length": False}, {"max_tokens": BUDGET, "epochs": 3}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_row_is_in_one_batch_of_one_process(
    rows: StreamedDataset, options: dict[str, Any], processes: int
) -> None:
    parts = [StreamedBatches(rows, 8, 5, processes=processes, process=place, **options) for place in range(processes)]
    orders = []
    for epoch in (0, 1, 2):
        batches = [epoch_of(part, epoch) for part in parts]
        assert [len(of_process) for of_process in batches] == [len(parts[0])] * processes
        assert sorted(row for of_process in batches for batch in of_process for row in batch) == list(range(N))
        assert all(batch for of_process in batches for batch in of_process)
        if not options.get("max_tokens"):
            assert len(parts[0]) == -(-N // (8 * processes))
            assert sum(len(batch) < 8 for batch in batches[0]) <= 1
        orders.append(batches[0])
    assert orders[0] != orders[1] != orders[2]
    assert epoch_of(parts[0], 1) == orders[1]
    assert epoch_of(StreamedBatches(rows, 8, 6, processes=processes, **options)) != orders[0]


def test_two_processes_share_the_batches_of_one(rows: StreamedDataset) -> None:
    one = epoch_of(StreamedBatches(rows, 16, 5))
    two = [epoch_of(StreamedBatches(rows, 8, 5, processes=2, process=process)) for process in (0, 1)]
    assert [sorted(batch) for batch in one] == [sorted(sum(batches, [])) for batches in zip(*two, strict=True)]


def test_a_pool_is_cut_as_a_data_set_in_memory(rows: StreamedDataset) -> None:
    order = EpochOrder(rows.survey.rows_of_pieces, 200, 5, 0, unit=8)
    expected = []
    for pool in range(len(order)):
        in_memory = TrainingBatches(rows.lengths[order.rows(pool)], 8, order.seed_of(pool))
        expected += [order.rows(pool)[batch].tolist() for batch in in_memory]
    assert epoch_of(StreamedBatches(rows, 8, 5)) == expected


def test_rows_of_one_piece_meet_others_in_each_epoch() -> None:
    orders = [EpochOrder(np.array([1000]), 96, 5, epoch, unit=8) for epoch in range(4)]
    pools = [[order.rows(pool) for pool in range(len(order))] for order in orders]
    for of_epoch in pools:
        np.testing.assert_array_equal(np.concatenate(of_epoch), np.arange(1000))
        assert all(len(pool) % 8 == 0 for pool in of_epoch[:-1])
        assert all(len(pool) == 96 for pool in of_epoch[1:-1])
        assert 8 <= len(of_epoch[0]) <= 96
        assert 8 <= len(of_epoch[-1]) < 96 + 8
    assert len({len(of_epoch[0]) for of_epoch in pools}) > 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("skipped", [0, 90])
def test_batches_do_not_depend_on_the_workers(rows: StreamedDataset, options: dict[str, Any], skipped: int) -> None:
    batches = StreamedBatches(rows, 8, 5, **options)
    expected = [epoch_of(batches, epoch) for epoch in (0, 1)]
    for workers in (1, 3):
        loader = DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=True, collate_fn=_numbers)
        for epoch in (1, 0):
            batches.set_epoch(epoch)
            batches.skipped = skipped
            assert list(loader) == [[]] * skipped + expected[epoch][skipped:]
        assert len(loader) == len(expected[0])


def _numbers(batch: list[dict[str, Any]]) -> list[int]:
    return [number_of(item) for item in batch]


def padded(rows: StreamedDataset, batches: list[list[int]]) -> float:
    lengths = rows.lengths
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches) / int(lengths.sum(dtype=int))


def test_rows_of_a_batch_have_similar_lengths(rows: StreamedDataset) -> None:
    assert padded(rows, epoch_of(StreamedBatches(rows, 8, 5))) < 1.1
    assert padded(rows, epoch_of(StreamedBatches(rows, 8, 5, by_length=False))) > 1.5


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_budget_is_held_and_epochs_are_equally_long(rows: StreamedDataset, processes: int, seed: int) -> None:
    epochs = 4
    parts = [
        StreamedBatches(rows, 8, seed, max_tokens=BUDGET, processes=processes, process=process, epochs=epochs)
        for process in range(processes)
    ]
    for epoch in range(epochs):
        batches = [epoch_of(part, epoch) for part in parts]
        assert {len(of_process) for of_process in batches} == {len(parts[0])}
        sizes = [len(batch) * int(rows.lengths[batch].max()) for of_process in batches for batch in of_process]
        assert max(sizes) <= BUDGET
        assert padded(rows, sum(batches, [])) < 1.1


def test_epochs_are_planned_until_the_training_ends(rows: StreamedDataset) -> None:
    by_epochs = StreamedBatches(rows, 8, 0, max_tokens=BUDGET, epochs=4)
    by_steps = StreamedBatches(rows, 8, 0, max_tokens=BUDGET, epochs=10**9, most_batches=3 * len(by_epochs) + 5)
    assert len(by_steps) == len(by_epochs)
    planned = StreamedBatches(rows, 8, 0, max_tokens=BUDGET, epochs=1)
    # Of themselves the epochs are not equally long.
    lengths = [len(StreamedBatches(rows, 8, 0, max_tokens=BUDGET, epochs=epochs)) for epochs in range(1, 9)]
    longer = next(epoch for epoch, length in enumerate(lengths) if length > len(planned))
    with pytest.raises(ConfigurationError, match=f"Epoch {longer} cannot be cut into {len(planned)} batches of at"):
        epoch_of(planned, longer)


def test_what_is_skipped_is_not_read(rows: StreamedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = StreamedBatches(rows, 8, 5)
    whole = epoch_of(batches)
    read: list[int] = []
    transform = rows.preprocessor.transform_chunk
    monkeypatch.setattr(
        rows.preprocessor, "transform_chunk", lambda frame, stores: read.append(len(frame)) or transform(frame, stores)
    )
    for skipped in (1, 100, len(batches) - 1, len(batches)):
        read.clear()
        assert epoch_of(batches, 0, skipped) == [[]] * skipped + whole[skipped:]
        assert sum(read) == N - sum(len(batch) for batch in whole[:skipped])


def test_rows_of_a_last_batch_that_is_not_full_can_be_left_out(rows: StreamedDataset) -> None:
    parts = [StreamedBatches(rows, 9, 5, processes=2, process=process, drop_last=True) for process in (0, 1)]
    epochs = [[epoch_of(part, epoch) for part in parts] for epoch in (0, 1)]
    for batches in epochs:
        assert {len(batch) for of_process in batches for batch in of_process} == {9}
        assert [len(of_process) for of_process in batches] == [N // 18] * 2
    left_out = [set(range(N)) - set(np.array(batches).ravel()) for batches in epochs]
    assert [len(rest) for rest in left_out] == [N % 18] * 2
    assert left_out[0] != left_out[1]


def test_few_rows() -> None:
    _, rows = StreamedDataset.fit(Rows(stream_rows(5)), SCHEMA, tiny_tokenizer(), shuffle_buffer=2)
    assert sorted(map(len, epoch_of(StreamedBatches(rows, 2, 0)))) == [1, 2, 2]
    parts = [epoch_of(StreamedBatches(rows, 2, 0, processes=3, process=process)) for process in range(3)]
    assert sorted(sum(sum(parts, []), [])) == list(range(5))
    assert [len(batches) for batches in parts] == [1, 1, 1]
    assert epoch_of(StreamedBatches(rows, 8, 0, drop_last=True))[0] != []
    with pytest.raises(ConfigurationError, match="5 training rows were given to 6 processes"):
        StreamedBatches(rows, 2, 0, processes=6)
    longest = int(rows.lengths.max())
    with pytest.raises(ConfigurationError, match=f"max_tokens_per_batch=3 is less than the {longest} tokens"):
        StreamedBatches(rows, 2, 0, max_tokens=3)


def test_batches_are_cut_finer_down_to_a_row_a_process() -> None:
    lengths = np.array([3, 1, 2, 2, 1, 3, 1, 1])
    coarse = TrainingBatches(lengths, 1, 0, max_tokens=12)
    assert len(coarse) == 2
    for fewest in range(2, 9):
        batches = list(TrainingBatches(lengths, 1, 0, max_tokens=12, fewest=fewest))
        assert len(batches) == fewest
        assert sorted(sum(batches, [])) == list(range(8))
        assert max(map(len, batches)) - min(map(len, batches)) <= 4
        assert all(len(batch) * lengths[batch].max() <= 12 for batch in batches)
    assert len(TrainingBatches(lengths, 1, 0, max_tokens=12, fewest=99)) == 8
    assert len(TrainingBatches(lengths, 1, 0, max_tokens=12, fewest=99, processes=2)) == 4
    assert {len(batch) for batch in TrainingBatches(lengths, 1, 0, max_tokens=12, fewest=99, processes=2)} == {1}
