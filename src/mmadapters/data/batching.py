"""Which rows make a batch: rows of similar length together, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

import numpy as np

from mmadapters.errors import ConfigurationError

POOL_BATCHES = 50
"""So many batches' rows are drawn at random, then sorted by length: enough to be of similar length in a batch."""

FEWEST_POOLS = 2
"""Of small data sets, so that the rows of a batch differ from epoch to epoch."""

LEVEL_RATIO = 1.05
"""With a token budget, lengths that differ by less than this are taken as equal."""


def longest_first(lengths: np.ndarray) -> np.ndarray:
    """Return the rows by falling length, int64 (N,); rows of equal length keep their order.

    Args:
        lengths: (N,) tokens of each row.
    """
    return np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")


def inference_batches(lengths: np.ndarray, batch_size: int, max_tokens: int | None = None) -> list[np.ndarray]:
    """Return the rows of each batch, the longest rows first.

    Args:
        lengths: (N,) tokens of each row, padding to a multiple included.
        batch_size: Rows a batch.
        max_tokens: Most tokens of a batch, padding included; it takes the place of ``batch_size``.

    Raises:
        ConfigurationError: If a row alone has more tokens than ``max_tokens``.
    """
    check_token_budget(lengths, max_tokens)
    order = longest_first(lengths)
    ends = _cuts(np.asarray(lengths)[order], batch_size, max_tokens, processes=1)
    return np.split(order, ends[:-1])


def check_token_budget(lengths: np.ndarray, max_tokens: int | None) -> None:
    """Refuse a token budget that the longest row does not fit in.

    Args:
        lengths: (N,) tokens of each row.
        max_tokens: The budget, or None.

    Raises:
        ConfigurationError: If a row alone has more tokens.
    """
    longest = int(np.max(lengths, initial=0))
    if max_tokens is not None and longest > max_tokens:
        raise ConfigurationError(
            f"max_tokens_per_batch={max_tokens} is less than the {longest} tokens of the longest row. Give at least "
            f"{longest}, or cut texts to fewer tokens (max_length)."
        )


class TrainingBatches:
    """Batches for training, drawn anew in each epoch: every row in exactly one of them.

    The batches of an epoch follow from seed and epoch alone, and their number is the same in every epoch. Several
    processes share a batch of ``processes`` times the size, each taking every ``processes``-th row of it, so that
    together they train on what one process would with the larger batch, and all have about the same length.

    Args:
        lengths: (N,) tokens of each row; with ``by_length=False`` and no budget only their number counts.
        batch_size: Rows a batch and process.
        seed: Of the order.
        max_tokens: Most tokens of a process's batch, padding included; it takes the place of ``batch_size``.
        by_length: Whether rows of similar length share a batch; always with a budget.
        pad_to_multiple_of: What the collator pads to.
        processes: Number of processes.
        process: Which of them this is.
        drop_last: Whether an epoch leaves out the rows of a batch that is not full; not with a budget.
        fewest: With a budget, so many batches at least: until there are, the one with the most rows is halved.

    Raises:
        ConfigurationError: If a row alone has more tokens than ``max_tokens``, or there are fewer rows than processes.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        max_tokens: int | None = None,
        by_length: bool = True,
        pad_to_multiple_of: int | None = None,
        processes: int = 1,
        process: int = 0,
        drop_last: bool = False,
        fewest: int = 0,
    ) -> None:
        self.lengths = padded_lengths(lengths, pad_to_multiple_of)
        check_token_budget(self.lengths, max_tokens)
        if len(self.lengths) < processes:
            raise ConfigurationError(
                f"{len(self.lengths)} training rows were given to {processes} processes. Use at most as many processes "
                "as there are rows."
            )
        self.rows_a_batch = batch_size * processes
        self.seed = seed
        self.max_tokens = max_tokens
        self.by_length = by_length
        self.processes = processes
        self.process = process
        self.epoch = 0
        self._levels = _levels(self.lengths)
        in_order = -np.sort(-self._levels) if max_tokens is not None else self.lengths
        if drop_last and max_tokens is None and len(in_order) >= self.rows_a_batch:
            in_order = in_order[: len(in_order) // self.rows_a_batch * self.rows_a_batch]
        self._ends = _cut_finer(_cuts(in_order, batch_size, max_tokens, processes), fewest, processes)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._ends)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each of this process's batches."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))[: self._ends[-1]]
        if self.max_tokens is not None:
            order = order[longest_first(self._levels[order])]
        elif self.by_length:
            order = self._sorted_in_pools(order)
        starts = [0, *self._ends[:-1]]
        batches = list(zip(starts, self._ends, strict=True))
        if self.by_length or self.max_tokens is not None:
            random.shuffle(batches)
        for start, end in batches:
            yield order[start:end][self.process :: self.processes].tolist()

    def _sorted_in_pools(self, order: np.ndarray) -> np.ndarray:
        batches = max(1, min(len(order) // (self.rows_a_batch * FEWEST_POOLS), POOL_BATCHES))
        size = batches * self.rows_a_batch
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        return np.concatenate([pool[longest_first(self.lengths[pool])] for pool in pools])


def padded_lengths(lengths: np.ndarray, multiple: int | None) -> np.ndarray:
    """Return lengths rounded up to a multiple, int64 (N,).

    Args:
        lengths: (N,) tokens of each row.
        multiple: Of how many tokens, or None.
    """
    given = np.asarray(lengths, dtype=np.int64)
    return given if not multiple else -(-given // multiple) * multiple


def _levels(lengths: np.ndarray) -> np.ndarray:
    """Return lengths rounded up to steps of ``LEVEL_RATIO``, at most the greatest length.

    With a budget a batch is cut by levels, so the batches of all epochs have the same sizes, whatever their rows are.
    """
    longest = int(np.max(lengths, initial=1))
    steps = [1]
    while steps[-1] < longest:
        steps.append(max(steps[-1] + 1, int(steps[-1] * LEVEL_RATIO)))
    bounds = np.minimum(np.array(steps, dtype=np.int64), longest)
    return bounds[np.searchsorted(bounds, lengths)]


def _cuts(lengths: np.ndarray, batch_size: int, max_tokens: int | None, processes: int) -> Sequence[int]:
    """Return where each batch ends among rows that, with a budget, are sorted by falling length.

    No batch has fewer rows than there are processes: where the last one had, it takes rows of the one before, or both
    become one.
    """
    total = len(lengths)
    ends: list[int] = []
    start = 0
    while start < total:
        rows = batch_size if max_tokens is None else max_tokens // max(int(lengths[start]), 1)
        start = min(start + rows * processes, total)
        ends.append(start)
    if len(ends) > 1 and total - ends[-2] < processes:
        before = ends[-3] if len(ends) > 2 else 0
        if total - before >= 2 * processes:
            ends[-2] = total - processes
        elif max_tokens is None or 2 * int(lengths[before]) <= max_tokens:
            del ends[-2]
        else:
            raise ConfigurationError(
                f"max_tokens_per_batch={max_tokens} gives {processes} processes one row each, and {total} rows cannot "
                "be shared out like that. Give a larger budget, or another number of processes."
            )
    return ends


def _cut_finer(ends: Sequence[int], fewest: int, processes: int) -> Sequence[int]:
    """Return where batches end after those with the most rows were halved until there are ``fewest``.

    None gets fewer rows than there are processes; where all are that small, there stay fewer batches.
    """
    if len(ends) >= fewest:
        return ends
    starts = [0, *ends[:-1]]
    largest = [(start - end, start) for start, end in zip(starts, ends, strict=True)]
    heapify(largest)
    while len(largest) < fewest and -largest[0][0] >= 2 * processes:
        size, start = heappop(largest)
        half = -size // 2
        heappush(largest, (-half, start))
        heappush(largest, (size + half, start + half))
    return sorted(start - size for size, start in largest)
