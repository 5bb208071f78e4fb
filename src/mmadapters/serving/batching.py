"""Micro-batching: rows of concurrent requests share one pass of a model.

A batcher has one thread, which alone touches the models of its backbone. While it works, rows gather; when it is free,
it takes up to ``max_batch`` of them, in the order in which they came. Where there are fewer, the first waits for
others, ``max_wait_ms`` at most, counted from its arrival.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mmadapters.serving.config import BatchingConfig
from mmadapters.serving.metrics import ServerMetrics
from mmadapters.serving.problems import RequestProblem, queue_full

Item = TypeVar("Item")
Result = TypeVar("Result")
Other = TypeVar("Other")


@dataclass(eq=False)
class _Waiting(Generic[Item]):
    """An item in the queue, or a function that is to run alone."""

    item: Item | None
    function: Callable[[], Any] | None
    rows: int
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)


class MicroBatcher(Generic[Item, Result]):
    """Gathers items and gives them to a function in batches.

    Args:
        run: Takes a batch and returns a result, or an exception, for each item; runs in the batcher's thread.
        config: Batch size, waiting time, room in the queue.
        metrics: What is counted.
        retry_after: Seconds after which a caller that found the queue full is told to come back.
        name: Of the thread.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        config: BatchingConfig,
        metrics: ServerMetrics,
        retry_after: int = 1,
        name: str = "batcher",
    ) -> None:
        self._run = run
        self._config = config
        self._metrics = metrics
        self._retry_after = retry_after
        self._queue: deque[_Waiting[Item]] = deque()
        self._rows = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mmadapters-{name}")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting_rows(self) -> int:
        """Number of rows in the queue."""
        return self._rows

    @property
    def is_alive(self) -> bool:
        """Whether items are being taken."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to take items; called in the event loop."""
        self._arrived = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Finish what was accepted, accept nothing more, and end the thread."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown(wait=True)

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of items, in their order.

        Args:
            items: All are accepted, or none.

        Raises:
            RequestProblem: If the queue has no room, or the batcher closes.
            Exception: What ``run`` returned for an item.
        """
        entries = self._enter([(item, None, 1) for item in items])
        try:
            return list(await asyncio.gather(*(entry.future for entry in entries)))
        finally:
            self._forget(entries)

    async def run_alone(self, function: Callable[[], Other], rows: int = 1) -> Other:
        """Return what a function returns that the batcher's thread runs between two batches.

        Args:
            function: What to run.
            rows: How many rows' room it takes in the queue.

        Raises:
            RequestProblem: As ``submit``.
            Exception: What the function raises.
        """
        entries = self._enter([(None, function, rows)])
        try:
            return await entries[0].future
        finally:
            self._forget(entries)

    def _enter(self, items: Sequence[tuple[Item | None, Callable[[], Any] | None, int]]) -> list[_Waiting[Item]]:
        rows = sum(count for _, _, count in items)
        if self._closing:
            raise RequestProblem(503, "The server is shutting down. Try another one, or later.", reason="closing")
        if self._rows + rows > self._config.queue_rows:
            raise queue_full(rows, self._config.queue_rows, self._retry_after)
        loop = asyncio.get_running_loop()
        entries = [_Waiting(item, function, count, loop.create_future()) for item, function, count in items]
        self._queue.extend(entries)
        self._count(rows)
        self._arrived.set()
        return entries

    def _forget(self, entries: Sequence[_Waiting[Item]]) -> None:
        """Cancel what nobody waits for any more; what is in the queue still is left out of its batch."""
        for entry in entries:
            if entry.future.done():
                if not entry.future.cancelled():
                    entry.future.exception()
            else:
                entry.future.cancel()

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._metrics.queue_rows.inc(rows)

    async def _work(self) -> None:
        while True:
            await self._wait_for_a_batch()
            batch = self._take()
            if batch:
                await self._process(batch)
            elif self._closing and not self._queue:
                return

    async def _wait_for_a_batch(self) -> None:
        """Return when there is a full batch, or the first item has waited long enough, or nothing more will come."""
        while not self._queue and not self._closing:
            self._arrived.clear()
            await self._arrived.wait()
        while self._queue and not self._closing and self._rows < self._config.max_batch:
            left = self._queue[0].since + self._config.max_wait_ms / 1000 - time.monotonic()
            if left <= 0 or self._queue[0].function is not None:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting[Item]]:
        """Take a batch out of the queue: items, or one function."""
        batch: list[_Waiting[Item]] = []
        while self._queue and len(batch) < self._config.max_batch:
            if batch and self._queue[0].function is not None:
                break
            entry = self._queue.popleft()
            self._count(-entry.rows)
            if entry.future.done():
                continue
            batch.append(entry)
            if entry.function is not None:
                break
        return batch

    async def _process(self, batch: list[_Waiting[Item]]) -> None:
        started = time.monotonic()
        for entry in batch:
            self._metrics.wait_seconds.observe(started - entry.since)
        loop = asyncio.get_running_loop()
        results: Sequence[Any]
        try:
            if batch[0].function is not None:
                results = [await loop.run_in_executor(self._thread, batch[0].function)]
            else:
                items: Any = [entry.item for entry in batch]
                results = await loop.run_in_executor(self._thread, self._run, items)
                self._metrics.batch_rows.observe(len(batch))
        except Exception as error:
            results = [error] * len(batch)
        self._metrics.batch_seconds.observe(time.monotonic() - started)
        for entry, result in zip(batch, results, strict=True):
            if entry.future.done():
                continue
            if isinstance(result, Exception):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(result)
