"""Reads runs of rows out of the pieces of a source, going on where it stopped, and keeps the rows that are wanted."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmadapters.data.files import ROOT
from mmadapters.data.row_source import CHUNK_ROWS, RowSource
from mmadapters.errors import DataError


@dataclass(frozen=True)
class Run:
    """Rows of one piece that follow one another.

    Attributes:
        piece: Place of the piece in the source.
        start: Its first row in the piece.
        stop: The row after its last one.
    """

    piece: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Wanted:
    """Rows that are wanted of a run.

    Attributes:
        run: The run.
        places: Int64 (n,): their places in the run, ascending.
        numbers: Int64 (n,): what stands for each of them in what is read.
    """

    run: Run
    places: np.ndarray
    numbers: np.ndarray


class RowReader:
    """Reads a source run by run. A run that begins where the one before ended is read on from there.

    Args:
        source: The rows.
        columns: Columns to read.
    """

    def __init__(self, source: RowSource, columns: Sequence[str]) -> None:
        self._source = source
        self._columns = list(columns)
        self._frames: Iterator[pd.DataFrame] = iter(())
        self._left: pd.DataFrame | None = None
        self._piece = -1
        self._row = 0

    def read(self, parts: Iterable[Wanted]) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Yield the wanted rows, up to ``CHUNK_ROWS`` at a time where they are few.

        Args:
            parts: Runs with the rows that are wanted of them.

        Yields:
            What stands for the rows, and the rows.

        Raises:
            DataError: If a piece cannot be read, or has fewer rows than were counted.
        """
        kept: list[tuple[np.ndarray, pd.DataFrame]] = []
        for part in parts:
            start = 0
            for frame in self._frames_of(part.run):
                first, last = np.searchsorted(part.places, [start, start + len(frame)])
                chosen = part.places[first:last] - start
                start += len(frame)
                if not len(chosen):
                    continue
                if kept and not _fit_together(kept, frame, len(chosen)):
                    yield _joined(kept)
                    kept = []
                kept.append((part.numbers[first:last], _rows_at(frame, chosen)))
        if kept:
            yield _joined(kept)

    def _frames_of(self, run: Run) -> Iterator[pd.DataFrame]:
        if run.piece != self._piece or run.start < self._row:
            self._frames = self._source.read(run.piece, self._columns, skip=run.start)
            self._piece, self._row, self._left = run.piece, run.start, None
        while self._row < run.stop:
            frame = self._next_frame() if self._left is None else self._left
            within = frame.iloc[max(run.start - self._row, 0) : run.stop - self._row]
            end = self._row + len(frame)
            self._left = frame.iloc[run.stop - self._row :] if end > run.stop else None
            self._row = min(end, run.stop)
            if len(within):
                yield within

    def _next_frame(self) -> pd.DataFrame:
        name = self._source.pieces[self._piece].name
        with named_rows(name):
            frame = next(self._frames, None)
        if frame is None:
            raise rows_changed(name)
        return with_columns(frame, self._columns)


def with_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return rows with exactly these columns; one that no row of theirs has is missing in all of them."""
    return frame if list(frame.columns) == list(columns) else frame.reindex(columns=list(columns))


@contextmanager
def named_rows(name: str) -> Iterator[None]:
    """Put the name of the file in front of what is wrong with its rows."""
    try:
        yield
    except DataError as error:
        if name in str(error):
            raise
        raise DataError(f"In '{name}': {error}") from error


def rows_changed(name: str) -> DataError:
    """Return the error that a source does not give the rows that it gave before."""
    return DataError(
        f"'{name}' does not hold the rows that were counted at the start. Streamed rows have to be the same, in the "
        "same order, each time that they are read: do not change files during a training, and give no object that "
        "shuffles or filters anew."
    )


def _rows_at(frame: pd.DataFrame, places: np.ndarray) -> pd.DataFrame:
    if len(places) == len(frame):
        return frame
    chosen = frame.iloc[places]
    chosen.attrs = frame.attrs
    return chosen


def _fit_together(kept: list[tuple[np.ndarray, pd.DataFrame]], frame: pd.DataFrame, rows: int) -> bool:
    """Tell whether rows can join those that are kept: paths in them start from the same folder, and they are few."""
    same_root = kept[0][1].attrs.get(ROOT) == frame.attrs.get(ROOT)
    return same_root and rows + sum(len(places) for places, _ in kept) <= CHUNK_ROWS


def _joined(kept: list[tuple[np.ndarray, pd.DataFrame]]) -> tuple[np.ndarray, pd.DataFrame]:
    if len(kept) == 1:
        return kept[0]
    with warnings.catch_warnings():
        # Of pandas 2: columns that are empty in a part have no say in the type of the whole any more, one day.
        warnings.simplefilter("ignore", FutureWarning)
        frame = pd.concat([part for _, part in kept])
    frame.attrs = kept[0][1].attrs
    return np.concatenate([places for places, _ in kept]), frame
