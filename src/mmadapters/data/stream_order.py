"""In which order an epoch goes through streamed rows: pieces at random, and their rows in pools."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmadapters.data.row_reader import Run, Wanted


class EpochOrder:
    """The pools of rows of an epoch, which are read one after the other.

    The pieces of the source come in random order, and ``pool_rows`` rows that follow one another in that order make a
    pool. The first pool has a random size, so that not the same rows meet in every epoch where there is one piece. All
    of it follows from seed and epoch.

    Args:
        rows_of_pieces: Int64 (pieces,): rows of each piece.
        pool_rows: Rows of a pool, a multiple of ``unit``.
        seed: Of the order.
        epoch: Which epoch, from 0.
        unit: The rows of a pool are a multiple of this; a last pool of fewer rows joins the one before it.
        leave_out: Rows at the end that no pool has.
    """

    def __init__(
        self, rows_of_pieces: np.ndarray, pool_rows: int, seed: int, epoch: int, unit: int = 1, leave_out: int = 0
    ) -> None:
        random = np.random.default_rng([seed, epoch])
        self.seed = seed
        self.epoch = epoch
        self._pieces = random.permutation(len(rows_of_pieces))
        self._ends = np.cumsum(rows_of_pieces[self._pieces])
        self._starts = self._ends - rows_of_pieces[self._pieces]
        self._first_rows = np.concatenate([[0], np.cumsum(rows_of_pieces)])
        total = int(self._ends[-1]) - leave_out
        first = min(int(random.integers(1, pool_rows // unit + 1)) * unit, total)
        bounds = [0, *range(first, total, pool_rows), total]
        if len(bounds) > 2 and bounds[-1] - bounds[-2] < unit:
            del bounds[-2]
        self._bounds = bounds

    def __len__(self) -> int:
        """Return the number of pools."""
        return len(self._bounds) - 1

    def size(self, pool: int) -> int:
        """Return the number of rows of a pool."""
        return self._bounds[pool + 1] - self._bounds[pool]

    def runs(self, pool: int) -> list[Run]:
        """Return where the rows of a pool are, in the order in which they are read."""
        start, stop = self._bounds[pool], self._bounds[pool + 1]
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        return [
            Run(
                int(self._pieces[place]),
                max(start - int(self._starts[place]), 0),
                min(stop, int(self._ends[place])) - int(self._starts[place]),
            )
            for place in range(int(first), int(last) + 1)
            if self._ends[place] > self._starts[place]
        ]

    def rows(self, pool: int) -> np.ndarray:
        """Return the rows of a pool as numbers in the order of the source, int64 (n,)."""
        runs = ((self._first_rows[run.piece], run) for run in self.runs(pool))
        return np.concatenate([np.arange(first + run.start, first + run.stop) for first, run in runs])

    def wanted(self, pool: int, places: np.ndarray) -> Iterator[Wanted]:
        """Yield what to read for some rows of a pool; their places in it stand for them.

        Args:
            pool: Which pool.
            places: Places of the rows in the pool, in any order.
        """
        ascending = np.sort(places)
        start = 0
        for run in self.runs(pool):
            first, last = np.searchsorted(ascending, [start, start + len(run)])
            of_run = ascending[first:last]
            yield Wanted(run, of_run - start, of_run)
            start += len(run)

    def seed_of(self, pool: int) -> int:
        """Return the seed of what is drawn within a pool."""
        return int(np.random.SeedSequence([self.seed, self.epoch, pool + 1]).generate_state(1)[0])
