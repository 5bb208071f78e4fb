"""The same rows with fewer modalities or shorter texts, without reading anything again."""

from __future__ import annotations

import numpy as np
import pytest

from mmadapters.data.dataset import FeatureColumn, MultimodalDataset
from mmadapters.errors import DataError
from mmadapters.modality import Modality


def data() -> MultimodalDataset:
    posters = FeatureColumn(Modality("poster", 2), [np.array([1.0, 2.0], np.float32), None, np.zeros(2, np.float32)])
    clips = FeatureColumn(Modality("clip", 1), [None, np.ones((3, 1), np.float32), None])
    tokens = {
        "input_ids": [[2, 5, 6, 7, 3], [2, 8, 9, 10, 11], [2, 3]],
        "token_type_ids": [[0, 0, 0, 1, 1], [0] * 5, [0, 0]],
    }
    return MultimodalDataset(tokens, [posters, clips], np.array([0, 1, 2]))


def test_rows_keep_the_modalities_that_are_named() -> None:
    whole = data()
    restricted = whole.restricted_to(["clip"])
    assert [modality.name for modality in restricted.modalities] == ["clip"]
    assert list(restricted[1]["modality_features"]) == ["clip"]
    assert restricted.features("clip", 1) is whole.features("clip", 1)
    assert restricted.labels is whole.labels
    assert [modality.name for modality in whole.modalities] == ["poster", "clip"]
    assert [modality.name for modality in whole.restricted_to(["clip", "poster"]).modalities] == ["poster", "clip"]
    assert "modality_features" not in whole.restricted_to([])[0]
    assert whole.restricted_to([]).digest() != restricted.digest() != whole.digest()


def test_a_modality_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="no modality 'postr'. Its modalities are 'poster', 'clip'. Did you mean"):
        data().restricted_to(["postr"])
    with pytest.raises(DataError, match="no modality 'audio'"):
        data().features("audio", 0)


def test_texts_are_shortened_and_end_as_they_did() -> None:
    short = data().shortened_to(3, closing=[3])
    assert [short.tokens(row)["input_ids"] for row in range(3)] == [[2, 5, 3], [2, 8, 9], [2, 3]]
    assert short.tokens(0)["token_type_ids"] == [0, 0, 1]
    assert short.lengths.tolist() == [3, 3, 2]
    assert short.features("poster", 0).tolist() == [1.0, 2.0]
    assert data().shortened_to(3).tokens(0)["input_ids"] == [2, 5, 6]


def test_short_texts_stay_as_they_are() -> None:
    whole = data()
    assert whole.shortened_to(5) is whole
