"""One chunk of rows: files hashed, decoded in worker processes and encoded in batches, results in the rows' order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import cast

import numpy as np

from mmadapters.features.decoding import HashMedia, ReadMedia
from mmadapters.features.extract_rows import MediaRow
from mmadapters.features.extractor import Extractor
from mmadapters.features.guard import GuardedPool
from mmadapters.features.outcome import Decoded, Status

logger = logging.getLogger(__name__)


Key = tuple[str, str]
"""Modality and digest of a file's content: what is encoded once."""


@dataclass(frozen=True)
class Outcome:
    """What became of one cell.

    Attributes:
        values: (D,) or (T, D) in the type of the store's column, or None.
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
class ChunkFile:
    """A file of a chunk, for all cells with the same content.

    Attributes:
        modality: Of the cells.
        digest: Of the content.
        path: As the first of the cells has it.
        places: Row numbers of the cells within the chunk.
    """

    modality: str
    digest: str
    path: str
    places: tuple[int, ...]

    @property
    def key(self) -> Key:
        """Modality and digest."""
        return self.modality, self.digest


@dataclass(frozen=True)
class HashedChunk:
    """A chunk whose files have been read once, and not yet decoded.

    Attributes:
        rows: By modality, for each row: missing or an error where that is all that will become of the cell.
        files: What the other cells hold, modality by modality, in the order of the rows.
    """

    rows: list[dict[str, Outcome]]
    files: list[ChunkFile]


@dataclass(frozen=True)
class EncodedFile:
    """What became of one file.

    Attributes:
        key: Modality and digest.
        outcome: The features, or why there are none.
        encoded: Whether the encoder made features of it, whatever the store says to them.
    """

    key: Key
    outcome: Outcome
    encoded: bool


@dataclass(frozen=True)
class ChunkResult:
    """Outcomes of a chunk.

    Attributes:
        rows: By modality, for each row in its order.
        encoded: By modality, number of files that went through the encoder.
    """

    rows: list[dict[str, Outcome]]
    encoded: dict[str, int]


class ChunkExtractor:
    """Extracts chunks of rows: ``hash``, then ``encode`` for the files that the store does not know.

    What is encoded together depends on the chunk's files alone, never on the order in which workers finish.

    Args:
        pool: The worker processes.
        extractors: By modality.
        dtypes: Of the store's columns, by modality.
        hash_media: Runs in a worker: digest of a path's content.
        read_media: Runs in a worker: decodes a path; one for each modality.
    """

    def __init__(
        self,
        pool: GuardedPool,
        extractors: Mapping[str, Extractor],
        dtypes: Mapping[str, np.dtype],
        hash_media: HashMedia,
        read_media: Mapping[str, ReadMedia],
    ) -> None:
        self._pool = pool
        self._extractors = extractors
        self._dtypes = dtypes
        self._hash = hash_media
        self._read = read_media
        # Number of files that may be decoded ahead of the encoder.
        self._window = 2 * pool.workers + 1

    def run(self, rows: Sequence[MediaRow], known: Known, advance: Callable[[float], None]) -> ChunkResult:
        """Extract a chunk.

        Args:
            rows: The rows.
            known: What the store has already.
            advance: Is told the share of the chunk, from 0 to 1, that has been done.

        Returns:
            The outcomes; every cell has one, whatever its file was like.
        """
        hashed = self.hash(rows)
        there, unknown = divided(hashed.files, known)
        return assembled(hashed, there, self.encode(unknown), advance)

    def hash(self, rows: Sequence[MediaRow]) -> HashedChunk:
        """Find out which files the rows have, and which are the same."""
        outcomes = [{name: Outcome(None, Status.MISSING.value) for name in self._extractors} for _ in rows]
        wanted = [
            (place, name, path)
            for name in self._extractors
            for place, row in enumerate(rows)
            if (path := row.paths[name]) is not None
        ]
        jobs = ((self._hash, path) for _, _, path in wanted)
        cells: dict[Key, tuple[str, list[int]]] = {}
        for (place, name, path), found in zip(wanted, self._in_order(jobs, len(wanted)), strict=True):
            if found.values is None:
                outcomes[place][name] = _failed(found)
            else:
                cells.setdefault((name, found.values.tobytes().hex()), (path, []))[1].append(place)
        files = [ChunkFile(*key, path, tuple(places)) for key, (path, places) in cells.items()]
        return HashedChunk(outcomes, files)

    def encode(self, files: Sequence[ChunkFile]) -> Iterator[EncodedFile]:
        """Decode files and encode them in batches; files of a modality follow each other.

        Yields:
            What became of each; a file that cannot be decoded may come before those of its batch.
        """
        batch: list[tuple[ChunkFile, Decoded]] = []
        jobs = ((self._read[file.modality], file.path) for file in files)
        for file, decoded in zip(files, self._in_order(jobs, len(files)), strict=True):
            if batch and batch[0][0].modality != file.modality:
                yield from self._encoded(batch)
                batch = []
            if decoded.values is None:
                yield EncodedFile(file.key, _failed(decoded), False)
                continue
            batch.append((file, decoded))
            if len(batch) >= self._extractors[file.modality].batch_size:
                yield from self._encoded(batch)
                batch = []
        if batch:
            yield from self._encoded(batch)

    def _encoded(self, batch: Sequence[tuple[ChunkFile, Decoded]]) -> Iterator[EncodedFile]:
        name = batch[0][0].modality
        outcomes = encode_decoded(self._extractors[name], [decoded for _, decoded in batch])
        for (file, _), outcome in zip(batch, outcomes, strict=True):
            kept = storable(outcome, self._dtypes[name])
            digest = None if kept.values is None else file.digest
            yield EncodedFile(file.key, replace(kept, digest=digest), outcome.values is not None)

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


def divided(files: Sequence[ChunkFile], known: Known) -> tuple[dict[Key, Outcome], list[ChunkFile]]:
    """Return what the store has of files, and the files that it does not know."""
    there: dict[Key, Outcome] = {}
    unknown: list[ChunkFile] = []
    for file in files:
        outcome = known(*file.key)
        if outcome is None:
            unknown.append(file)
        else:
            there[file.key] = outcome
    return there, unknown


def assembled(
    hashed: HashedChunk,
    there: Mapping[Key, Outcome],
    encoded: Iterable[EncodedFile],
    advance: Callable[[float], None] = lambda share: None,
) -> ChunkResult:
    """Give every cell of a chunk its outcome.

    Args:
        hashed: The chunk.
        there: What the store has of its files.
        encoded: What became of the others.
        advance: Is told the share of the files, from 0 to 1, that have been done.
    """
    rows = [dict(row) for row in hashed.rows]
    counts = {name: 0 for row in rows[:1] for name in row}
    places = {file.key: file.places for file in hashed.files}
    known = (EncodedFile(key, outcome, False) for key, outcome in there.items())
    for count, entry in enumerate(chain(known, encoded), start=1):
        name, first = entry.key[0], places[entry.key][0]
        for place in places[entry.key]:
            rows[place][name] = replace(entry.outcome, digest=None)
        rows[first][name] = entry.outcome
        counts[name] += entry.encoded
        advance(count / len(places))
    return ChunkResult(rows, counts)


def storable(outcome: Outcome, dtype: np.dtype) -> Outcome:
    """Return the outcome in the type of a column, as an error where that cannot hold its numbers."""
    if outcome.values is None or outcome.values.dtype == dtype:
        return outcome
    largest = float(np.abs(outcome.values).max())
    if largest <= float(np.finfo(dtype).max):
        return replace(outcome, values=outcome.values.astype(dtype))
    return Outcome(None, Status.ERROR.value, f"a feature of {largest:g} does not fit into {dtype}; use float32")


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
