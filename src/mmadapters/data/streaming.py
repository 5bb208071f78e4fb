"""Rows that are read while a model is trained on them, as a PyTorch data set that holds a few thousand at a time.

::

    preprocessor, train = StreamedDataset.fit("shards/*.parquet", schema, tokenizer)
    fit(preprocessor, train, validation, …)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from mmadapters.data.dataset import DIGEST_ROWS, MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.row_reader import RowReader, Run, Wanted, named_rows, rows_changed
from mmadapters.data.row_source import RowsGiven, RowSource, row_source
from mmadapters.data.schema import SINGLE_LABEL, DatasetSchema
from mmadapters.data.stream_order import EpochOrder
from mmadapters.data.stream_survey import Survey, columns_of, fit_and_survey, survey
from mmadapters.errors import ConfigurationError
from mmadapters.features.store import FeatureStore
from mmadapters.modality import Modality

DEFAULT_SHUFFLE_BUFFER = 10_000
"""Rows among which an epoch's order is random."""


class StreamedDataset(IterableDataset[dict[str, Any]]):
    """N rows that stay where they are, and are read, preprocessed and shuffled anew in each epoch.

    What it yields for a row is what ``MultimodalDataset`` gives for it. It knows how many rows there are, how long each
    is and how often each label occurs, from one pass over all of them.

    Order: the pieces of the source (row groups of Parquet files, whole files of CSV and JSON lines) come at random, by
    seed and epoch; ``shuffle_buffer`` rows that follow one another are read, shuffled and given out, then the next.
    Workers of a data loader share the rows out among them.

    Attributes:
        preprocessor: Turns rows into what is yielded.
        shuffle_buffer: Rows that are shuffled at a time.
        seed: Of the order in which ``__iter__`` goes; a training has its own.

    Args:
        rows: As ``mmadapters.data.row_source.row_source`` takes them.
        preprocessor: Fitted on these rows, or on others.
        shuffle_buffer: Rows that are shuffled, and in memory, at a time.
        seed: Of the order.
        found: What an earlier pass over the rows found; else they are gone through.

    Raises:
        ConfigurationError: If ``shuffle_buffer`` is no whole number of at least 1.
        DataError: If a row cannot be used.
    """

    def __init__(
        self,
        rows: RowsGiven | RowSource,
        preprocessor: Preprocessor,
        *,
        shuffle_buffer: int = DEFAULT_SHUFFLE_BUFFER,
        seed: int = 0,
        found: Survey | None = None,
    ) -> None:
        self.shuffle_buffer = check_shuffle_buffer(shuffle_buffer)
        self.source = row_source(rows)
        self.preprocessor = preprocessor
        self.seed = seed
        self.survey = survey(self.source, preprocessor) if found is None else found
        # Shared with the workers of a data loader, which may outlive an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._stores: dict[str, FeatureStore] = {}

    @classmethod
    def fit(
        cls,
        rows: RowsGiven | RowSource,
        schema: DatasetSchema,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
        *,
        shuffle_buffer: int = DEFAULT_SHUFFLE_BUFFER,
        seed: int = 0,
        report: Callable[[str], None] | None = None,
    ) -> tuple[Preprocessor, StreamedDataset]:
        """Learn from training rows what ``Preprocessor.fit`` learns, in one pass, and stream them.

        Args:
            rows: As ``mmadapters.data.row_source.row_source`` takes them.
            schema: What the columns mean.
            tokenizer: Tokenizer of the text encoder.
            max_length: Number of tokens to cut a text to; None for what the tokenizer allows, at most 512.
            shuffle_buffer: Rows that are shuffled, and in memory, at a time.
            seed: Of the order in which ``__iter__`` goes.
            report: Called with a line for a person now and then.

        Raises:
            DataError: As ``Preprocessor.fit`` and ``Preprocessor.transform``.
            ConfigurationError: If an argument cannot be used.
        """
        check_shuffle_buffer(shuffle_buffer)
        source = row_source(rows)
        preprocessor, found = fit_and_survey(source, schema, tokenizer, max_length, report)
        return preprocessor, cls(source, preprocessor, shuffle_buffer=shuffle_buffer, seed=seed, found=found)

    def __len__(self) -> int:
        """Return the number N of rows."""
        return len(self.survey)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the epoch, in a worker of a data loader this worker's share of them."""
        worker, workers = worker_of(self)
        order = EpochOrder(self.survey.rows_of_pieces, self.shuffle_buffer, self.seed, int(self._epoch))
        reader = self.reader()
        for pool in range(len(order)):
            places = np.random.default_rng(order.seed_of(pool)).permutation(order.size(pool))[worker::workers]
            loaded = self.load(reader, order, pool, places)
            yield from (loaded[place] for place in places)
            # Not two pools at a time in memory.
            del loaded

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through, counted from 0."""
        self._epoch.fill_(epoch)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) number of tokens of each row, special tokens included, in the order of the source."""
        return self.survey.lengths

    @property
    def label_frequencies(self) -> np.ndarray | None:
        """Int64 (C,): rows with each label, or None without classes."""
        return self.survey.label_frequencies

    @property
    def labelled_rows(self) -> int:
        """Number of rows whose label is among the classes; of a multi-label problem all rows."""
        labels, frequencies = self.preprocessor.labels, self.label_frequencies
        one_each = labels is not None and labels.problem_type == SINGLE_LABEL
        return int(frequencies.sum()) if one_each and frequencies is not None else len(self)

    @property
    def label_mean(self) -> float | None:
        """Mean of the labels of a regression, or None."""
        return self.survey.label_mean

    @property
    def label_deviation(self) -> float | None:
        """Standard deviation of the labels of a regression, or None."""
        return self.survey.label_deviation

    @property
    def modalities(self) -> list[Modality]:
        """The modalities, in the order of the model."""
        return list(self.preprocessor.modalities)

    def digest(self) -> str:
        """Return a SHA-256 of all cells and lengths, of the pieces and of the order's setting.

        Of features in files and stores, those of ``DIGEST_ROWS`` rows are read.
        """
        first = next(self.at(np.arange(min(DIGEST_ROWS, len(self)))))
        parts = (self.survey.content_digest, first.digest(), str(self.shuffle_buffer))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def at(self, rows: np.ndarray) -> Iterator[MultimodalDataset]:
        """Yield chosen rows as data sets of about a thousand.

        Args:
            rows: Their numbers in the order of the source, ascending.

        Raises:
            DataError: If a row cannot be used, or they are not those that were counted.
        """
        for _, data in self._chunks(self.reader().read(self._wanted(rows)), rows):
            yield data

    def first_items(self, count: int) -> list[dict[str, Any]]:
        """Return the first rows of the source, at most ``count``."""
        rows = np.arange(min(count, len(self)))
        return [data[row] for data in self.at(rows) for row in range(len(data))]

    def reader(self) -> RowReader:
        """Return what reads the rows, from their start."""
        return RowReader(self.source, columns_of(self.preprocessor.schema))

    def load(self, reader: RowReader, order: EpochOrder, pool: int, places: np.ndarray) -> LoadedRows:
        """Read rows of a pool.

        Args:
            reader: Reads the pools in their order.
            order: The order of the epoch.
            pool: Which pool of it.
            places: Places of the rows in the pool.

        Raises:
            DataError: If a row cannot be used, or they are not those that were counted.
        """
        loaded = LoadedRows(order.size(pool))
        for found, data in self._chunks(reader.read(order.wanted(pool, places)), order.rows(pool)):
            loaded.add(found, data)
        return loaded

    def _wanted(self, rows: np.ndarray) -> Iterator[Wanted]:
        """Yield what to read for rows of the source; their places among the given ones stand for them."""
        firsts = np.concatenate([[0], np.cumsum(self.survey.rows_of_pieces)])
        pieces = np.searchsorted(firsts, rows, side="right") - 1
        for chosen in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(pieces)) + 1):
            piece = int(pieces[chosen[0]])
            places = rows[chosen] - firsts[piece]
            run = Run(piece, int(places[0]), int(places[-1]) + 1)
            yield Wanted(run, places - run.start, chosen)

    def _chunks(
        self, read: Iterator[tuple[np.ndarray, pd.DataFrame]], rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, MultimodalDataset]]:
        """Yield what was read as data sets, if it is as it was when it was counted.

        Args:
            read: Places among ``rows``, and their cells.
            rows: Numbers of rows in the order of the source.
        """
        for places, frame in read:
            name = "' or '".join(dict.fromkeys(self._name_of(int(rows[place])) for place in (places[0], places[-1])))
            with named_rows(name):
                data = self.preprocessor.transform_chunk(frame, self._stores)
            if not np.array_equal(data.lengths, self.lengths[rows[places]]):
                raise rows_changed(name)
            yield places, data

    def _name_of(self, row: int) -> str:
        ends = np.cumsum(self.survey.rows_of_pieces)
        return self.source.pieces[int(np.searchsorted(ends, row, side="right"))].name


class LoadedRows:
    """Some rows of a pool, preprocessed.

    Args:
        size: Rows of the pool.
    """

    def __init__(self, size: int) -> None:
        self._parts: list[MultimodalDataset] = []
        self._part_of = np.full(size, -1, dtype=np.int32)
        self._row_of = np.zeros(size, dtype=np.int32)

    def add(self, places: np.ndarray, data: MultimodalDataset) -> None:
        """Add rows.

        Args:
            places: Their places in the pool.
            data: The rows.
        """
        self._part_of[places] = len(self._parts)
        self._row_of[places] = np.arange(len(data))
        self._parts.append(data)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """Return a row that was added, by its place in the pool."""
        return self._parts[self._part_of[place]][int(self._row_of[place])]


def check_shuffle_buffer(rows: int) -> int:
    """Return ``shuffle_buffer`` if it can be used.

    Raises:
        ConfigurationError: If it is no whole number of at least 1.
    """
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise ConfigurationError(f"shuffle_buffer={rows!r} cannot be used. Give a number of rows of at least 1.")
    return rows


def worker_of(dataset: StreamedDataset) -> tuple[int, int]:
    """Return which worker of a data loader this is, and of how many.

    Raises:
        ConfigurationError: If this is one, and the rows cannot be read in workers.
    """
    worker = get_worker_info()
    if worker is None:
        return 0, 1
    check_workers(dataset, worker.num_workers)
    return worker.id, worker.num_workers


def check_workers(dataset: StreamedDataset, workers: int) -> None:
    """Refuse worker processes for rows that they cannot read.

    Raises:
        ConfigurationError: Then.
    """
    if workers and not dataset.source.readable_in_workers:
        raise ConfigurationError(
            f"dataloader_num_workers={workers} was given, and rows that come from a Python object are read by the "
            "training process alone. Set it to 0, or write the rows to Parquet shards."
        )
