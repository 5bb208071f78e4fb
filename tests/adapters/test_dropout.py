"""The fast noise is a dropout's: its share, its scale, independent from number to number, and repeated by the seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmadapters.adapters.dropout import dropped, kept_at_random

N = 400_000


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_for_and_the_mean_stays(probability: float) -> None:
    torch.manual_seed(0)
    kept, scale = kept_at_random(torch.empty(N), probability)
    four_deviations = 4.0 * (probability * (1.0 - probability) / N) ** 0.5
    assert float(kept.double().mean()) == pytest.approx(1.0 - probability, abs=four_deviations)
    assert scale == pytest.approx(1.0 / (1.0 - probability), rel=2e-4)
    # The mean does not move with the rounding of the probability.
    numbers = round((1.0 - probability) * 2**16)
    assert scale * numbers / 2**16 == pytest.approx(1.0, abs=1e-12)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    kept = kept_at_random(torch.empty(N), 0.5)[0].double() - 0.5
    for distance in (1, 2, 3, 4, 8, 64, 384):
        correlation = float((kept[:-distance] * kept[distance:]).mean()) / 0.25
        assert abs(correlation) < 4.5 / N**0.5, distance


def test_each_of_the_four_numbers_of_a_draw_has_its_share() -> None:
    torch.manual_seed(2)
    kept = kept_at_random(torch.empty(N // 4, 4), 0.2)[0].double().mean(dim=0)
    torch.testing.assert_close(kept, torch.full((4,), 0.8, dtype=torch.float64), atol=0.006, rtol=0.0)


def test_the_seed_repeats_the_noise_and_another_does_not() -> None:
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(torch.cat([kept_at_random(torch.empty(7, 9), 0.4)[0], kept_at_random(torch.empty(2, 9), 0.4)[0]]))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@given(shape=st.lists(st.integers(0, 7), max_size=3), probability=st.floats(1e-6, 1.0 - 1e-6))
def test_any_shape_and_probability(shape: list[int], probability: float) -> None:
    values = torch.full(shape, 2.0)
    result = dropped(values, probability)
    kept = result != 0.0
    assert result.shape == values.shape
    assert bool((result[kept] > 2.0).all())
    assert len(torch.unique(result[kept])) <= 1


def test_without_probability_nothing_is_drawn() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    values = torch.ones(3)
    assert dropped(values, 0.0) is values
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gradient_goes_through_what_is_kept() -> None:
    torch.manual_seed(6)
    values = torch.randn(50, requires_grad=True)
    result = dropped(values, 0.5)
    result.sum().backward()
    torch.testing.assert_close(values.grad, torch.where(result == 0.0, 0.0, 2.0))
