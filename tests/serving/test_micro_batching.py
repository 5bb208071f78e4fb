"""The micro-batcher: how batches come about, that nothing is lost or mixed up, and what a full queue does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmadapters.serving.batching import MicroBatcher
from mmadapters.serving.config import BatchingConfig
from mmadapters.serving.metrics import ServerMetrics
from mmadapters.serving.problems import RequestProblem


class Doubling:
    """Doubles numbers; refuses negative ones; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.go.wait(10)
        self.batches.append(list(items))
        return [ValueError(f"{item} is negative") if item < 0 else 2 * item for item in items]


def run(
    use: Callable[[MicroBatcher[int, int], Doubling], Awaitable[Any]],
    max_batch: int = 4,
    max_wait_ms: float = 20.0,
    queue_rows: int = 100,
) -> tuple[Any, Doubling, ServerMetrics]:
    work, metrics = Doubling(), ServerMetrics()

    async def within() -> Any:
        batcher = MicroBatcher(work, BatchingConfig(max_batch, max_wait_ms, queue_rows), metrics, 7)
        batcher.start()
        try:
            return await use(batcher, work)
        finally:
            work.go.set()
            await batcher.close()
            assert batcher.waiting_rows == 0
            assert not batcher.is_alive

    return asyncio.run(within()), work, metrics


@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=7), min_size=1, max_size=12),
    max_batch=st.integers(1, 9),
)
def test_everybody_gets_their_own_results_in_batches_that_are_not_too_large(
    calls: list[list[int]], max_batch: int
) -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        return await asyncio.gather(*(batcher.submit(items) for items in calls))

    results, work, _ = run(use, max_batch, max_wait_ms=0.0)
    assert results == [[2 * item for item in items] for items in calls]
    assert max(map(len, work.batches)) <= max_batch
    assert [item for batch in work.batches for item in batch] == [item for items in calls for item in items]


def test_a_full_batch_waits_for_nobody_and_one_alone_for_the_time_that_was_set() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> tuple[float, float]:
        started = time.monotonic()
        await batcher.submit([1, 2, 3, 4])
        full = time.monotonic() - started
        started = time.monotonic()
        await batcher.submit([5])
        return full, time.monotonic() - started

    (full, alone), work, _ = run(use, max_wait_ms=400.0)
    assert work.batches == [[1, 2, 3, 4], [5]]
    assert full < 0.35
    assert alone >= 0.39


def test_rows_gather_while_the_model_works() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        work.go.clear()
        first = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.submit([item])) for item in (2, 3, 4)]
        await asyncio.sleep(0.02)
        work.go.set()
        return await asyncio.gather(first, *others)

    results, work, metrics = run(use, max_wait_ms=0.0)
    assert results == [[2], [4], [6], [8]]
    assert work.batches == [[1], [2, 3, 4]]
    assert b"mmadapters_batch_rows_sum 4.0" in metrics.text()


def test_a_full_queue_is_told_at_once_and_takes_all_rows_of_a_call_or_none() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        work.go.clear()
        busy = asyncio.create_task(batcher.submit([0]))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(batcher.submit([1, 2, 3]))
        await asyncio.sleep(0)
        with pytest.raises(RequestProblem, match="2 rows were given and the queue of 4 has no room") as full:
            await batcher.submit([4, 5])
        assert (full.value.status, full.value.headers) == (503, {"Retry-After": "7"})
        last = asyncio.create_task(batcher.submit([6]))
        await asyncio.sleep(0)
        work.go.set()
        return await asyncio.gather(busy, waiting, last)

    results, work, _ = run(use, max_wait_ms=0.0, queue_rows=4)
    assert results == [[0], [2, 4, 6], [12]]
    assert sum(work.batches, []) == [0, 1, 2, 3, 6]


def test_an_error_of_one_item_is_not_that_of_its_neighbours() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        return await asyncio.gather(*(batcher.submit([item]) for item in (1, -2, 3)), return_exceptions=True)

    results, work, _ = run(use)
    assert results[0] == [2]
    assert isinstance(results[1], ValueError)
    assert results[2] == [6]
    assert work.batches == [[1, -2, 3]]


def test_a_batch_that_fails_as_a_whole_fails_its_items_and_the_next_one_works() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        work.batches = None  # type: ignore[assignment]
        broken = await asyncio.gather(batcher.submit([1]), batcher.submit([2]), return_exceptions=True)
        work.batches = []
        return broken, await batcher.submit([3])

    (broken, result), _, _ = run(use)
    assert [type(error) for error in broken] == [AttributeError, AttributeError]
    assert result == [6]


def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        work.go.clear()
        busy = asyncio.create_task(batcher.submit([0]))
        await asyncio.sleep(0.05)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(batcher.submit([1, 2]), 0.01)
        kept = asyncio.create_task(batcher.submit([3]))
        await asyncio.sleep(0)
        work.go.set()
        return await asyncio.gather(busy, kept)

    results, work, _ = run(use, max_wait_ms=0.0)
    assert results == [[0], [6]]
    assert work.batches == [[0], [3]]


def test_a_function_runs_between_two_batches() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        def function() -> str:
            work.batches.append([-1])
            return threading.current_thread().name

        return await asyncio.gather(batcher.submit([1]), batcher.run_alone(function), batcher.submit([2]))

    results, work, _ = run(use, max_wait_ms=0.0)
    assert results[0] == [2]
    assert results[1].startswith("mmadapters-")
    assert work.batches == [[1], [-1], [2]]


def test_closing_finishes_what_was_accepted_and_accepts_nothing_more() -> None:
    async def use(batcher: MicroBatcher[int, int], work: Doubling) -> Any:
        calls = [asyncio.create_task(batcher.submit([item, item])) for item in range(10)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(RequestProblem, match="shutting down") as closed:
            await batcher.submit([1])
        assert closed.value.status == 503
        await closing
        return [call.result() for call in calls]

    results, _, _ = run(use, max_wait_ms=10_000.0)
    assert results == [[2 * item, 2 * item] for item in range(10)]
