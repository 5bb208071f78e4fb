"""Which kind of media the paths of a column lead to, told by what the files hold and not by what they are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from mmadapters.data.columns import ENDINGS
from mmadapters.errors import MissingDependencyError
from mmadapters.features.cells import is_missing
from mmadapters.features.container import open_container
from mmadapters.features.guard import GuardedPool, Limits, safe_path, sniff_kind
from mmadapters.features.outcome import Decoded, MediaError, Status, ending_in_an_outcome

IMAGE, VIDEO, AUDIO = "image", "video", "audio"

LOOKED_AT = 32
"""Different cells of a column that are followed to files."""
OPENED = 6
"""Videos that are opened, to see whether there are pictures and sound in them."""
SECONDS = 20.0
"""Time after which a file that is looked into is given up."""

_LONGEST_PATH = 4096
_KIND_OF_ENDING = {
    ending: kind.removesuffix(" path") for kind, endings in ENDINGS.items() if kind != "npy path" for ending in endings
}


@dataclass(frozen=True)
class FilesFound:
    """What the cells of a column lead to.

    Attributes:
        kinds: ``image``, ``video``, ``audio``, or ``video`` and ``audio`` for videos with sound; none where too few
            cells lead to media.
        looked_at: Number of different cells that were followed.
        files: Number of them that lead to a file.
        problem: Why the first of the others does not; empty where all do.
        misnamed: Number of files that hold something else than their ending says.
    """

    kinds: tuple[str, ...] = ()
    looked_at: int = 0
    files: int = 0
    problem: str = ""
    misnamed: int = 0


def files_of(series: pd.Series, root: str | os.PathLike[str], allow_outside_root: bool) -> FilesFound:
    """Follow some cells of a column to files, and tell what these hold.

    Args:
        series: The column.
        root: Folder that relative paths start from.
        allow_outside_root: Whether paths may leave it.
    """
    cells = _different_cells(series)
    found: list[Path] = []
    problem = ""
    for cell in cells:
        try:
            found.append(safe_path(cell, root, allow_outside_root))
        except MediaError as error:
            problem = problem or f"{cell!r}: {error}"
    kinds = [(path, _kind(path)) for path in found]
    counts = Counter(kind for _, kind in kinds if kind is not None)
    misnamed = sum(kind is not None and _by_ending(path) not in (None, kind) for path, kind in kinds)
    if not counts or 2 * sum(counts.values()) < len(cells):
        return FilesFound((), len(cells), len(found), problem, misnamed)
    (kind, _), *_ = counts.most_common(1)
    names = (kind,) if kind != VIDEO else streams_of([path for path, each in kinds if each == VIDEO])
    return FilesFound(names, len(cells), len(found), problem, misnamed)


def looks_like_paths(series: pd.Series) -> bool:
    """Tell whether most cells of a column end like files of media."""
    cells = _different_cells(series)
    return 2 * sum(_by_ending(Path(cell)) is not None for cell in cells) > len(cells) if cells else False


def streams_of(videos: Sequence[Path]) -> tuple[str, ...]:
    """Return ``video``, ``audio`` or both: what most of some container files have in them.

    The files are opened in a process of its own. Without PyAV they count as ``video``.

    Args:
        videos: Files of a format that may hold either.
    """
    opened = [videos[place] for place in np.linspace(0, len(videos) - 1, min(OPENED, len(videos)), dtype=int)]
    counted = np.zeros(2, dtype=int)
    read = 0
    try:
        with GuardedPool(1, SECONDS) as pool:
            for _, outcome in pool.run((path, stream_kinds, path) for path in opened):
                if outcome.values is not None:
                    counted += outcome.values > 0
                    read += 1
    except MissingDependencyError:
        return (VIDEO,)
    names = tuple(name for name, count in zip((VIDEO, AUDIO), counted, strict=True) if 2 * count > read)
    return names or (VIDEO,)


@ending_in_an_outcome
def stream_kinds(path: Path) -> Decoded:
    """Return the number of video and of audio streams of a file, int64 (2,); cover pictures are no video.

    Args:
        path: The file.
    """
    import av.stream

    cover = av.stream.Disposition.attached_pic
    with open_container(path, Limits()) as container:
        moving = sum(not stream.disposition & cover for stream in container.streams.video)
        return Decoded(np.array([moving, len(container.streams.audio)]), Status.OK)


def _different_cells(series: pd.Series) -> list[str]:
    """Return up to ``LOOKED_AT`` different cells that may be paths, from all over the column."""
    present = [cell for cell in series if not is_missing(cell)]
    texts = [os.fspath(cell).strip() for cell in present if isinstance(cell, (str, os.PathLike))]
    different = list(dict.fromkeys(text for text in texts if len(text) <= _LONGEST_PATH and "\n" not in text))
    if 2 * len(texts) < len(present):
        return []
    return [different[place] for place in np.linspace(0, len(different) - 1, min(LOOKED_AT, len(different)), dtype=int)]


def _kind(path: Path) -> str | None:
    """Return what a file holds, None for no media; of sounds and videos in rare formats the ending is believed."""
    try:
        kind = sniff_kind(path)
    except OSError:
        return None
    named = _by_ending(path)
    return kind or (named if named != IMAGE else None)


def _by_ending(path: PurePath) -> str | None:
    return _KIND_OF_ENDING.get(path.suffix.lower())
