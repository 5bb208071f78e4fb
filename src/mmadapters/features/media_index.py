"""Which media a store's rows were made from, so that a file that is there twice is encoded once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmadapters.files import write_text_atomically

MEDIA_INDEX = "media.jsonl"
"""Name of the file within the store; a line for each row that brought a new file."""


class MediaIndex:
    """Maps the content of a file to the first row of a store that was made from it.

    The lines of a shard's rows are on the disk before the shard is committed. After a crash in between, they name
    rows that are not in the store, and are dropped when the index is opened again; so its bytes, too, do not depend on
    interruptions. Without the file, media are encoded again, and nothing else is lost.

    Args:
        folder: Of the store.
        rows: Number of its committed rows.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self._path = folder / MEDIA_INDEX
        self._first: dict[tuple[str, str], int] = {}
        if not self._path.exists():
            return
        text = self._path.read_bytes().decode("ascii", "replace")
        kept = [entry for entry in map(_entry, text.splitlines()) if entry is not None and entry[0] < rows]
        for row, digests in kept:
            self._note(row, digests)
        wanted = "".join(_line(row, digests) for row, digests in kept)
        if wanted != text:
            write_text_atomically(self._path, wanted)

    def row_of(self, modality: str, digest: str) -> int | None:
        """Return the number of the row whose features are those of the file, or None."""
        return self._first.get((modality, digest))

    def add(self, rows: Sequence[tuple[int, Mapping[str, str]]]) -> None:
        """Note rows that are about to be committed, and wait until they are on the disk.

        Args:
            rows: Row numbers, each with the digests of the files that it was the first to bring, by modality.
        """
        if not rows:
            return
        for row, digests in rows:
            self._note(row, digests)
        with self._path.open("a", encoding="ascii") as file:
            file.write("".join(_line(row, digests) for row, digests in rows))
            file.flush()
            os.fsync(file.fileno())

    def _note(self, row: int, digests: Mapping[str, str]) -> None:
        for modality, digest in digests.items():
            self._first.setdefault((modality, digest), row)


def _line(row: int, digests: Mapping[str, str]) -> str:
    return json.dumps({"row": row, "media": dict(digests)}) + "\n"


def _entry(line: str) -> tuple[int, dict[str, str]] | None:
    """Return what a line says, or None for one that a crash cut off."""
    try:
        value = json.loads(line)
        return int(value["row"]), {str(name): str(digest) for name, digest in value["media"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
