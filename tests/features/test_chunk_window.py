"""Chunks under way at once give what one chunk after the other gives, whoever finishes first."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.features.chunk_window import Call, ChunkWindow
from mmadapters.features.extract_chunk import (
    ChunkFile,
    ChunkResult,
    EncodedFile,
    HashedChunk,
    Key,
    Outcome,
    assembled,
    divided,
)
from mmadapters.features.extract_rows import MediaRow

NAMES = ("poster", "sound")


class Worker:
    """Hashes and encodes without files: a path is its own digest.

    The features say with how many others a file was encoded; paths that start with ``x`` fail.
    """

    def hash(self, rows: list[MediaRow]) -> HashedChunk:
        outcomes = [{name: Outcome(None, "missing") for name in NAMES} for _ in rows]
        cells: dict[Key, list[int]] = {}
        for name in NAMES:
            for place, row in enumerate(rows):
                if row.paths[name] is not None:
                    cells.setdefault((name, row.paths[name]), []).append(place)
        return HashedChunk(outcomes, [ChunkFile(*key, key[1], tuple(places)) for key, places in cells.items()])

    def encode(self, files: list[ChunkFile]) -> list[EncodedFile]:
        return [self._encoded(file, len(files)) for file in files]

    def _encoded(self, file: ChunkFile, together: int) -> EncodedFile:
        if file.path.startswith("x"):
            return EncodedFile(file.key, Outcome(None, "error", f"{file.path} with {together}"), False)
        return EncodedFile(file.key, Outcome(np.array([together]), "ok", "", file.digest), True)


class ShuffledCrew:
    """Ends calls in any order, and counts those under way and those that were done in vain."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.most_open = 0
        self.done: list[Call] = []
        self._random = random.Random(seed)
        self._waiting: dict[Call, Any] = {}
        self._results: dict[Call, Any] = {}

    def submit(self, call: Call, argument: Any) -> None:
        self._results.pop(call, None)
        self._waiting[call] = argument
        self.most_open = max(self.most_open, len({number for _, number in [*self._waiting, *self._results]}))

    def has(self, call: Call) -> bool:
        return call in self._results

    def take(self, call: Call) -> Any:
        return self._results.pop(call)

    def step(self) -> None:
        call = self._random.choice(list(self._waiting))
        self._results[call] = getattr(Worker(), call[0])(self._waiting.pop(call))
        self.done.append(call)


class Store:
    """What a store knows of files: those with features in a committed chunk."""

    def __init__(self) -> None:
        self._values: dict[Key, Outcome] = {}

    def known(self, modality: str, digest: str) -> Outcome | None:
        return self._values.get((modality, digest))

    def commit(self, result: ChunkResult) -> None:
        for row in result.rows:
            for name, outcome in row.items():
                if outcome.digest is not None:
                    assert (name, outcome.digest) not in self._values
                    self._values[name, outcome.digest] = Outcome(outcome.values, outcome.status, outcome.error)


def one_after_the_other(chunks: list[list[MediaRow]]) -> Iterator[ChunkResult]:
    store, worker = Store(), Worker()
    for rows in chunks:
        hashed = worker.hash(rows)
        there, unknown = divided(hashed.files, store.known)
        result = assembled(hashed, there, worker.encode(unknown))
        store.commit(result)
        yield result


def in_a_window(chunks: list[list[MediaRow]], crew: ShuffledCrew) -> Iterator[ChunkResult]:
    store = Store()
    for result in ChunkWindow(crew, chunks, store.known).results():
        store.commit(result)
        yield result


def plain(results: Iterator[ChunkResult]) -> list[Any]:
    return [
        (
            result.encoded,
            [
                {name: (None if o.values is None else o.values.tolist(), o.status, o.error, o.digest)}
                for row in result.rows
                for name, o in row.items()
            ],
        )
        for result in results
    ]


def rows_of(*cells: tuple[str | None, str | None]) -> list[MediaRow]:
    return [MediaRow(str(place), dict(zip(NAMES, paths, strict=True))) for place, paths in enumerate(cells)]


CELL = st.sampled_from([None, "a", "b", "c", "d", "e", "x", "xx", "xxx"])
CHUNK = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4).map(lambda cells: rows_of(*cells))


@settings(max_examples=200, deadline=None)
@given(st.lists(CHUNK, max_size=9), st.integers(1, 4), st.integers(0, 10_000))
def test_a_window_gives_what_one_chunk_after_the_other_gives(
    chunks: list[list[MediaRow]], size: int, seed: int
) -> None:
    crew = ShuffledCrew(size, seed)
    assert plain(in_a_window(chunks, crew)) == plain(one_after_the_other(chunks))
    assert crew.most_open <= 2 * size + 1


def test_a_file_that_fails_again_and_again_costs_no_more_than_one_window() -> None:
    chunks = [rows_of((f"a{number}", None), ("x", None)) for number in range(40)]
    crew = ShuffledCrew(2, 0)
    assert plain(in_a_window(chunks, crew)) == plain(one_after_the_other(chunks))
    encoded = [number for step, number in crew.done if step == "encode"]
    assert 40 <= len(encoded) <= 44
    assert len(crew.done) - len(encoded) == 40


def test_without_failures_nothing_is_done_twice() -> None:
    chunks = [rows_of(("a", f"s{number}"), (f"p{number % 3}", "b"), (None, None)) for number in range(30)]
    crew = ShuffledCrew(3, 1)
    assert plain(in_a_window(chunks, crew)) == plain(one_after_the_other(chunks))
    assert len(crew.done) == len(set(crew.done)) == 60


def test_a_chunk_whose_files_are_all_known_is_not_given_to_anyone() -> None:
    chunks = [rows_of(("a", None))] * 5
    crew = ShuffledCrew(1, 0)
    results = list(in_a_window(chunks, crew))
    assert [call for call in crew.done if call[0] == "encode"] == [("encode", 0)]
    assert [result.encoded["poster"] for result in results] == [1, 0, 0, 0, 0]
    assert [result.rows[0]["poster"].status for result in results] == ["ok"] * 5


@pytest.mark.parametrize("size", [1, 3])
def test_no_more_than_a_window_is_asked_for_before_it_is_committed(size: int) -> None:
    crew = ShuffledCrew(size, 2)
    results = ChunkWindow(crew, [rows_of((f"a{n}", None)) for n in range(50)], lambda *_: None).results()
    next(results)
    assert {number for _, number in crew.done} <= set(range(2 * size + 1))
