"""Rows of files in runs of equal length, in which a row that cannot be read is marked and ends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from mmadapters.data.files import ROOT, parse_csv, read_rows
from mmadapters.data.row_lines import Line, csv_header, csv_lines, json_lines, separator_of
from mmadapters.data.row_source import ShardFiles
from mmadapters.errors import DataError, listed

_ODD_LINE = "the line cannot be read as one row; check its quotes"


@dataclass(frozen=True)
class MarkedRows:
    """A run of rows of a file.

    Attributes:
        numbers: Numbers of all of them, counted from 0 over all files.
        frame: The rows that could be read, with their numbers as index.
        errors: By number, why one of the others could not be.
        ids: For each row of the run its id as the file has it, None where it is not known.
    """

    numbers: range
    frame: pd.DataFrame
    errors: dict[int, str]
    ids: list[Any]


def row_files(path: str | Path) -> list[Path]:
    """Return the files that a path, a folder or a pattern leads to.

    Raises:
        DataError: If there is none, or rows cannot be read from one.
    """
    given = Path(path).expanduser()
    if given.is_dir() or (not given.is_file() and any(letter in given.name for letter in "*?[")):
        return ShardFiles([given]).files
    if given.suffix.lower() not in _READERS:
        raise DataError(f"'{given}' has the ending '{given.suffix}'. Rows are read from {listed(_READERS)} files.")
    if not given.is_file():
        raise DataError(f"The file '{given}' does not exist. Give the path of a file with the rows.")
    return [given]


def marked_chunks(
    files: Sequence[Path], rows: int, id: str | None = None, skip: int = 0, texts: Sequence[str] = ()
) -> Iterator[MarkedRows]:
    """Read files in runs of rows; every file begins one.

    Files are read as ``read_rows`` does, each run by itself. The columns of texts are texts in each of them: a CSV file
    does not say what a column is, and ``007`` may stand among numbers alone.

    A line of CSV with more cells than there are column names, with bytes that are no UTF-8, or where a quote is opened
    and never closed, and a line of JSON that cannot be read, is one row that is marked.

    Args:
        files: CSV, TSV, JSON, JSON lines or Parquet.
        rows: Rows of a run; the last one of a file may have fewer.
        id: Column that names a row.
        skip: Runs at the start that are passed over.
        texts: Columns that are texts.

    Raises:
        DataError: If a file cannot be read as a whole, or there are no rows.
    """
    first = 0
    for file in files:
        for chunk in _READERS[file.suffix.lower()](file, rows, id, texts):
            numbers = range(first, first + len(chunk.ids))
            first = numbers.stop
            if skip:
                skip -= 1
                continue
            frame, errors = chunk.load()
            good = [number for place, number in enumerate(numbers) if place not in errors]
            frame.index = pd.Index(good, dtype="int64")
            frame.attrs = {ROOT: str(file.resolve().parent)}
            yield MarkedRows(numbers, frame, {numbers[place]: error for place, error in errors.items()}, chunk.ids)
    if not first:
        raise DataError(f"There are no rows in {listed(map(str, files))}. Give a file with at least one row.")


@dataclass(frozen=True)
class _Chunk:
    """A run of rows before it is parsed.

    Attributes:
        ids: For each row its id, or None.
        load: Returns the rows that can be read, and by place why the others cannot.
    """

    ids: list[Any]
    load: Callable[[], tuple[pd.DataFrame, dict[int, str]]]


def _csv_chunks(file: Path, rows: int, id: str | None, texts: Sequence[str]) -> Iterator[_Chunk]:
    header, columns = csv_header(file)

    def parse(lines: Sequence[str]) -> pd.DataFrame:
        return parse_csv("".join([header, *lines]), file, separator_of(file), texts)

    return _chunks_of_lines(csv_lines(file, None if id not in columns else columns.index(id)), rows, parse)


def _json_line_chunks(file: Path, rows: int, id: str | None, texts: Sequence[str]) -> Iterator[_Chunk]:
    return _chunks_of_lines(json_lines(file, id), rows, lambda records: pd.DataFrame(list(records)))


def _chunks_of_lines(
    lines: Iterator[Line], rows: int, parse: Callable[[Sequence[Any]], pd.DataFrame]
) -> Iterator[_Chunk]:
    while chunk := list(islice(lines, rows)):
        yield _Chunk([line.id for line in chunk], lambda chunk=chunk: _parsed(chunk, parse))  # type: ignore[misc]


def _parsed(
    lines: Sequence[Line], parse: Callable[[Sequence[Any]], pd.DataFrame]
) -> tuple[pd.DataFrame, dict[int, str]]:
    errors = {place: line.error for place, line in enumerate(lines) if line.error}
    frame = _frame([line.content for line in lines if not line.error], parse)
    if len(frame) + len(errors) != len(lines):
        # The parser sees other rows than the reader of lines did: those that are at odds with it are marked.
        for place, line in enumerate(lines):
            if place not in errors and len(_frame([line.content], parse)) != 1:
                errors[place] = f"{line.where}: {_ODD_LINE}"
        frame = _frame([line.content for place, line in enumerate(lines) if place not in errors], parse)
    return frame, errors


def _frame(contents: Sequence[Any], parse: Callable[[Sequence[Any]], pd.DataFrame]) -> pd.DataFrame:
    if not contents:
        return pd.DataFrame()
    try:
        return parse(contents)
    except DataError:
        return pd.DataFrame()


def _json_chunks(file: Path, rows: int, id: str | None, texts: Sequence[str]) -> Iterator[_Chunk]:
    return _chunks_of_frames(iter([read_rows(file)]), rows, id)


def _parquet_chunks(file: Path, rows: int, id: str | None, texts: Sequence[str]) -> Iterator[_Chunk]:
    source = ShardFiles([file])
    columns = pq.read_schema(file).names
    frames = (frame for piece in range(len(source.pieces)) for frame in source.read(piece, columns))
    return _chunks_of_frames(frames, rows, id)


def _chunks_of_frames(frames: Iterator[pd.DataFrame], rows: int, id: str | None) -> Iterator[_Chunk]:
    waiting: list[pd.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        while sum(map(len, waiting)) >= rows:
            together = pd.concat(waiting, ignore_index=True) if len(waiting) > 1 else waiting[0]
            yield _whole(together.iloc[:rows].copy(), id)
            waiting = [together.iloc[rows:]] if len(together) > rows else []
    if waiting:
        yield _whole(pd.concat(waiting, ignore_index=True), id)


def _whole(frame: pd.DataFrame, id: str | None) -> _Chunk:
    ids = [None] * len(frame) if id not in frame.columns else frame[id].tolist()
    return _Chunk(ids, lambda: (frame, {}))


_READERS: dict[str, Callable[[Path, int, str | None, Sequence[str]], Iterator[_Chunk]]] = {
    ".csv": _csv_chunks,
    ".tsv": _csv_chunks,
    ".jsonl": _json_line_chunks,
    ".ndjson": _json_line_chunks,
    ".json": _json_chunks,
    ".parquet": _parquet_chunks,
}
