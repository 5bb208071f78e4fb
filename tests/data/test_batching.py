"""Batches of rows of similar length: every row once, the budget held, the order of the seed, shares that fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.data.batching import (
    TrainingBatches,
    check_token_budget,
    inference_batches,
    longest_first,
    padded_lengths,
)
from mmadapters.errors import ConfigurationError

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=200).map(np.array)
OPTIONS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 40),
        "seed": st.integers(0, 2**32 - 1),
        "by_length": st.booleans(),
        "pad_to_multiple_of": st.sampled_from([None, 8]),
    }
)


@given(lengths=LENGTHS, batch_size=st.integers(1, 40))
def test_inference_takes_every_row_once_and_the_longest_first(lengths: np.ndarray, batch_size: int) -> None:
    batches = inference_batches(lengths, batch_size)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size


@given(lengths=LENGTHS, slack=st.integers(0, 600))
def test_inference_holds_the_budget_and_fills_it(lengths: np.ndarray, slack: int) -> None:
    budget = int(lengths.max()) + slack
    batches = inference_batches(lengths, 1, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(batch) * lengths[batch].max() <= budget for batch in batches)
    # One row more would not have fitted.
    assert all((len(batch) + 1) * lengths[batch[0]] > budget for batch in batches[:-1])


@given(lengths=LENGTHS, options=OPTIONS, epoch=st.integers(0, 50))
def test_an_epoch_of_training_has_every_row_once(lengths: np.ndarray, options: dict, epoch: int) -> None:
    batches = TrainingBatches(lengths, **options)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert sorted(sum(drawn, [])) == list(range(len(lengths)))
    assert len(drawn) == len(batches) == -(-len(lengths) // options["batch_size"])
    assert all(len(batch) <= options["batch_size"] for batch in drawn)


@given(lengths=LENGTHS, options=OPTIONS, slack=st.integers(0, 900), epochs=st.sets(st.integers(0, 50), min_size=2))
def test_the_budget_is_held_in_every_epoch(lengths: np.ndarray, options: dict, slack: int, epochs: set[int]) -> None:
    padded = padded_lengths(lengths, options["pad_to_multiple_of"])
    budget = int(padded.max()) + slack
    batches = TrainingBatches(lengths, max_tokens=budget, **options)
    for epoch in epochs:
        batches.set_epoch(epoch)
        drawn = list(batches)
        assert sorted(sum(drawn, [])) == list(range(len(lengths)))
        assert all(len(batch) * padded[batch].max() <= budget for batch in drawn)
        assert len(drawn) == len(batches)


@given(lengths=LENGTHS, options=OPTIONS, epoch=st.integers(0, 50), budgeted=st.booleans())
def test_seed_and_epoch_alone_decide(lengths: np.ndarray, options: dict, epoch: int, budgeted: bool) -> None:
    budget = 2 * 304 if budgeted else None
    first, second = (TrainingBatches(lengths, max_tokens=budget, **options) for _ in range(2))
    first.set_epoch(epoch)
    expected = list(first)
    np.random.seed(5)
    second.set_epoch(epoch + 1)
    list(second)
    second.set_epoch(epoch)
    assert list(second) == expected
    assert list(first) == expected


@settings(max_examples=200)
@given(lengths=LENGTHS, options=OPTIONS, epoch=st.integers(0, 50), processes=st.integers(2, 5), budgeted=st.booleans())
def test_processes_share_what_one_would_train_on(
    lengths: np.ndarray, options: dict, epoch: int, processes: int, budgeted: bool
) -> None:
    lengths = np.resize(lengths, max(len(lengths), processes))
    budget = 3 * 304 if budgeted else None
    shares = []
    for process in range(processes):
        batches = TrainingBatches(lengths, max_tokens=budget, processes=processes, process=process, **options)
        batches.set_epoch(epoch)
        shares.append(list(batches))
        assert len(shares[-1]) == len(batches)
    padded = padded_lengths(lengths, options["pad_to_multiple_of"])
    for together in zip(*shares, strict=True):
        sizes = [len(batch) for batch in together]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert budget is None or all(len(batch) * padded[batch].max() <= budget for batch in together)
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(len(lengths)))
    if not budgeted and len(lengths) % (options["batch_size"] * processes) == 0:
        whole = TrainingBatches(lengths, **{**options, "batch_size": options["batch_size"] * processes})
        whole.set_epoch(epoch)
        assert [sorted(sum(together, [])) for together in zip(*shares, strict=True)] == [
            sorted(batch) for batch in whole
        ]


def test_epochs_differ_and_batches_are_of_similar_length() -> None:
    random = np.random.default_rng(0)
    lengths = np.where(random.random(4000) < 0.5, random.integers(4, 12, 4000), random.integers(180, 220, 4000))
    for options in ({}, {"max_tokens": 4096}):
        batches = TrainingBatches(lengths, 16, seed=1, **options)
        epochs = []
        for epoch in range(2):
            batches.set_epoch(epoch)
            epochs.append(list(batches))
        padded = sum(len(batch) * lengths[batch].max() for batch in epochs[0])
        assert padded / lengths.sum() < 1.06
        together = [{frozenset(batch) for batch in epoch} for epoch in epochs]
        assert len(together[0] & together[1]) <= 1
        # Long and short batches come in turns, not the long ones first.
        longest = np.array([lengths[batch].max() for batch in epochs[0]])
        assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.35
    in_any_order = TrainingBatches(lengths, 16, seed=1, by_length=False)
    assert sum(len(batch) * lengths[batch].max() for batch in in_any_order) / lengths.sum() > 1.5


def test_the_last_rows_of_an_epoch_may_be_left_out() -> None:
    batches = TrainingBatches(np.arange(1, 24), 5, seed=0, drop_last=True)
    drawn = list(batches)
    assert [len(batch) for batch in drawn] == [5, 5, 5, 5]
    assert len({row for batch in drawn for row in batch}) == 20
    assert len(list(TrainingBatches(np.arange(1, 4), 5, seed=0, drop_last=True))) == 1


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"2 training rows were given to 3 processes"):
        TrainingBatches(np.array([4, 4]), 8, seed=0, processes=3)
    with pytest.raises(ConfigurationError, match=r"max_tokens_per_batch=10 gives 2 processes one row each, and 5 rows"):
        TrainingBatches(np.full(5, 10), 8, seed=0, max_tokens=10, processes=2)
    with pytest.raises(
        ConfigurationError, match=r"max_tokens_per_batch=2 is less than the 3 tokens of the longest row"
    ):
        inference_batches(np.array([3, 1]), 8, 2)
    with pytest.raises(ConfigurationError, match=r"max_tokens_per_batch=99 is less than the 100 tokens of the longest"):
        check_token_budget(np.array([3, 100]), 99)
    with pytest.raises(ConfigurationError, match=r"=99 is less than the 104 tokens"):
        TrainingBatches(np.array([3, 99]), 8, seed=0, max_tokens=99, pad_to_multiple_of=8)


def test_equal_lengths_keep_their_order() -> None:
    assert longest_first(np.array([2, 5, 2, 5, 9])).tolist() == [4, 1, 3, 0, 2]
    assert padded_lengths(np.array([1, 8, 9]), 8).tolist() == [8, 8, 16]
    assert padded_lengths(np.array([1, 8, 9]), None).tolist() == [1, 8, 9]
