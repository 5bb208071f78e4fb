"""A run whose features are in a store: settings, training, artefact, predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmadapters.artefact import load_artefact
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings, to_yaml
from mmadapters.cli.train import run
from mmadapters.data.files import read_rows
from mmadapters.data.schema import StoredFeatures
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.evaluator import predict
from mmadapters.features.store import StoreColumn, StoreWriter

SETTINGS = """
data: {train: rows.jsonl, split: {test: 0.25}, text: plot, label: genres, id: movie}
modalities:
  poster: {store: FOLDER}
  clip: {store: FOLDER, column: trailer, pooling: mean}
"""


def settings(folder: Path, backbone: Path) -> RunConfig:
    (folder / "run.yaml").write_text(SETTINGS.replace("FOLDER", str(folder / "features")))
    overrides = [
        f"model.backbone={backbone}",
        f"output_dir={folder / 'out'}",
        "adapter.bottleneck_size=4",
        "training={num_train_epochs: 1, per_device_train_batch_size: 4, report_to: none, use_cpu: true}",
    ]
    return load_settings(RunConfig, folder / "run.yaml", overrides)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "movie": range(16),
            "plot": ["war", "love"] * 8,
            "genres": [["war"], ["love"], ["war", "love"], ["ghost"]] * 4,
        }
    )
    frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    columns = [StoreColumn("poster", 3, is_sequence=False), StoreColumn("trailer", 2, is_sequence=True)]
    with StoreWriter(tmp_path / "features", columns) as writer:
        for movie in range(16):
            values: dict[str, Any] = {"trailer": random.normal(size=(3, 2)).astype(np.float32)}
            if movie % 5:
                values["poster"] = random.normal(size=3).astype(np.float32)
            writer.add(str(movie), values)
    return tmp_path


def test_settings_name_a_store(folder: Path, tiny_backbone: Path) -> None:
    read = settings(folder, tiny_backbone)
    assert read.to_schema().modalities == (
        StoredFeatures("poster", str(folder / "features")),
        StoredFeatures("clip", str(folder / "features"), "trailer", "mean"),
    )
    (folder / "again.yaml").write_text(to_yaml(read))
    assert load_settings(RunConfig, folder / "again.yaml") == read


@pytest.mark.parametrize(
    ("modality", "problem"),
    [
        ("{store: a, columns: [x, y]}", "give exactly one of the four"),
        ("{column: a, pooling: mean}", "pooling is for features from a store"),
        ("{store: a, pooling: max}", "pooling is 'max'"),
    ],
)
def test_settings_that_contradict_themselves(tmp_path: Path, modality: str, problem: str) -> None:
    text = "data: {train: a.csv, text: plot, label: genres, id: movie}\nmodalities: {poster: " + modality + "}"
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        load_settings(RunConfig, tmp_path / "run.yaml")


def test_training_reads_the_store_and_the_artefact_does_so_again(folder: Path, tiny_backbone: Path) -> None:
    run(settings(folder, tiny_backbone), folder, progress=False)
    artefact = load_artefact(folder / "out" / "artefact")
    assert [(m.name, m.feature_dim) for m in artefact.preprocessor.modalities] == [("poster", 3), ("clip", 2)]
    (folder / "features").rename(folder / "elsewhere")
    moved = artefact.preprocessor.with_stores(dict.fromkeys(["poster", "clip"], str(folder / "elsewhere")))
    data = moved.transform(read_rows(folder / "rows.jsonl"), with_labels=False)
    assert data.present("poster").tolist() == [bool(movie % 5) for movie in range(16)]
    assert data[1]["modality_features"]["clip"].shape == (2,)
    result = predict(artefact.model, data, artefact.collator, artefact.problem_type, batch_size=4)
    assert result.logits.shape == (16, 3)
    assert np.isfinite(result.logits).all()
