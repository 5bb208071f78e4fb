"""From rows with paths to a feature store: resumable, in worker processes, identical media once.

::

    poster = build_extractor(ExtractorSpec("poster", "image", encoder="efficientnet-lite0"))
    summary = extract(rows, [MediaSource("poster_path", poster)], "runs/features", ExtractionOptions(id_column="id"))
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.errors import ConfigurationError, listed
from mmadapters.features.decoding import HashMedia, ReadMedia
from mmadapters.features.extract_chunk import ChunkExtractor, ChunkResult, Outcome
from mmadapters.features.extract_rows import MediaRow, media_rows, share_of
from mmadapters.features.extractor import Extractor, fingerprint_changes
from mmadapters.features.guard import GuardedPool, Limits
from mmadapters.features.media_index import MediaIndex
from mmadapters.features.outcome import Status
from mmadapters.features.ray_engine import RayEngine, RayOptions, RaySetup, portable
from mmadapters.features.store import FeatureStore, StoreColumn, StoreWriter
from mmadapters.features.store_format import MANIFEST, StoreDtype, read_manifest

_FAILED = (Status.ERROR.value, Status.TIMEOUT.value)
_EXAMPLES = 5
_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class MediaSource:
    """One modality of an extraction.

    Attributes:
        column: Column of the paths.
        extractor: Makes the features; its name is the modality's.
        dtype: Type of the numbers in the store.
        pool_mean: Whether the store also holds the mean over the steps of a sequence.
    """

    column: str
    extractor: Extractor
    dtype: StoreDtype = "float16"
    pool_mean: bool = False

    @property
    def store_column(self) -> StoreColumn:
        """The column of the store."""
        return StoreColumn(
            self.extractor.name,
            self.extractor.feature_dim,
            self.extractor.is_sequence,
            self.dtype,
            self.extractor.fingerprint,
            self.pool_mean,
        )


@dataclass(frozen=True)
class ExtractionOptions:
    """How an extraction runs; none of it changes a feature.

    Attributes:
        id_column: Column that names a row.
        root: Folder that relative paths start from, and that no path may leave.
        allow_outside_root: Whether paths may leave it all the same.
        limits: What a file may be at most.
        workers: Number of processes that decode; None for one less than there are cores. On Ray so many belong to each
            worker, and None is one less than its CPUs.
        seconds: Wall-clock time after which a worker is killed and its file is an error.
        memory_bytes: Address space of a worker.
        rows_per_shard: Rows that are committed together: so many are done again after a crash.
        num_shards: Number of jobs that share the rows. Each writes a store of its own, ``part-<k>-of-<n>`` within the
            folder; ``compact`` joins them.
        shard_index: Number of this job, from 0.
        overwrite: Whether a store with other features is emptied first.
        progress: Whether to show a progress bar.
        ray: Decode and encode on a Ray cluster, with these workers; None for this machine without Ray. This process
            then only says what is done where, and writes the store.
    """

    id_column: str
    root: Path = field(default_factory=Path.cwd)
    allow_outside_root: bool = False
    limits: Limits = field(default_factory=Limits)
    workers: int | None = None
    seconds: float = 120.0
    memory_bytes: int = 4 << 30
    rows_per_shard: int = 256
    num_shards: int = 1
    shard_index: int = 0
    overwrite: bool = False
    progress: bool = False
    ray: RayOptions | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigurationError(f"workers={self.workers} cannot be used. Give a whole number of at least 1.")
        if self.rows_per_shard < 1:
            raise ConfigurationError(f"rows_per_shard={self.rows_per_shard} cannot be used. Give at least 1.")
        if self.seconds <= 0:
            raise ConfigurationError(f"seconds={self.seconds} cannot be used. Give seconds above 0.")

    def new_pool(self) -> GuardedPool:
        """Return worker processes that decode; they start with the first file."""
        return GuardedPool(self.workers or max(1, _cores() - 1), self.seconds, self.memory_bytes)


@dataclass
class ModalitySummary:
    """What became of one modality in a run.

    Attributes:
        statuses: Number of rows by status.
        encoded: Number of files that went through the encoder; identical ones count once.
        examples: Id and error of the first rows that failed.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    encoded: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"statuses": dict(self.statuses), "encoded": self.encoded, "examples": list(self.examples)}


@dataclass
class ExtractionSummary:
    """What a run did.

    Attributes:
        store: Folder of the store.
        rows: Rows of this job.
        done_before: Rows that were in the store when it started.
        extracted: Rows that it added.
        seconds: Time that it took.
        modalities: By name.
    """

    store: Path
    rows: int
    done_before: int
    extracted: int
    seconds: float
    modalities: dict[str, ModalitySummary]

    @property
    def rows_per_second(self) -> float:
        """Rows added a second."""
        return self.extracted / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return {
            "store": str(self.store),
            "rows": self.rows,
            "done_before": self.done_before,
            "extracted": self.extracted,
            "seconds": self.seconds,
            "modalities": {name: modality.to_dict() for name, modality in self.modalities.items()},
        }


def extract(
    rows: pd.DataFrame,
    sources: Sequence[MediaSource],
    store: str | Path,
    options: ExtractionOptions,
    pool: GuardedPool | None = None,
) -> ExtractionSummary:
    """Extract the features of rows into a store.

    Rows whose id the store has already are left alone, whatever their status; so an interrupted run goes on where it
    was, and a longer table adds its new rows. Every other row is added in the order of the table, its cells each with
    features, as ``missing``, or with an error, whatever the files are like. A run that was killed and resumed leaves
    the same bytes as one that was not.

    Args:
        rows: N rows with an id column and columns of paths.
        sources: The modalities.
        store: Folder of the store; made where it does not exist.
        options: How to run.
        pool: Worker processes to use instead of new ones; it stays open, and has its own limits on time and memory.
            Not for Ray, whose workers have their own.

    Returns:
        What was done.

    Raises:
        ConfigurationError: If a modality is there twice, the store was made in another way and ``overwrite`` is False,
            or a Ray cluster cannot be reached or would make other features.
        DataError: If a column is absent, an id is missing or there twice, or the store is damaged or being written.
    """
    started = time.monotonic()
    if pool is not None and options.ray is not None:
        raise ConfigurationError("An extraction was given a pool and Ray options. Leave one of them out.")
    extractors = _extractors(sources)
    columns = {source.extractor.name: source.column for source in sources}
    own = share_of(media_rows(rows, options.id_column, columns), options.num_shards, options.shard_index)
    folder = store_folder(store, options.num_shards, options.shard_index)
    store_columns = [source.store_column for source in sources]
    if not options.overwrite:
        _check_fingerprints(folder, store_columns)
    with StoreWriter(folder, store_columns, _UNLIMITED, _UNLIMITED, options.overwrite) as writer:
        done = writer.done_ids()
        pending = [row for row in own if row.id not in done]
        summary = ExtractionSummary(
            folder, len(own), len(own) - len(pending), 0, 0.0, {name: ModalitySummary() for name in extractors}
        )
        if pending:
            run = _Run(writer, sources, extractors, options)
            run.extract(pending, summary, pool)
    summary.seconds = time.monotonic() - started
    return summary


def store_folder(store: str | Path, num_shards: int, shard_index: int) -> Path:
    """Return the folder that a job writes into: the store itself, or its part of it where there are several jobs."""
    if num_shards == 1:
        return Path(store)
    return Path(store) / f"part-{shard_index:05d}-of-{num_shards:05d}"


class _Run:
    """Chunks of rows through the workers and the encoders into the store, one commit a chunk."""

    def __init__(
        self,
        writer: StoreWriter,
        sources: Sequence[MediaSource],
        extractors: dict[str, Extractor],
        options: ExtractionOptions,
    ) -> None:
        self._writer = writer
        self._dtypes = {source.extractor.name: np.dtype(source.dtype) for source in sources}
        self._extractors = extractors
        self._options = options
        self._index = MediaIndex(writer.folder, len(writer))
        self._reader: FeatureStore | None = None

    def extract(self, pending: Sequence[MediaRow], summary: ExtractionSummary, pool: GuardedPool | None) -> None:
        size = self._options.rows_per_shard
        chunks = [pending[start : start + size] for start in range(0, len(pending), size)]
        with ExitStack() as stack:
            bar = stack.enter_context(_progress_bar(len(pending), self._options.progress))
            results = self._on_ray(chunks) if self._options.ray is not None else self._here(chunks, pool, bar)
            stack.enter_context(closing(results))
            for number, (rows, result) in enumerate(zip(chunks, results, strict=True)):
                self._commit(rows, result, summary)
                bar.set_postfix(errors=_errors(summary), refresh=False)
                bar.update(number * size + len(rows) - bar.n)

    def _here(self, chunks: Sequence[Sequence[MediaRow]], pool: GuardedPool | None, bar: Any) -> Generator[ChunkResult]:
        """Yield what becomes of the chunks; each is committed before the next one is asked for."""
        options = self._options
        with ExitStack() as stack:
            if pool is None:
                pool = stack.enter_context(options.new_pool())
            extractor = ChunkExtractor(pool, self._extractors, self._dtypes, *self._readers())
            for number, rows in enumerate(chunks):
                yield extractor.run(rows, self._known, _advance(bar, number * options.rows_per_shard, len(rows)))

    def _on_ray(self, chunks: Sequence[Sequence[MediaRow]]) -> Generator[ChunkResult]:
        """Do as ``_here``, with workers on a Ray cluster."""
        options = self._options
        assert options.ray is not None
        extractors = {name: portable(extractor, options.limits) for name, extractor in self._extractors.items()}
        fingerprints = {name: extractor.fingerprint for name, extractor in self._extractors.items()}
        setup = RaySetup(
            extractors,
            fingerprints,
            self._dtypes,
            *self._readers(),
            workers=options.workers,
            seconds=options.seconds,
            memory_bytes=options.memory_bytes,
        )
        yield from RayEngine(options.ray, setup).results(chunks, self._known)

    def _readers(self) -> tuple[HashMedia, dict[str, ReadMedia]]:
        # Other processes, and other machines, have a working folder of their own.
        place = (self._options.root.absolute(), self._options.allow_outside_root)
        reads = {name: ReadMedia(extractor.decode, *place) for name, extractor in self._extractors.items()}
        return HashMedia(*place, self._options.limits), reads

    def _commit(self, rows: Sequence[MediaRow], result: ChunkResult, summary: ExtractionSummary) -> None:
        first = len(self._writer)
        fresh: list[tuple[int, Mapping[str, str]]] = []
        for place, (row, outcomes) in enumerate(zip(rows, result.rows, strict=True)):
            self._writer.add(
                row.id,
                {name: outcome.values for name, outcome in outcomes.items()},
                {name: outcome.status for name, outcome in outcomes.items()},
                {name: outcome.error for name, outcome in outcomes.items()},
            )
            digests = {name: outcome.digest for name, outcome in outcomes.items() if outcome.digest is not None}
            if digests:
                fresh.append((first + place, digests))
            _count(summary, row.id, outcomes)
        self._index.add(fresh)
        self._writer.commit()
        summary.extracted += len(rows)
        for name, encoded in result.encoded.items():
            summary.modalities[name].encoded += encoded

    def _known(self, modality: str, digest: str) -> Outcome | None:
        row = self._index.row_of(modality, digest)
        if row is None:
            return None
        if self._reader is None or row >= len(self._reader):
            self._reader = FeatureStore(self._writer.folder)
        values = self._reader.read(row, modality)
        if values is None:
            return None
        return Outcome(values, self._reader.status(row, modality), self._reader.error(row, modality))


def _extractors(sources: Sequence[MediaSource]) -> dict[str, Extractor]:
    if not sources:
        raise ConfigurationError("An extraction was given no modality. Give at least one.")
    repeated = [name for name, n in Counter(source.extractor.name for source in sources).items() if n > 1]
    if repeated:
        raise ConfigurationError(f"The modalities {listed(repeated)} are there twice. Give each a name of its own.")
    return {source.extractor.name: source.extractor for source in sources}


def _check_fingerprints(folder: Path, columns: Sequence[StoreColumn]) -> None:
    """Refuse a store whose features were made in another way, saying in what."""
    if not (folder / MANIFEST).exists():
        return
    there = {column.name: column for column in read_manifest(folder).columns}
    problems = [
        f"'{column.name}': {change}"
        for column in columns
        if column.name in there
        for change in fingerprint_changes(there[column.name].fingerprint, column.fingerprint)
    ]
    if problems:
        raise ConfigurationError(
            f"The feature store '{folder}' holds features that were made in another way:\n"
            + "\n".join(f"- {problem}" for problem in problems)
            + "\nName another folder for the new features, or give --overwrite to discard those that are there."
        )


def _count(summary: ExtractionSummary, id: str, outcomes: Mapping[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        modality = summary.modalities[name]
        modality.statuses[outcome.status] += 1
        if outcome.status in _FAILED and len(modality.examples) < _EXAMPLES:
            modality.examples.append((id, outcome.error))


def _errors(summary: ExtractionSummary) -> int:
    return sum(modality.statuses[status] for modality in summary.modalities.values() for status in _FAILED)


def _progress_bar(rows: int, shown: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=rows, unit="row", desc="extract", disable=not shown, smoothing=0.1)


def _advance(bar: Any, start: int, rows: int) -> Callable[[float], None]:
    def advance(share: float) -> None:
        bar.update(start + int(share * rows) - bar.n)

    return advance


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
