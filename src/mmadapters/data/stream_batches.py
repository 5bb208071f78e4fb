"""The training batches of streamed rows: of similar length, and as many in each epoch and process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from mmadapters.data.batching import TrainingBatches, check_token_budget, padded_lengths
from mmadapters.data.stream_order import EpochOrder
from mmadapters.data.streaming import StreamedDataset, worker_of
from mmadapters.errors import ConfigurationError


class StreamedBatches(IterableDataset[list[dict[str, Any]]]):
    """One process's batches of an epoch, each a list of rows for the collator.

    Pools of ``shuffle_buffer`` rows are cut into batches as ``TrainingBatches`` cuts a data set in memory: the rows of
    a batch have similar lengths, and several processes share a batch of ``processes`` times the size. Every row is in
    one batch of one process, all processes have the same number of batches, and every epoch has. Which rows make a
    batch follows from seed and epoch, not from the number of workers, which take the batches in turns.

    With a token budget the number of batches would depend on which rows meet in a pool: it is that of the epoch with
    the most, and in the others some batches are halved.

    Attributes:
        skipped: Batches at the start of the next iteration that are given as empty lists and not read.

    Args:
        rows: The streamed rows.
        batch_size: Rows a batch and process.
        seed: Of the order.
        max_tokens: Most tokens of a process's batch, padding included; it takes the place of ``batch_size``.
        by_length: Whether rows of similar length share a batch; always with a budget.
        pad_to_multiple_of: What the collator pads to.
        processes: Number of processes.
        process: Which of them this is.
        drop_last: Whether an epoch leaves out the rows of a batch that is not full; not with a budget.
        epochs: Epochs that will be gone through.
        most_batches: Batches after which the training ends in any case, or None.

    Raises:
        ConfigurationError: If a row alone has more tokens than ``max_tokens``, or there are fewer rows than processes.
    """

    def __init__(
        self,
        rows: StreamedDataset,
        batch_size: int,
        seed: int,
        *,
        max_tokens: int | None = None,
        by_length: bool = True,
        pad_to_multiple_of: int | None = None,
        processes: int = 1,
        process: int = 0,
        drop_last: bool = False,
        epochs: int = 1,
        most_batches: int | None = None,
    ) -> None:
        check_token_budget(padded_lengths(rows.lengths, pad_to_multiple_of), max_tokens)
        if len(rows) < processes:
            raise ConfigurationError(
                f"{len(rows)} training rows were given to {processes} processes. Use at most as many processes as "
                "there are rows."
            )
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.max_tokens = max_tokens
        self.by_length = by_length
        self.pad_to_multiple_of = pad_to_multiple_of
        self.processes = processes
        self.process = process
        self._rows_a_batch = batch_size * processes
        self._leave_out = 0
        if drop_last and max_tokens is None and len(rows) >= self._rows_a_batch:
            self._leave_out = len(rows) % self._rows_a_batch
        # Shared with the workers of a data loader, which may outlive an epoch.
        self._epoch_and_skipped = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._length = self._batches_of_the_longest_epoch(epochs, most_batches)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through, counted from 0."""
        self._epoch_and_skipped[0] = epoch

    @property
    def skipped(self) -> int:
        """Batches at the start of the next iteration that are given as empty lists and not read."""
        return int(self._epoch_and_skipped[1])

    @skipped.setter
    def skipped(self, batches: int) -> None:
        self._epoch_and_skipped[1] = batches

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the batches, in a worker of a data loader every so many-th of them."""
        worker, workers = worker_of(self.rows)
        epoch, skipped = map(int, self._epoch_and_skipped)
        order = self._order(epoch)
        reader = self.rows.reader()
        first = 0
        for pool, fewest in enumerate(self._fewest(order)):
            batches = list(self._cut(order, pool, fewest))
            mine = [place for place in range(len(batches)) if (first + place) % workers == worker]
            read = [place for place in mine if first + place >= skipped]
            yield from ([] for _ in range(len(mine) - len(read)))
            if read:
                rows = np.concatenate([batches[place] for place in read])
                loaded = self.rows.load(reader, order, pool, rows)
                for place in read:
                    yield [loaded[row] for row in batches[place]]
                # Not two pools at a time in memory.
                del loaded
            first += len(batches)

    def _order(self, epoch: int) -> EpochOrder:
        """Return the pools of an epoch, of which none but the last has a batch that is not full."""
        pool_rows = -(-self.rows.shuffle_buffer // self._rows_a_batch) * self._rows_a_batch
        rows_of_pieces = self.rows.survey.rows_of_pieces
        return EpochOrder(rows_of_pieces, pool_rows, self.seed, epoch, self._rows_a_batch, self._leave_out)

    def _cut(self, order: EpochOrder, pool: int, fewest: int = 0) -> TrainingBatches:
        return TrainingBatches(
            self.rows.lengths[order.rows(pool)],
            self.batch_size,
            order.seed_of(pool),
            max_tokens=self.max_tokens,
            by_length=self.by_length,
            pad_to_multiple_of=self.pad_to_multiple_of,
            processes=self.processes,
            process=self.process,
            fewest=fewest,
        )

    def _batches_of_the_longest_epoch(self, epochs: int, most_batches: int | None) -> int:
        if self.max_tokens is None:
            return -(-(len(self.rows) - self._leave_out) // self._rows_a_batch)
        counts: list[int] = []
        while len(counts) < epochs and (most_batches is None or sum(counts) < most_batches):
            order = self._order(len(counts))
            counts.append(sum(len(self._cut(order, pool)) for pool in range(len(order))))
        return max(counts)

    def _fewest(self, order: EpochOrder) -> list[int]:
        """Return how many batches each pool of an epoch is cut into at least, so that the epoch has its number."""
        if self.max_tokens is None:
            return [0] * len(order)
        counts = [len(self._cut(order, pool)) for pool in range(len(order))]
        lacking = self._length - sum(counts)
        for pool in np.argsort([-order.size(pool) / count for pool, count in enumerate(counts)], kind="stable"):
            if not lacking:
                break
            finest = len(self._cut(order, int(pool), counts[pool] + lacking))
            lacking -= finest - counts[pool]
            counts[pool] = finest
        if lacking:
            raise ConfigurationError(
                f"Epoch {order.epoch} cannot be cut into {self._length} batches of at most {self.max_tokens} tokens, "
                "which is what the longest of the epochs that were planned takes. Give more epochs, or a larger "
                "max_tokens_per_batch."
            )
        return counts
