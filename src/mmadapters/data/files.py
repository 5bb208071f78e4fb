"""Rows of CSV, JSON and Parquet files as data frames, the way back, and the parts that rows are split into."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from pyarrow.lib import ArrowException

from mmadapters.errors import ConfigurationError, DataError, listed

ROOT = "root"
"""Key of ``frame.attrs`` under which ``read_rows`` keeps the folder that relative ``.npy`` paths start from."""


def read_rows(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the rows of a file.

    The ending decides how: ``.csv`` (comma), ``.tsv`` (tab), ``.jsonl`` and ``.ndjson`` (one object a line), ``.json``
    (a list of objects), ``.parquet``. CSV files are UTF-8 with a header; only empty cells are missing, so a text such
    as ``NA`` or ``None`` stays a text, and columns of numbers are read as numbers.

    Args:
        path: The file.

    Returns:
        N rows, numbered from 0; ``frame.attrs["root"]`` is the file's folder, from which relative ``.npy`` paths are
        read.

    Raises:
        DataError: If the file does not exist, has another ending, no rows or a column name twice, or cannot be read.
    """
    file = Path(path).expanduser()
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"'{file}' has the ending '{file.suffix}'. Rows are read from {listed(_READERS)} files.")
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise DataError(f"The file '{file}' {what}. Give the path of a file with the rows.")
    with named_decoding_errors(file):
        frame = reader(file)
    if frame.empty:
        raise DataError(f"'{file}' has no rows. Give a file with at least one row below the column names.")
    check_unique(file, frame.columns)
    frame.attrs = {ROOT: str(file.resolve().parent)}
    return frame


@contextmanager
def named_decoding_errors(file: Path) -> Iterator[None]:
    """Raise a ``DataError`` that names the file where its text is not UTF-8."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{file}' is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error


def write_rows(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write rows to a file that ``read_rows`` can read; its ending decides how, and the frame's index is left out.

    A file that is there already is replaced once the new one is complete. A folder that does not exist is made.

    Raises:
        DataError: If the file's ending is unknown, a folder has its path, or it cannot be written.
    """
    check_writable_rows(path)
    file = Path(path).expanduser()
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[file.suffix.lower()](frame, partial)
        os.replace(partial, file)
    except OSError as error:
        raise DataError(f"'{file}' cannot be written: {error.strerror or error}. Choose another place.") from error
    finally:
        if partial.is_file():
            partial.unlink()


def check_writable_rows(path: str | os.PathLike[str]) -> None:
    """Check that ``write_rows`` knows what to write to a path, before work is done for it.

    Raises:
        DataError: If the file's ending is unknown, or a folder has its path.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in _WRITERS:
        raise DataError(f"'{file}' has the ending '{file.suffix}'. Rows are written to {listed(_WRITERS)} files.")
    if file.is_dir():
        raise DataError(f"'{file}' is a folder. Give the path of a file to write the rows to.")


def split_rows(frame: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> dict[str, pd.DataFrame]:
    """Split rows at random, each row into exactly one part.

    The rows are permuted with ``numpy.random.default_rng(seed)``. With N rows and ``F_k`` the sum of the fractions up
    to part k, that part takes the permuted rows from ``round(N * F_(k-1))`` to ``round(N * F_k)``, halves rounded up,
    so its size differs from ``N`` times its fraction by at most 1. Within a part the rows keep the order and the index
    of the frame.

    Args:
        frame: N rows.
        fractions: Share of each part by its name, for example ``{"train": 0.7, "validation": 0.1, "test": 0.2}``; they
            sum to 1.
        seed: A whole number of at least 0.

    Returns:
        The parts in the order of ``fractions``.

    Raises:
        ConfigurationError: If a fraction is not above 0, they do not sum to 1 or the seed cannot be used.
        DataError: If a part would have no row.
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise ConfigurationError(f"seed={seed!r} cannot be used. Give a whole number of at least 0.")
    if not fractions or not all(fraction > 0 for fraction in fractions.values()):
        raise ConfigurationError(f"fractions={dict(fractions)} cannot be used. Give every part a share above 0.")
    total = sum(fractions.values())
    if abs(total - 1.0) > 1e-6:
        raise ConfigurationError(
            f"fractions={dict(fractions)} sum to {total:.6g}. The shares of the parts have to sum to 1."
        )
    rows = len(frame)
    ends = np.floor(np.round(np.cumsum(list(fractions.values())) * rows, 6) + 0.5).astype(int)
    ends[-1] = rows
    parts = np.split(np.random.default_rng(seed).permutation(rows), ends[:-1])
    for name, part in zip(fractions, parts, strict=True):
        if not len(part):
            raise DataError(
                f"{rows} rows are too few to give part '{name}' ({fractions[name]:g}) a row. Give more rows or a "
                "larger share."
            )
    return {name: _rows_at(frame, np.sort(part)) for name, part in zip(fractions, parts, strict=True)}


def _rows_at(frame: pd.DataFrame, positions: np.ndarray) -> pd.DataFrame:
    part = frame.iloc[positions].copy()
    part.attrs = dict(frame.attrs)
    return part


def check_unique(file: Path, names: Any) -> None:
    """Refuse a file that names a column twice.

    Args:
        file: The file.
        names: Its columns.

    Raises:
        DataError: Then.
    """
    repeated = [str(name) for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"'{file}' has more than one column {listed(repeated)}. Rename all but one.")


def _read_csv(file: Path) -> pd.DataFrame:
    return _read_delimited(file, ",")


def _read_tsv(file: Path) -> pd.DataFrame:
    return _read_delimited(file, "\t")


_CSV_OPTIONS: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"}


def _read_delimited(file: Path, separator: str) -> pd.DataFrame:
    columns = _csv_columns(file, separator)
    with _named_csv_errors(file, columns):
        return _parsed_csv(file, separator)


def _parsed_csv(source: Path | TextIO, separator: str, texts: Sequence[str] = ()) -> pd.DataFrame:
    dtype: Any = dict.fromkeys(texts, object)
    return pd.read_csv(source, low_memory=False, index_col=False, sep=separator, dtype=dtype, **_CSV_OPTIONS)


def parse_csv(text: str, file: Path, separator: str, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Parse some lines of a file, the one with the column names first, as ``read_rows`` parses all of it.

    Args:
        text: The lines.
        file: Where they are from, for messages.
        separator: Text between cells.
        texts: Columns whose cells stay texts, also where they all are numbers.

    Raises:
        DataError: If they cannot be read.
    """
    with _named_csv_errors(file, text.count(separator, 0, text.find("\n")) + 1):
        return _parsed_csv(StringIO(text, newline=""), separator, texts)


def csv_chunks(file: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Read a ``.csv`` or ``.tsv`` file as ``read_rows`` does, from its start and some rows at a time.

    The type of a column is found for each chunk anew.

    Args:
        file: The file.
        rows: Rows of a chunk; the last one may have fewer.

    Raises:
        DataError: If it cannot be read.
    """
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    columns = _csv_columns(file, separator)
    options: dict[str, Any] = {"sep": separator, "chunksize": rows, "index_col": False, **_CSV_OPTIONS}
    with pd.read_csv(file, low_memory=False, **options) as chunks:
        while True:
            with _named_csv_errors(file, columns):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk


def _csv_columns(file: Path, separator: str) -> int:
    """Return the number of columns that a file names, each once."""
    with _named_csv_errors(file, 0):
        header = pd.read_csv(file, header=None, nrows=1, dtype=str, sep=separator, **_CSV_OPTIONS)
    check_unique(file, [name for name in header.iloc[0] if isinstance(name, str)])
    return header.shape[1]


@contextmanager
def _named_csv_errors(file: Path, columns: int) -> Iterator[None]:
    """Say in words what is wrong with a file that cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.EmptyDataError as error:
        raise DataError(f"'{file}' is empty. Give a file with column names and at least one row.") from error
    except pd.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise DataError(f"'{file}' cannot be read: {reason}. Check that line's separators and quotes.") from error
    except pd.errors.ParserWarning as warning:
        raise DataError(
            f"'{file}' has rows with more cells than there are column names ({columns}). Name every column, "
            "and put text that holds the separator in quotes."
        ) from warning


def _read_json_lines(file: Path) -> pd.DataFrame:
    return pd.DataFrame(list(json_records(file)))


def json_records(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file with one JSON object a line, reading line by line.

    Raises:
        DataError: If a line is none.
    """
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield json_record(line, f"line {number} of '{file}'")


def json_record(line: str, where: str) -> dict[str, Any]:
    """Return the object that a line of JSON is.

    Args:
        line: The line.
        where: It is from, for messages.

    Raises:
        DataError: If it is none.
    """
    return _record(_parsed(where, line), f"{where[0].upper()}{where[1:]}")


def _read_json(file: Path) -> pd.DataFrame:
    text = file.read_text(encoding="utf-8-sig")
    entries = _parsed(f"'{file}'", text) if text.strip() else []
    if not isinstance(entries, list):
        raise DataError(
            f"'{file}' holds a JSON {type(entries).__name__}. Accepted is a list with one object for each row; use "
            "the ending '.jsonl' for one object a line."
        )
    return pd.DataFrame([_record(entry, f"Entry {place} of '{file}'") for place, entry in enumerate(entries)])


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, character {error.colno}" if "\n" in text.strip() else f"character {error.colno}"
        raise DataError(f"JSON is broken in {where}: {error.msg} at {place}.") from error
    except _RepeatedKeyError as error:
        raise DataError(
            f"An object in {where} has more than one key {listed(error.args)}. Rename all but one."
        ) from error


class _RepeatedKeyError(Exception):
    """A JSON object has a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise _RepeatedKeyError(*(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
    return record


def _record(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise DataError(
            f'{where} is a JSON {type(entry).__name__}. Accepted is one object a row, such as {{"text": …}}.'
        )
    return entry


def _read_parquet(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(file)
    except (ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"'{file}' cannot be read as Parquet: {reason}") from error
    return frame.reset_index(drop=all(name is None for name in frame.index.names))


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _write_csv(frame: pd.DataFrame, file: Path) -> None:
    frame.to_csv(file, index=False)


def _write_tsv(frame: pd.DataFrame, file: Path) -> None:
    frame.to_csv(file, index=False, sep="\t")


def _write_json_lines(frame: pd.DataFrame, file: Path) -> None:
    _write_records(frame, file, lines=True)


def _write_json(frame: pd.DataFrame, file: Path) -> None:
    _write_records(frame, file, lines=False)


def _write_records(frame: pd.DataFrame, file: Path, lines: bool) -> None:
    frame.to_json(file, orient="records", lines=lines, force_ascii=False, double_precision=15, date_format="iso")


def _write_parquet(frame: pd.DataFrame, file: Path) -> None:
    frame.to_parquet(file, index=False)


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
