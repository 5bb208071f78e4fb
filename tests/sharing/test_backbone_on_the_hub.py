"""A backbone on the Hub: its commit is kept with the artefact, and it brings neither code nor pickles along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fake_hub import FakeHub
from hub_artefacts import BACKBONE, FILES, FIXTURES
from safetensors.torch import load, save

from mmadapters.artefact import Artefact, load_artefact, save_artefact
from mmadapters.errors import ArtefactError, ConfigurationError
from mmadapters.evaluation.evaluator import predict
from mmadapters.sharing import push_to_hub

# Of huggingface_hub's own, in uploading.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
NAME = "mmadapters/tiny-bert"


def backbone_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(BACKBONE).iterdir()}


def logits(artefact: Artefact) -> np.ndarray:
    rows = artefact.preprocessor.transform(pd.read_json(FIXTURES / "rows.jsonl", lines=True), with_labels=False)
    return predict(artefact.model, rows, artefact.collator, artefact.problem_type, batch_size=8).logits


def test_the_commit_is_pinned(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    commit = hub.add(NAME, backbone_files())
    first = load_artefact(folder)
    saved = save_artefact(first, tmp_path / "saved")
    pipeline = json.loads((saved / "pipeline.json").read_text())
    assert (pipeline["model"]["backbone"], pipeline["backbone_revision"]) == (NAME, commit)
    files = backbone_files()
    weights = load(files["model.safetensors"])
    weights["encoder.layer.0.output.dense.bias"] += 1.0
    changed = {**files, "model.safetensors": save(weights, metadata={"format": "pt"})}
    hub.repositories[NAME].commit("main", changed, "other weights")
    loaded = load_artefact(saved)
    assert np.array_equal(logits(loaded), logits(first))
    assert np.array_equal(logits(load_artefact(saved, backbone=BACKBONE)), logits(first))
    assert loaded.backbone_revision == commit
    again = json.loads((save_artefact(loaded, tmp_path / "again") / "pipeline.json").read_text())
    assert again["backbone_revision"] == commit
    with pytest.raises(ArtefactError, match=f"The backbone '{NAME}' has other weights"):
        load_artefact(folder)
    here = replace(loaded, settings=replace(loaded.settings, backbone=BACKBONE))
    assert "backbone_revision" not in json.loads((save_artefact(here, tmp_path / "here") / "pipeline.json").read_text())


def test_all_of_it_from_the_hub(hub: FakeHub, folder: Path) -> None:
    hub.add(NAME, backbone_files())
    push_to_hub(folder, "ann/movies", token="hf_ann")
    assert np.array_equal(logits(load_artefact("ann/movies")), logits(load_artefact(folder, backbone=BACKBONE)))


def test_pickled_weights_of_a_backbone_that_somebody_else_named(hub: FakeHub, folder: Path) -> None:
    files = backbone_files()
    weights = load(files.pop("model.safetensors"))
    buffer = folder / "weights.bin"
    torch.save(weights, buffer)
    hub.add(NAME, {**files, "pytorch_model.bin": buffer.read_bytes()})
    hub.add("eve/movies", {name: (folder / name).read_bytes() for name in FILES})
    with pytest.raises(ConfigurationError, match=f"No model could be loaded for the backbone '{NAME}'"):
        load_artefact("eve/movies")
    assert "pytorch_model.bin" not in hub.downloaded()
    assert load_artefact("eve/movies", backbone=NAME).labels == ["dark", "new", "war"]


def test_code_of_a_backbone_is_not_even_downloaded(hub: FakeHub, folder: Path) -> None:
    files = backbone_files()
    config = json.loads(files["config.json"])
    own = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    files["config.json"] = json.dumps({**config, "model_type": "own", "auto_map": own}).encode()
    hub.add(NAME, {**files, "code.py": b"raise SystemExit('ran')"})
    with pytest.raises(ConfigurationError, match="it may not need code of its own"):
        load_artefact(folder)
    assert "code.py" not in hub.downloaded()
