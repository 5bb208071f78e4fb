"""Cells that are paths, as what names the content of their files wherever these are: a digest."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from mmadapters.data.files import ROOT
from mmadapters.features.cells import is_missing
from mmadapters.features.decoding import HashMedia
from mmadapters.features.guard import Limits, MediaError, safe_path

REMEMBERED = 100_000
"""Files whose digests are remembered, until they change."""

_THREADS = 8
_Identity = tuple[str, int, int, int]


@dataclass(frozen=True)
class Place:
    """Where the files of some rows are.

    Attributes:
        root: Folder that relative paths start from.
        allow_outside: Whether paths may leave it.
    """

    root: Path
    allow_outside: bool = False

    @classmethod
    def of(cls, frame: pd.DataFrame, root: str | os.PathLike[str] | None) -> Place:
        """Return where the files of rows in memory are.

        Args:
            frame: Rows; those of ``read_rows`` know the folder of their file.
            root: Folder that paths start from and may not leave; None for the file's folder, or else the working
                folder, and for paths that lead anywhere.
        """
        if root is not None:
            return cls(Path(root).expanduser().absolute())
        return cls(Path(frame.attrs.get(ROOT, ".")).absolute(), allow_outside=True)


@dataclass(frozen=True)
class MediaCells:
    """What the cells of one column lead to.

    Attributes:
        digests: For each row the digest of a file's content, or None where the cell is empty or leads to no file.
        paths: By digest a path that leads to the content, as a cell has it.
        problems: By row, counted from 0, why its cell leads to no file.
        given: Number of cells that are not empty.
    """

    digests: list[str | None]
    paths: dict[str, str]
    problems: dict[int, str]
    given: int


class MediaDigests:
    """Finds the files that cells lead to, and reads each once as long as it does not change.

    Attributes:
        remembered: The most files whose digests are remembered.

    Args:
        limits: What a file may be at most.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.remembered = REMEMBERED
        self._known: OrderedDict[_Identity, str] = OrderedDict()

    def of(self, series: pd.Series, place: Place, progress: bool = False) -> MediaCells:
        """Return what the cells of a column lead to.

        Args:
            series: The column; its cells are texts, paths or empty.
            place: Where the files are.
            progress: Whether to show a progress bar.
        """
        given = {row: cell for row, cell in enumerate(series) if not is_missing(cell)}
        texts = {row: _text(cell) for row, cell in given.items()}
        different = list(dict.fromkeys(text for text in texts.values() if text is not None))
        outcomes = dict(zip(different, self._outcomes(different, place, progress, str(series.name)), strict=True))
        digests: list[str | None] = [None] * len(series)
        paths: dict[str, str] = {}
        problems: dict[int, str] = {}
        for row, text in texts.items():
            if text is None:
                problems[row] = f"a {type(given[row]).__name__} is no path"
                continue
            digest, problem = outcomes[text]
            if digest is None:
                problems[row] = f"{text}: {problem}"
            else:
                digests[row] = digest
                paths.setdefault(digest, text)
        return MediaCells(digests, paths, problems, len(given))

    def _outcomes(
        self, texts: Sequence[str], place: Place, progress: bool, column: str
    ) -> Iterator[tuple[str | None, str]]:
        with ThreadPoolExecutor(_THREADS) as threads:
            yield from tqdm(
                threads.map(partial(self._outcome, place), texts),
                total=len(texts),
                desc=f"reading {column}",
                unit="file",
                disable=not progress,
            )

    def _outcome(self, place: Place, text: str) -> tuple[str | None, str]:
        """Return the digest of a file's content, or why it cannot be read."""
        try:
            file = safe_path(text, place.root, place.allow_outside)
            identity = _identity(file)
        except MediaError as error:
            return None, str(error)
        except OSError as error:
            return None, error.strerror or str(error)
        known = self._known.get(identity)
        if known is not None:
            return known, ""
        found = HashMedia(place.root, place.allow_outside, self._limits)(text)
        if found.values is None:
            return None, found.error
        digest = found.values.tobytes().hex()
        self._known[identity] = digest
        while len(self._known) > self.remembered:
            self._known.popitem(last=False)
        return digest, ""


def _identity(file: Path) -> _Identity:
    status = file.stat()
    return str(file), status.st_size, status.st_mtime_ns, status.st_ino


def _text(cell: Any) -> str | None:
    return os.fspath(cell).strip() if isinstance(cell, (str, os.PathLike)) else None
