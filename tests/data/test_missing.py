"""Taking modalities away: by mask and at random, nested over rates, and without touching what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmadapters.backbones import load_tokenizer
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.missing import draw_missing, without
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.errors import ConfigurationError, DataError

N = 12


@pytest.fixture(scope="module")
def prepared(tiny_backbone: Path) -> tuple[Preprocessor, MultimodalDataset]:
    random = np.random.default_rng(0)
    posters: list[np.ndarray | None] = list(random.normal(size=(N, 3)).astype(np.float32))
    posters[4] = None
    frame = pd.DataFrame(
        {
            "plot": ["war", "love"] * (N // 2),
            "poster": posters,
            "sound": list(random.normal(size=(N, 2)).astype(np.float32)),
            "mood": ["dark", "bright"] * (N // 2),
        }
    )
    schema = DatasetSchema("plot", "mood", (VectorColumn("poster", "poster"), VectorColumn("sound", "sound")))
    preprocessor = Preprocessor.fit(frame, schema, load_tokenizer(str(tiny_backbone)))
    return preprocessor, preprocessor.transform(frame)


def test_what_is_taken_away_is_missing_and_the_rest_is_as_it_was(
    prepared: tuple[Preprocessor, MultimodalDataset],
) -> None:
    preprocessor, whole = prepared
    taken = np.arange(N) % 3 == 0
    partly = without(whole, {"poster": taken})
    expected = whole.present("poster") & ~taken
    assert not whole.present("poster")[4]
    assert partly.present("poster").tolist() == expected.tolist()
    assert partly.present("sound").all()
    assert [m.name for m in partly.modalities] == ["poster", "sound"]
    for row in range(N):
        before, after = whole[row], partly[row]
        assert after["input_ids"] == before["input_ids"]
        assert after["labels"] == before["labels"]
        assert (after["modality_features"]["poster"] is None) == (not expected[row])
        assert after["modality_features"]["sound"] is before["modality_features"]["sound"] or np.array_equal(
            after["modality_features"]["sound"], before["modality_features"]["sound"]
        )
    batch = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)([partly[row] for row in range(N)])
    assert batch["modality_mask"]["poster"].tolist() == expected.tolist()
    assert whole.present("poster").sum() == N - 1


def test_one_value_stands_for_all_rows(prepared: tuple[Preprocessor, MultimodalDataset]) -> None:
    _, whole = prepared
    nothing = without(whole, {"poster": True, "sound": True})
    assert not nothing.present("poster").any()
    assert not nothing.present("sound").any()
    same = without(whole, {"sound": False})
    assert same.digest() == whole.digest()
    assert nothing.digest() != whole.digest()
    assert nothing.restricted_to(["sound"]).present("sound").sum() == 0


def test_wrong_names_and_numbers_of_rows_are_refused(prepared: tuple[Preprocessor, MultimodalDataset]) -> None:
    _, whole = prepared
    with pytest.raises(DataError, match=r"has no modality 'postr'.*Did you mean 'poster'"):
        without(whole, {"postr": True})
    with pytest.raises(DataError, match=r"was given as \(3,\), and the data set has 12 rows"):
        without(whole, {"poster": np.zeros(3, dtype=bool)})
    with pytest.raises(ConfigurationError, match=r"rate of 1\.5"):
        draw_missing(3, ["poster"], 1.5)


@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 5))
def test_what_is_missing_at_a_rate_is_missing_at_every_higher_one(low: float, high: float, seed: int) -> None:
    low, high = sorted((low, high))
    few, many = (draw_missing(50, ["poster", "sound"], rate, seed) for rate in (low, high))
    for name in few:
        assert not (few[name] & ~many[name]).any()


def test_rates_are_met_and_draws_are_independent() -> None:
    n = 40_000
    drawn = draw_missing(n, ["poster", "sound"], 0.3, seed=1)
    assert drawn["poster"].mean() == pytest.approx(0.3, abs=0.012)
    assert (drawn["poster"] & drawn["sound"]).mean() == pytest.approx(0.09, abs=0.008)
    alone = draw_missing(n, ["sound"], 0.3, seed=1)
    assert np.array_equal(alone["sound"], drawn["sound"])
    for other in (draw_missing(n, ["sound"], 0.3, seed=2), draw_missing(n, ["sound"], 0.3, seed=1, split="train")):
        assert (other["sound"] & alone["sound"]).mean() == pytest.approx(0.09, abs=0.008)
    assert not draw_missing(n, ["sound"], 0.0)["sound"].any()
    assert draw_missing(n, ["sound"], 1.0)["sound"].all()
