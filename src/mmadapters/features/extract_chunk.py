"""One chunk of rows: files hashed, decoded in worker processes and encoded in batches, results in the rows' order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from mmadapters.features.decoding import HashMedia, ReadMedia
from mmadapters.features.extract_rows import MediaRow
from mmadapters.features.extractor import Extractor
from mmadapters.features.guard import GuardedPool
from mmadapters.features.outcome import Decoded, Status

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one cell.

    Attributes:
        values: Float32 (D,) or (T, D), or None.
        status: How it ended.
        error: One line for a person; empty where nothing is wrong.
        digest: Of the file's content, where the cell was the first to bring it.
    """

    values: np.ndarray | None
    status: str
    error: str = ""
    digest: str | None = None


Known = Callable[[str, str], Outcome | None]
"""Returns what the store has of a file already: modality and digest in, features out."""


@dataclass(frozen=True)
class ChunkResult:
    """Outcomes of a chunk.

    Attributes:
        rows: By modality, for each row in its order.
        encoded: By modality, number of files that went through the encoder.
    """

    rows: list[dict[str, Outcome]]
    encoded: dict[str, int]


@dataclass
class _Task:
    """A file that is to be decoded, for all cells of the chunk with the same content."""

    modality: str
    digest: str
    path: str
    decoded: Decoded | None = field(default=None, repr=False)


class ChunkExtractor:
    """Extracts chunks of rows.

    What is encoded together depends on the chunk's rows alone, never on the order in which workers finish.

    Args:
        pool: The worker processes.
        extractors: By modality.
        hash_media: Runs in a worker: digest of a path's content.
        read_media: Runs in a worker: decodes a path; one for each modality.
        window: Number of files that may be decoded ahead of the encoder.
    """

    def __init__(
        self,
        pool: GuardedPool,
        extractors: dict[str, Extractor],
        hash_media: HashMedia,
        read_media: dict[str, ReadMedia],
        window: int,
    ) -> None:
        self._pool = pool
        self._extractors = extractors
        self._hash = hash_media
        self._read = read_media
        self._window = window

    def run(self, rows: Sequence[MediaRow], known: Known, advance: Callable[[float], None]) -> ChunkResult:
        """Extract a chunk.

        Args:
            rows: The rows.
            known: What the store has already.
            advance: Is told the share of the chunk, from 0 to 1, that has been done.

        Returns:
            The outcomes; every cell has one, whatever its file was like.
        """
        results: list[dict[str, Outcome]] = [
            {name: Outcome(None, Status.MISSING.value) for name in self._extractors} for _ in rows
        ]
        cells: dict[tuple[str, str], list[int]] = {}
        tasks: list[_Task] = []
        for place, name, path, digest in self._digests(rows, results):
            key = (name, digest)
            if key not in cells:
                tasks.append(_Task(name, digest, path))
            cells.setdefault(key, []).append(place)
        encoded = dict.fromkeys(self._extractors, 0)
        for count, (task, outcome, fresh) in enumerate(self._outcomes(tasks, known), start=1):
            places = cells[task.modality, task.digest]
            shared = Outcome(outcome.values, outcome.status, outcome.error)
            for place in places:
                results[place][task.modality] = shared
            if fresh:
                results[places[0]][task.modality] = outcome
                encoded[task.modality] += 1
            advance(count / len(tasks))
        return ChunkResult(results, encoded)

    def _digests(
        self, rows: Sequence[MediaRow], results: list[dict[str, Outcome]]
    ) -> Iterator[tuple[int, str, str, str]]:
        """Yield place, modality, path and digest of the cells whose file can be read, modality by modality."""
        wanted = [
            (place, name, path)
            for name in self._extractors
            for place, row in enumerate(rows)
            if (path := row.paths[name]) is not None
        ]
        jobs = ((self._hash, path) for _, _, path in wanted)
        for (place, name, path), found in zip(wanted, self._in_order(jobs, len(wanted)), strict=True):
            if found.values is None:
                results[place][name] = _failed(found)
            else:
                yield place, name, path, found.values.tobytes().hex()

    def _outcomes(self, tasks: Sequence[_Task], known: Known) -> Iterator[tuple[_Task, Outcome, bool]]:
        """Yield each task with its outcome, and whether it was encoded now."""
        unknown: list[_Task] = []
        for task in tasks:
            there = known(task.modality, task.digest)
            if there is None:
                unknown.append(task)
            else:
                yield task, there, False
        batch: list[_Task] = []
        jobs = ((self._read[task.modality], task.path) for task in unknown)
        for task, decoded in zip(unknown, self._in_order(jobs, len(unknown)), strict=True):
            if batch and batch[0].modality != task.modality:
                yield from self._encoded(batch)
                batch = []
            if decoded.values is None:
                yield task, _failed(decoded), False
                continue
            task.decoded = decoded
            batch.append(task)
            if len(batch) >= self._extractors[task.modality].batch_size:
                yield from self._encoded(batch)
                batch = []
        if batch:
            yield from self._encoded(batch)

    def _encoded(self, batch: Sequence[_Task]) -> Iterator[tuple[_Task, Outcome, bool]]:
        extractor = self._extractors[batch[0].modality]
        decoded = [task.decoded for task in batch if task.decoded is not None]
        for task, outcome in zip(batch, encode_decoded(extractor, decoded), strict=True):
            task.decoded = None
            fresh = outcome.values is not None
            digest = task.digest if fresh else None
            yield task, Outcome(outcome.values, outcome.status, outcome.error, digest), fresh

    def _in_order(self, jobs: Iterable[tuple[Callable[[str], Decoded], str]], count: int) -> Iterator[Decoded]:
        """Run jobs in the workers and yield their results in the jobs' order, a bounded number ahead."""
        waiting = iter(jobs)
        ready: dict[int, Decoded] = {}
        submitted = 0
        # What an interrupted user of the same pool left there comes with another key.
        own = object()
        for wanted in range(count):
            while submitted < min(count, wanted + self._window):
                function, argument = next(waiting)
                self._pool.submit((own, submitted), function, argument)
                submitted += 1
            while wanted not in ready:
                (owner, place), decoded = cast(tuple[tuple[object, int], Decoded], next(self._pool.completed()))
                if owner is own:
                    ready[place] = decoded
            yield ready.pop(wanted)


def encode_decoded(extractor: Extractor, decoded: Sequence[Decoded]) -> list[Outcome]:
    """Encode a batch of decoded files; a file that the encoder cannot take is an error of its own row.

    Args:
        extractor: Makes the features.
        decoded: Files with values.

    Returns:
        An outcome for each.
    """
    try:
        features = extractor.encode([entry.values for entry in decoded if entry.values is not None])
    except Exception as error:
        if len(decoded) > 1:
            return [encode_decoded(extractor, [entry])[0] for entry in decoded]
        logger.debug("The encoder of '%s' failed.", extractor.name, exc_info=True)
        reason = (str(error).strip().splitlines() or [""])[0]
        return [Outcome(None, Status.ERROR.value, f"the encoder failed: {type(error).__name__}: {reason}")]
    return [_checked(extractor, array, entry) for array, entry in zip(features, decoded, strict=True)]


def _checked(extractor: Extractor, features: np.ndarray, decoded: Decoded) -> Outcome:
    steps = features.shape[0] if extractor.is_sequence else 1
    if features.ndim != 1 + extractor.is_sequence or features.shape[-1] != extractor.feature_dim or not steps:
        return Outcome(None, Status.ERROR.value, f"the encoder returned the shape {features.shape}")
    if not np.isfinite(features).all():
        return Outcome(None, Status.ERROR.value, "the features are not finite")
    return Outcome(features, decoded.status.value, decoded.error)


def _failed(decoded: Decoded) -> Outcome:
    return Outcome(None, decoded.status.value, decoded.error)
