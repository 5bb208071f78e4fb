"""Many average precisions at once are those that scikit-learn computes one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score

from mmadapters.evaluation import average_precision
from mmadapters.evaluation.average_precision import average_precisions


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n=st.integers(1, 6), width=st.integers(1, 12))
def test_they_are_scikit_learns_with_ties_and_without(data: st.DataObject, n: int, width: int) -> None:
    truth = data.draw(arrays.arrays(bool, (n, width)))
    # Few different values, so that many are equal.
    scores = data.draw(arrays.arrays(np.float64, (n, width), elements=st.sampled_from([-1.5, 0.0, 0.1, 0.25, 7.0])))
    found = average_precisions(truth, scores)
    for one, row, values in zip(found, truth, scores, strict=True):
        if row.any():
            assert one == pytest.approx(average_precision_score(row, values), abs=1e-12)
        else:
            assert np.isnan(one)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truth, scores = random.random((50, 7)) < 0.3, random.random((50, 7)).astype(np.float32)
    together = average_precisions(truth, scores)
    monkeypatch.setattr(average_precision, "_CELLS", 20)
    np.testing.assert_array_equal(average_precisions(truth, scores), together)
    monkeypatch.setattr(average_precision, "_CELLS", 1)
    np.testing.assert_array_equal(average_precisions(truth, scores), together)
    assert average_precisions(truth[:0], scores[:0]).shape == (0,)
