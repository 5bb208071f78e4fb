"""A predictor that is pushed to the Hub and read from it predicts the same, with the parameters that it had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_hub import FakeHub
from hub_artefacts import FILES

sys.path.append(str(Path(__file__).parents[1] / "predictor"))
from predictor_rows import movie_rows, predictor

from mmadapters import MultimodalPredictor
from mmadapters.errors import ArtefactError, ConfigurationError, HubError

# Of huggingface_hub's own, in uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


def test_there_and_back(hub: FakeHub, tiny_backbone: Path) -> None:
    columns = {"text": "plot", "tabular": ["budget"], "vectors": ["viewers"], "label_separator": "|"}
    made = predictor(tiny_backbone, **columns, seed=3)
    with pytest.raises(ConfigurationError, match="fit"):
        made.push_to_hub("ann/movies", token="hf_ann")
    made.fit(movie_rows(64), validation=movie_rows(16, 2))
    with pytest.raises(ArtefactError, match="a place on this machine and no name that others can use"):
        made.push_to_hub("ann/movies", token="hf_ann")
    uploaded = made.push_to_hub(
        "ann/movies", private=True, license="mit", backbone="mmadapters/tiny-bert", token="hf_ann"
    )
    repository = hub.repositories["ann/movies"]
    assert sorted(repository.commits[repository.branches["main"]]) == [".gitattributes", *FILES]
    again = MultimodalPredictor.from_pretrained(
        "ann/movies", revision=uploaded.commit, token="hf_ann", backbone=str(tiny_backbone), verbose=0
    )
    rows = movie_rows(20, 1)
    assert again.predict_proba(rows).equals(made.predict_proba(rows))
    assert again.artefact_.license == "mit"
    assert {name: again.get_params()[name] for name in ("text", "tabular", "seed")} == {
        "text": "plot",
        "tabular": ["budget"],
        "seed": 3,
    }
    with pytest.raises(HubError, match="'ann/others' could not be read on the Hub"):
        MultimodalPredictor.from_pretrained("ann/others", verbose=0)
