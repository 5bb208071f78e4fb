"""Shares against effects, on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from mmadapters.evaluation.faithfulness import faithfulness
from mmadapters.evaluation.row_losses import row_losses

NAMES = ["poster", "sound"]
ALL = np.ones((40, 2), dtype=bool)


def test_shares_that_follow_the_effects_are_faithful_and_reversed_ones_the_opposite() -> None:
    random = np.random.default_rng(0)
    effects = random.normal(size=(40, 2))
    found = faithfulness(NAMES, np.exp(effects), effects, ALL)
    assert found.by_modality == {"poster": pytest.approx(1.0), "sound": pytest.approx(1.0)}
    assert (found.agreement, found.chance, found.rows) == (1.0, 0.5, 40)
    against = faithfulness(NAMES, np.exp(-effects), effects, ALL)
    assert against.by_modality["poster"] == pytest.approx(-1.0)
    assert against.agreement == 0.0


def test_rows_without_a_modality_or_a_loss_do_not_count() -> None:
    random = np.random.default_rng(1)
    effects = random.normal(size=(40, 2))
    present = ALL.copy()
    present[:15, 1] = False
    effects[15:18] = np.nan
    shares = np.where(present, np.exp(effects), 100.0)
    found = faithfulness(NAMES, shares, effects, present)
    assert found.by_modality["sound"] == pytest.approx(1.0)
    assert found.by_modality["poster"] == pytest.approx(1.0)
    assert found.rows == 22
    assert found.agreement == 1.0


def test_what_cannot_be_correlated_is_none() -> None:
    few = faithfulness(NAMES, np.ones((5, 2)), np.arange(10.0).reshape(5, 2), np.ones((5, 2), dtype=bool))
    assert few.by_modality == {"poster": None, "sound": None}
    constant = faithfulness(NAMES, np.ones((40, 2)), np.random.default_rng(2).normal(size=(40, 2)), ALL)
    assert constant.by_modality == {"poster": None, "sound": None}
    one = faithfulness(["poster"], np.ones((40, 1)), np.ones((40, 1)), np.ones((40, 1), dtype=bool))
    assert (one.agreement, one.chance, one.rows) == (None, None, 0)


def test_losses_of_rows_are_those_of_the_training_losses() -> None:
    logits = np.array([[2.0, -1.0], [800.0, -800.0]])
    multi = row_losses("multi_label_classification", logits, np.array([[1, 0], [0, 1]]))
    assert multi == pytest.approx([(np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2, 800.0])
    single = row_losses("single_label_classification", logits, np.array([1, -100]))
    assert single[0] == pytest.approx(np.log1p(np.exp(3.0)))
    assert np.isnan(single[1])
    assert row_losses("regression", np.array([[1.5], [2.0]]), np.array([1.0, 4.0])).tolist() == [0.25, 4.0]
