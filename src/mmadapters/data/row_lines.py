"""Lines of CSV and JSON files that are one row each, and lines that should be one and are not."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from mmadapters.data.files import check_unique, json_record
from mmadapters.errors import DataError

MOST_LINES = 10_000
"""Lines of a file that one row of CSV may take."""

_MOST_CHARACTERS = 64 << 20
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_NO_UTF8 = "it is not UTF-8 text"
_UNCLOSED = "a quote is opened and never closed"


@dataclass(frozen=True)
class Line:
    """What should be a row.

    Attributes:
        content: Its text, or the object that it is.
        where: It is from, for people.
        error: Why it is no row; empty where it is one.
        id: Its id as it stands there, or None.
    """

    content: Any
    where: str
    error: str = ""
    id: Any = None


def separator_of(file: Path) -> str:
    """Return what stands between the cells of a file."""
    return "\t" if file.suffix.lower() == ".tsv" else ","


def csv_header(file: Path) -> tuple[str, list[str]]:
    """Return the line with the column names, with its end, and the names.

    Args:
        file: A ``.csv`` or ``.tsv`` file.

    Raises:
        DataError: If there is none, it is no UTF-8 text, or a name is there twice.
    """
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Lines(text)
        names = _header(lines, separator_of(file))
    if not names:
        raise DataError(f"'{file}' is empty. Give a file with column names and at least one row.")
    if any(_NOT_UTF8.search(name) for name in names):
        raise DataError(f"The column names of '{file}' are not UTF-8 text. Save it as UTF-8.")
    check_unique(file, [name for name in names if name])
    return _with_end(lines.taken), names


def csv_lines(file: Path, id: int | None) -> Iterator[Line]:
    """Yield the rows of a CSV file below its header, as text.

    A row may take several lines, within quotes. Where it is none, its first line alone is, and the next one is looked
    at anew. Blank lines are passed over.

    Args:
        file: A ``.csv`` or ``.tsv`` file.
        id: Place of the id's column, or None.
    """
    separator = separator_of(file)
    limit = csv.field_size_limit()
    csv.field_size_limit(max(limit, _MOST_CHARACTERS))
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            lines = _Lines(text)
            columns = len(_header(lines, separator))
            reader = csv.reader(lines, delimiter=separator)
            while True:
                lines.start()
                cells, problem = _next_record(reader, lines)
                if cells is None and not problem:
                    return
                if not problem and not "".join(lines.taken).strip(" \t\r\n".replace(separator, "")):
                    continue
                problem = problem or _wrong_with(cells or [], columns, lines.taken)
                where = f"line {lines.number + 1} of '{file.name}'"
                if problem:
                    lines.take_back()
                    reader = csv.reader(lines, delimiter=separator)
                    yield Line("", where, f"{where}: {problem}", _cell(cells, id))
                else:
                    yield Line(_with_end(lines.taken), where, id=_cell(cells, id))
    finally:
        csv.field_size_limit(limit)


def json_lines(file: Path, id: str | None) -> Iterator[Line]:
    """Yield the rows of a file with one JSON object a line, as objects.

    Args:
        file: A ``.jsonl`` or ``.ndjson`` file.
        id: Key of the id, or None.
    """
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number} of '{file.name}'"
            if _NOT_UTF8.search(line):
                yield Line({}, where, f"{where}: {_NO_UTF8}")
                continue
            try:
                record = json_record(line, where)
            except DataError as error:
                yield Line({}, where, str(error))
            else:
                yield Line(record, where, id=None if id is None else record.get(id))


class _Lines:
    """Lines of a text file for the reader of records, which may be taken back.

    Attributes:
        taken: Lines of the record that is being read.
        number: How many lines there were before it.
        ended: Whether the record asked for a line more than there are.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._characters = 0
        self.taken: list[str] = []
        self.number = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MOST_LINES or self._characters > _MOST_CHARACTERS:
            raise _TooLongError
        line = self._again.popleft() if self._again else self._file.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.taken.append(line)
        self._characters += len(line)
        return line

    def start(self) -> None:
        """Begin a record."""
        self.number += len(self.taken)
        self.taken = []
        self._characters = 0
        self.ended = False

    def take_back(self) -> None:
        """Leave the record at its first line."""
        self._again.extendleft(reversed(self.taken[1:]))
        self.taken = self.taken[:1]


class _TooLongError(Exception):
    """A record does not end."""


def _header(lines: _Lines, separator: str) -> list[str]:
    for cells in csv.reader(lines, delimiter=separator):
        if cells:
            return cells
        lines.start()
    return []


def _next_record(reader: Iterator[list[str]], lines: _Lines) -> tuple[list[str] | None, str]:
    """Return the cells of the next record, None at the end, and what is wrong with its form."""
    try:
        cells = next(reader, None)
    except _TooLongError:
        return None, _UNCLOSED
    except csv.Error as error:
        return None, str(error)
    return cells, _UNCLOSED if cells is not None and lines.ended else ""


def _wrong_with(cells: list[str], columns: int, taken: Sequence[str]) -> str:
    if len(cells) > columns:
        return f"{len(cells)} cells for {columns} columns; put text that holds the separator in quotes"
    return _NO_UTF8 if any(_NOT_UTF8.search(line) for line in taken) else ""


def _cell(cells: Sequence[str] | None, place: int | None) -> str | None:
    if cells is None or place is None or place >= len(cells):
        return None
    return cells[place].encode("utf-8", "replace").decode("utf-8")


def _with_end(taken: Sequence[str]) -> str:
    text = "".join(taken)
    return text if text.endswith(("\n", "\r")) else f"{text}\n"
