"""Several chunks of rows under way at once, whose results are those of one chunk after the other.

A file that several chunks have belongs to the first of them, and what is encoded together decides the last bits of the
features. So a chunk's files can be divided into known and unknown for certain only when every earlier chunk has been
committed. Here a chunk is given away sooner, as if everything that an earlier one was given would succeed. At its turn
the files are divided for certain; where that is something else, because a file failed, the chunk is done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mmadapters.features.extract_chunk import (
    ChunkFile,
    ChunkResult,
    EncodedFile,
    HashedChunk,
    Key,
    Known,
    assembled,
    divided,
)
from mmadapters.features.extract_rows import MediaRow

Step = Literal["encode", "hash"]
Call = tuple[Step, int]
"""What is to be done with the chunk of which number; of those that wait, the smallest comes first."""


class Crew(Protocol):
    """Those who do the work.

    Attributes:
        size: How many they are.
    """

    size: int

    def submit(self, call: Call, argument: Any) -> None:
        """Hand over a call: ``ChunkExtractor.hash`` or ``encode``. It takes the place of an earlier one of its name."""
        ...

    def has(self, call: Call) -> bool:
        """Whether the result of a call is there."""
        ...

    def take(self, call: Call) -> Any:
        """Return the result of a call once, waiting for it where it is not there."""
        ...

    def step(self) -> None:
        """Wait until something has happened."""
        ...


@dataclass
class _Chunk:
    """A chunk under way.

    Attributes:
        number: From 0.
        hashed: Its files, as soon as they are known.
        given: The files that were handed over to be encoded; None as long as none were.
    """

    number: int
    hashed: HashedChunk | None = None
    given: list[ChunkFile] | None = None


@dataclass
class ChunkWindow:
    """Brings chunks through a crew.

    Attributes:
        crew: Does the work.
        chunks: Rows of each.
        known: What the store has; asked after the commits of all earlier results.
    """

    crew: Crew
    chunks: Sequence[Sequence[MediaRow]]
    known: Known
    _open: dict[int, _Chunk] = field(default_factory=dict, init=False)
    _started: int = field(default=0, init=False)
    _promised: dict[Key, int] = field(default_factory=dict, init=False)
    _failed: set[Key] = field(default_factory=set, init=False)

    def results(self) -> Iterator[ChunkResult]:
        """Yield what becomes of the chunks, in their order; each is committed before the next one is asked for."""
        for number in range(len(self.chunks)):
            chunk, hashed = self._turn(number)
            there, unknown = divided(hashed.files, self.known)
            if chunk.given is None or [file.key for file in unknown] != [file.key for file in chunk.given]:
                self._give(chunk, unknown)
            encoded = self._encoded(chunk)
            self._learn(chunk, encoded)
            yield assembled(hashed, there, encoded)
            del self._open[number]
            self._promised = {key: owner for key, owner in self._promised.items() if owner != number}

    def _turn(self, number: int) -> tuple[_Chunk, HashedChunk]:
        """Wait until a chunk's files are known."""
        self._start()
        chunk = self._open[number]
        while chunk.hashed is None:
            self.crew.step()
            self._start()
        return chunk, chunk.hashed

    def _encoded(self, chunk: _Chunk) -> list[EncodedFile]:
        if not chunk.given:
            return []
        call: Call = ("encode", chunk.number)
        while not self.crew.has(call):
            self.crew.step()
            self._start()
        result: list[EncodedFile] = self.crew.take(call)
        return result

    def _start(self) -> None:
        """Hand over as much as may be under way."""
        first = next(iter(self._open), self._started)
        # Enough for everyone to have a chunk in hand and one in store, little enough for the results to fit in memory.
        while self._started < min(len(self.chunks), first + 2 * self.crew.size + 1):
            self.crew.submit(("hash", self._started), self.chunks[self._started])
            self._open[self._started] = _Chunk(self._started)
            self._started += 1
        for chunk in self._open.values():
            if chunk.hashed is None:
                if not self.crew.has(("hash", chunk.number)):
                    return
                chunk.hashed = self.crew.take(("hash", chunk.number))
                self._give(chunk, [file for file in chunk.hashed.files if self._is_wanted(file)])

    def _is_wanted(self, file: ChunkFile) -> bool:
        return (file.key not in self._promised or file.key in self._failed) and self.known(*file.key) is None

    def _give(self, chunk: _Chunk, files: list[ChunkFile]) -> None:
        chunk.given = files
        for file in files:
            self._promised.setdefault(file.key, chunk.number)
        if files:
            self.crew.submit(("encode", chunk.number), files)

    def _learn(self, chunk: _Chunk, encoded: Sequence[EncodedFile]) -> None:
        """Give later chunks the files that failed in this one, as they will have to try them, too."""
        failed = {entry.key for entry in encoded if entry.outcome.values is None}
        self._failed |= failed
        for later in self._open.values():
            if later.number <= chunk.number or later.hashed is None or later.given is None:
                continue
            given = {file.key for file in later.given}
            files = [file for file in later.hashed.files if file.key in given or file.key in failed]
            if len(files) > len(given):
                self._give(later, files)
