"""A tiny trained model with every kind of modality, and the rows that it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.artefact import Artefact
from mmadapters.backbones import load_tokenizer
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn
from mmadapters.export import ExportReport
from mmadapters.training.fit import ModelSettings, build_model

ROWS = pd.DataFrame(
    {
        "id": ["tt1", "tt2", "tt3", "tt4", "tt5"],
        "plot": ["war love", "robot", "the dance of a ghost king in the cold night", "", "murder"],
        "labels": [["a"], ["b"], ["a", "c"], [], ["c"]],
        "clip": [
            [[0.1, 0.2, 0.3], [1.0, 0.0, 2.0]],
            None,
            [[1.0, -1.0, 0.5]],
            [[9.0, 8.0, 7.0]] * 4,
            [[0.0, 0.0, 0.1]],
        ],
        "poster": [[1.0, 2.0], [0.5, 0.5], None, None, [3.0, -1.0]],
        "year": [1990.0, 2000.0, None, 1970.0, 2010.0],
        "country": ["fr", "us", "us", None, "de"],
    }
)
SCHEMA = DatasetSchema(
    text="plot",
    label="labels",
    id="id",
    modalities=(
        VectorColumn("clip", "clip"),
        VectorColumn("the-poster", "poster"),
        TabularColumns("table", ("year",), ("country",)),
    ),
)
MODALITIES = ("clip", "the-poster", "table")


@dataclass(frozen=True)
class Export:
    """A trained model, what was exported of it, and its logits for the rows before that."""

    artefact: Artefact
    report: ExportReport
    logits: np.ndarray

    @property
    def folder(self) -> Path:
        return self.report.folder


def logits(artefact: Artefact) -> np.ndarray:
    return artefact.predict_dataset(artefact.preprocessor.transform(ROWS, with_labels=False)).logits


def made_artefact(backbone: Path, schema: DatasetSchema = SCHEMA, rows: pd.DataFrame = ROWS, **options) -> Artefact:
    """Return an artefact whose adapters and head are drawn large enough for every part to matter."""
    torch.manual_seed(0)
    preprocessor = Preprocessor.fit(rows, schema, load_tokenizer(str(backbone)))
    settings = ModelSettings(backbone=str(backbone))
    config = MultimodalAdapterConfig(modalities=preprocessor.modalities, bottleneck_size=8, **options)
    model = build_model(preprocessor, settings, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    thresholds = (0.4, 0.5, 0.6) if len(preprocessor.labels.classes) == 3 else None
    return Artefact(
        model.eval(), preprocessor, settings, batch_size=2, metrics={"test": {"micro_f1": 0.5}}, thresholds=thresholds
    )


def eager(artefact: Artefact, text: dict, features: dict, masks: dict) -> np.ndarray:
    """Return the logits that the artefact itself gives for arrays."""
    tensors = [{name: torch.from_numpy(array) for name, array in part.items()} for part in (text, features, masks)]
    with torch.inference_mode():
        return artefact.model(**tensors[0], modality_features=tensors[1], modality_mask=tensors[2]).logits.numpy()
