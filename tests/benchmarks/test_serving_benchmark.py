"""What the load test of the server makes of its measurements."""

from __future__ import annotations

import math

import pytest

from serving import of_turn, percentile, ratios, summary


def test_percentiles_are_measured_values() -> None:
    ordered = [float(value) for value in range(1, 201)]
    assert [percentile(ordered, share) for share in (50, 95, 99, 100)] == [100.0, 190.0, 198.0, 200.0]
    assert percentile([7.0], 99) == 7.0
    assert math.isnan(percentile([], 50))


def test_turns_become_medians_and_ratios_pair_by_pair() -> None:
    def turn(rate: float, p99: float, failed: int = 0) -> dict:
        loaded = {"seconds": 100 / rate, "failed": ["status 503"] * failed, "latencies": [p99 / 1000] * (100 - failed)}
        return of_turn(100, loaded)

    fast = [turn(50, 20), turn(100, 10), turn(80, 30, failed=4)]
    slow = [turn(25, 40), turn(40, 50), turn(20, 60)]
    assert fast[0]["requests_a_second"] == 50.0
    assert (fast[2]["requests_a_second"], fast[2]["failed"], fast[2]["first_failure"]) == (76.8, 4, "status 503")
    made = summary(fast)
    assert (made["requests"], made["failed"], made["requests_a_second"]) == (300, 4, 76.8)
    assert made["milliseconds"] == {"p50": 20.0, "p95": 20.0, "p99": 20.0}
    assert ratios(fast, slow) == {"times_reference": 2.5, "times_reference_by_turn": [2.0, 2.5, 3.84]}
    with pytest.raises(ValueError, match="zip"):
        ratios(fast, slow[:2])
