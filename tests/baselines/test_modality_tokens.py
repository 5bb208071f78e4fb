"""Sequences as tokens: adaptive average pooling over the valid steps, whatever shares the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmadapters.baselines.modality_tokens import ModalityTokens, Standardiser, modality_vectors, pooled_steps
from mmadapters.data.dataset import FeatureColumn, MultimodalDataset
from mmadapters.modality import Modality


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 5])
@pytest.mark.parametrize("n_steps", [5, 7, 12])
def test_steps_are_pooled_as_torch_pools_them(n_tokens: int, n_steps: int) -> None:
    values = torch.randn(2, n_steps, 3)
    pooled, present = pooled_steps(values, torch.ones(2, n_steps, dtype=torch.bool), n_tokens)
    expected = F.adaptive_avg_pool1d(values.transpose(1, 2), n_tokens).transpose(1, 2)
    assert present.all()
    torch.testing.assert_close(pooled, expected)


def test_only_valid_steps_count_wherever_they_are() -> None:
    values = torch.randn(1, 9, 3)
    mask = torch.tensor([[0, 1, 1, 0, 1, 0, 1, 1, 0]], dtype=torch.bool)
    pooled, present = pooled_steps(values.masked_fill(~mask[..., None], torch.nan), mask, 2)
    valid = values[:, mask[0]]
    expected = F.adaptive_avg_pool1d(valid.transpose(1, 2), 2).transpose(1, 2)
    assert present.tolist() == [[True, True]]
    torch.testing.assert_close(pooled, expected)


def test_a_short_row_has_a_token_a_step_and_a_missing_one_none() -> None:
    values = torch.randn(3, 6, 2)
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [0] * 6, [1] * 6], dtype=torch.bool)
    pooled, present = pooled_steps(values, mask, 4)
    assert present.tolist() == [[True, True, False, False], [False] * 4, [True] * 4]
    torch.testing.assert_close(pooled[0, :2], values[0, :2])
    assert pooled[0, 2:].abs().sum() == 0
    assert pooled[1].abs().sum() == 0


def test_one_vector_an_example() -> None:
    steps = torch.tensor([[[1.0], [3.0], [100.0]], [[7.0], [8.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    vectors, present = modality_vectors(steps, mask)
    assert vectors.tolist() == [[2.0], [0.0]]
    assert present.tolist() == [True, False]
    vectors, present = modality_vectors(torch.tensor([[5.0], [torch.nan]]), torch.tensor([True, False]))
    assert vectors.tolist() == [[5.0], [0.0]]
    assert modality_vectors(steps, None)[0].tolist() == [[pytest.approx(104 / 3)], [8.0]]


def test_a_standardiser_has_the_statistics_of_the_present_rows() -> None:
    random = np.random.default_rng(0)
    features = [random.normal(1e4, 2.0, (steps, 3)) for steps in (1, 4, 2, 5)]
    features = [np.float32(f) for f in features]
    for f in features:
        f[:, 2] = 7.0
    cells = [features[0][0], None, *features[1:]]
    column = FeatureColumn(Modality("clip", 3), cells)
    dataset = MultimodalDataset({"input_ids": [[1]] * 5}, [column])
    standardiser = Standardiser.fit(dataset, Modality("clip", 3))
    means = np.stack([f.astype(np.float64).mean(axis=0) for f in features])
    expected = (means - means.mean(axis=0)) / np.array([*means.std(axis=0)[:2], 1.0])
    given = standardiser(torch.tensor(means, dtype=torch.float32))
    np.testing.assert_allclose(given.numpy(), expected, atol=2e-3)
    assert (given[:, 2] == 0).all()


def test_tokens_are_projections_with_the_segment_of_their_modality() -> None:
    modalities = [Modality("clip", 3), Modality("poster", 2)]
    tokens = ModalityTokens(modalities, {"clip": 2, "poster": 2}, 4, {})
    clip, poster = torch.randn(2, 4, 3), torch.randn(2, 2)
    masks = {"clip": torch.ones(2, 4, dtype=torch.bool), "poster": torch.tensor([True, False])}
    made, present, positions = tokens({"clip": clip, "poster": poster}, masks)
    assert present.tolist() == [[True, True, True], [True, True, False]]
    assert positions.tolist() == [0, 1, 0]
    first, second = tokens.projections
    for place, vector in enumerate((clip[:, :2].mean(dim=1), clip[:, 2:].mean(dim=1))):
        torch.testing.assert_close(made[:, place], first(vector) + tokens.segments.weight[0])
    torch.testing.assert_close(made[:1, 2], second(poster[:1]) + tokens.segments.weight[1])
