"""One pickled array a row, read file by file; what is wrong with a file is noted, and the next one is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmadapters.data.sources.problems import Problems
from mmadapters.errors import DataError
from mmadapters.features.pickles import each_pickled_file


def each_pickled_array(paths: Sequence[Path | None], problems: Problems) -> Iterator[np.ndarray | None]:
    """Read pickles with one array each, by the reader that runs nothing of them.

    Args:
        paths: Of the files; None for a row without one.
        problems: Where files that cannot be read are noted.

    Yields:
        As many as there are paths: the array, or None where there is none.
    """
    files = each_pickled_file(path for path in paths if path is not None)
    for path in paths:
        yield None if path is None else _single(path, next(files), problems)


def _single(path: Path, found: dict[str, np.ndarray] | DataError, problems: Problems) -> np.ndarray | None:
    if isinstance(found, DataError):
        problems.add(str(found))
    elif len(found) != 1:
        problems.add(f"'{path}' holds {len(found)} arrays, where one was expected.")
    else:
        return next(iter(found.values()))
    return None
