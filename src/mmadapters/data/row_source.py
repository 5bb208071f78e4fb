"""Rows that are read piece by piece and never held as a whole: shards on disk, or objects that can be iterated."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmadapters.data.files import ROOT, csv_chunks, json_records, named_decoding_errors
from mmadapters.errors import DataError, listed
from mmadapters.features.table_columns import require_columns

CHUNK_ROWS = 1024
"""Rows that are read at a time."""

_READ_BYTES = 1 << 18
"""Of a Parquet column, so many bytes are read from disk at a time."""

RowsGiven = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Piece:
    """A part of the rows that can be read without those before it.

    Attributes:
        name: File that it is of, or what stands for it in messages.
        rows: Number of its rows, or None where it takes a reading to know.
        first_row: Number, from 0, of its first row in the file.
        row_groups: Of a Parquet file, the row groups that it is.
    """

    name: str
    rows: int | None
    first_row: int = 0
    row_groups: tuple[int, ...] = ()


class RowSource(Protocol):
    """Rows that can be read again and again, in the same order each time."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """The pieces, in the order of the rows."""
        ...

    @property
    def readable_in_workers(self) -> bool:
        """Whether the worker processes of a data loader may read it."""
        ...

    def names(self) -> list[str]:
        """Return the names of the columns that the first rows have."""
        ...

    def read(self, piece: int, columns: Sequence[str], skip: int = 0) -> Iterator[pd.DataFrame]:
        """Yield the rows of a piece as frames of at most ``CHUNK_ROWS``, numbered as in their file.

        Args:
            piece: Place of the piece.
            columns: Columns to read. One that a frame's rows all lack may be absent from it where rows are objects with
                keys, such as those of JSON lines.
            skip: Rows at the start that are left out.

        Raises:
            DataError: If the piece cannot be read, or lacks a column.
        """
        ...


def row_source(rows: RowsGiven | RowSource) -> RowSource:
    """Return what reads the given rows.

    Args:
        rows: A file, a folder, a pattern such as ``"shards/*.parquet"`` or a list of these: Parquet, CSV, TSV or JSON
            lines (``.jsonl``, ``.ndjson``); or an object that gives dictionaries, one a row, each time that it is
            iterated, such as a Hugging Face ``datasets.IterableDataset``; or what is a ``RowSource`` already.

    Raises:
        DataError: If there is nothing to read, or it cannot be read twice.
    """
    if hasattr(rows, "pieces") and hasattr(rows, "readable_in_workers"):
        return cast(RowSource, rows)
    if isinstance(rows, (str, os.PathLike)):
        return ShardFiles([rows])
    if isinstance(rows, (list, tuple)) and rows and all(isinstance(entry, (str, os.PathLike)) for entry in rows):
        return ShardFiles(rows)
    return RowIterable(rows)  # type: ignore[arg-type]


class ShardFiles:
    """The rows of files: those of Parquet files by row groups, those of CSV and JSON lines from their start.

    Files named by a folder or a pattern are taken in the order of their names. Of a folder, files with other endings
    are passed over, and those whose names start with ``.`` or ``_``.

    Args:
        paths: Files, folders and patterns.

    Raises:
        DataError: If one leads to no file, a file's rows cannot be streamed, or a Parquet file is damaged.
    """

    readable_in_workers = True

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self.files = [file for path in paths for file in _files_of(path)]
        self.pieces: list[Piece] = []
        for file in self.files:
            self.pieces += _parquet_pieces(file) if file.suffix.lower() == ".parquet" else [Piece(str(file), None)]

    def names(self) -> list[str]:
        """Return the names of the columns of the first file; of JSON lines, those that its first rows have."""
        file = self.files[0]
        reader = _READERS[file.suffix.lower()]
        if reader is _read_json_lines:
            return _names_in(json_records(file))
        if reader is _read_csv:
            return [str(name) for name in next(csv_chunks(file, 1)).columns]
        with _opened_parquet(file) as parquet:
            return list(parquet.schema_arrow.names)

    def read(self, piece: int, columns: Sequence[str], skip: int = 0) -> Iterator[pd.DataFrame]:
        """Yield the rows of a piece; see ``RowSource``."""
        part = self.pieces[piece]
        file = Path(part.name)
        row = part.first_row + skip
        frames = _READERS[file.suffix.lower()](file, part, columns, skip)
        while True:
            with named_decoding_errors(file):
                frame = next(frames, None)
            if frame is None:
                return
            frame.index = pd.RangeIndex(row, row + len(frame))
            frame.attrs = {ROOT: str(file.resolve().parent)}
            row += len(frame)
            yield frame


class RowIterable:
    """The rows of an object that gives them, as dictionaries, each time that it is iterated.

    Args:
        rows: The object.

    Raises:
        DataError: If it cannot be iterated, or only once.
    """

    readable_in_workers = False
    """Objects may share themselves out among the workers, as those of ``datasets`` do, or not be copied at all."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        accepted = (
            "Accepted are a file, a folder, a pattern, a list of these, or an object that gives dictionaries each time "
            "that it is iterated, such as a datasets.IterableDataset."
        )
        if isinstance(rows, (pd.DataFrame, Mapping)) or not isinstance(rows, Iterable):
            raise DataError(f"A {type(rows).__name__} was given as rows to stream. {accepted}")
        if isinstance(rows, Iterator):
            raise DataError(
                f"A {type(rows).__name__} was given as rows to stream, which can be gone through only once, and every "
                f"epoch goes through the rows anew. {accepted}"
            )
        self._rows = rows
        self.pieces = [Piece(f"the {type(rows).__name__}", None)]

    def names(self) -> list[str]:
        """Return the names of the columns that the first rows have."""
        return _names_in(iter(self._rows))

    def read(self, piece: int, columns: Sequence[str], skip: int = 0) -> Iterator[pd.DataFrame]:
        """Yield the rows; see ``RowSource``."""
        row = skip
        for frame in _record_frames(islice(iter(self._rows), skip, None), columns):
            frame.index = pd.RangeIndex(row, row + len(frame))
            row += len(frame)
            yield frame


def _files_of(path: str | os.PathLike[str]) -> list[Path]:
    given = Path(path).expanduser()
    if given.is_dir():
        files = [file for file in sorted(given.iterdir()) if _is_shard(file)]
        kinds = sorted({file.suffix.lower() for file in files})
        if len(kinds) > 1:
            raise DataError(
                f"The folder '{given}' has files with the endings {listed(kinds)}. Name those with the rows by a "
                f"pattern, such as '{given / '*.parquet'}'."
            )
    elif given.is_file():
        files = [given]
    else:
        files = [file for file in map(Path, sorted(glob.glob(str(given), recursive=True))) if file.is_file()]
    if not files:
        raise DataError(
            f"'{given}' leads to no file with rows. Give a file, a folder of shards, or a pattern such as "
            f"'shards/*.parquet' ('**' stands for any folders); the endings are {listed(_READERS)}."
        )
    for file in files:
        if file.suffix.lower() not in _READERS:
            raise DataError(
                f"'{file}' has the ending '{file.suffix}'. Rows are streamed from {listed(_READERS)} files; write it "
                "as one of these."
            )
    return files


def _is_shard(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in _READERS and file.name[0] not in "._"


def _parquet_pieces(file: Path) -> list[Piece]:
    """Return row groups of a Parquet file, neighbours together until they have ``CHUNK_ROWS`` rows."""
    with _opened_parquet(file) as parquet:
        sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.metadata.num_row_groups)]
    pieces: list[Piece] = []
    groups: list[int] = []
    rows = first = 0
    for group, size in enumerate(sizes):
        groups.append(group)
        rows += size
        if rows >= CHUNK_ROWS or group == len(sizes) - 1:
            if rows:
                pieces.append(Piece(str(file), rows, first, tuple(groups)))
            first, rows, groups = first + rows, 0, []
    return pieces


def _opened_parquet(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, buffer_size=_READ_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"'{file}' cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _read_parquet(file: Path, piece: Piece, columns: Sequence[str], skip: int) -> Iterator[pd.DataFrame]:
    with _opened_parquet(file) as parquet:
        require_columns(pd.DataFrame(columns=parquet.schema_arrow.names), columns)
        # Without threads: a process that was forked has none of those of its parent.
        batches = parquet.iter_batches(CHUNK_ROWS, list(piece.row_groups), list(columns), use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"'{file}' cannot be read as Parquet: {str(error).splitlines()[0]}") from error
            if batch is None:
                return
            wanted = batch.slice(min(skip, batch.num_rows))
            skip -= batch.num_rows - wanted.num_rows
            if wanted.num_rows:
                yield wanted.to_pandas(ignore_metadata=True, use_threads=False)


def _read_csv(file: Path, piece: Piece, columns: Sequence[str], skip: int) -> Iterator[pd.DataFrame]:
    for frame in csv_chunks(file, CHUNK_ROWS):
        require_columns(frame, columns)
        wanted = frame.loc[:, list(columns)].iloc[skip:]
        skip -= len(frame) - len(wanted)
        if len(wanted):
            yield wanted


def _read_json_lines(file: Path, piece: Piece, columns: Sequence[str], skip: int) -> Iterator[pd.DataFrame]:
    return _record_frames(islice(json_records(file), skip, None), columns)


def _record_frames(records: Iterator[Any], columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    row = 0
    while chunk := list(islice(records, CHUNK_ROWS)):
        for record in chunk:
            if not isinstance(record, Mapping):
                raise DataError(
                    f"Row {row} is a {type(record).__name__}. Accepted is one dictionary a row, of values by column."
                )
            row += 1
        yield pd.DataFrame([{name: record[name] for name in columns if name in record} for record in chunk])


def _names_in(records: Iterator[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for record in islice(records, CHUNK_ROWS) for name in record))


_READERS: dict[str, Callable[[Path, Piece, Sequence[str], int], Iterator[pd.DataFrame]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
