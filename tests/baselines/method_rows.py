"""Rows whose label is told by one source alone, and how a method is run on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.backbones import load_tokenizer
from mmadapters.baselines.method import MethodResult, build_method
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.training.fit import ModelSettings

MULTI, SINGLE, REGRESSION = "multi_label_classification", "single_label_classification", "regression"
WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
SIZES = {"train": 96, "validation": 48, "test": 48}
SCHEMA = DatasetSchema(text="plot", label="label", modalities=(VectorColumn("poster", "poster"),))

LATE = {"hidden_sizes": [16], "learning_rates": [3e-2], "dropouts": [0.0], "max_epochs": 12, "batch_size": 16}
QUICK: dict[str, dict[str, Any]] = {
    "adapters": {"training": {"learning_rate": 1e-2}, "adapter": {"dropout": 0.0, "feature_dropout": 0.0}},
    "adapters_text_only": {"training": {"learning_rate": 1e-2}, "adapter": {"dropout": 0.0}},
    "mmbt": {"training": {"learning_rate": 2e-3, "head_learning_rate_multiplier": 3.0}},
    "full_text_only": {"training": {"learning_rate": 2e-3, "head_learning_rate_multiplier": 3.0}},
    "lora_late_fusion": {"training": {"learning_rate": 1e-2}},
    "late_gmu": LATE,
    "late_concat": LATE,
    "logistic_regression": {"cs": [0.01, 0.1]},
    "majority": {},
}
"""Options with which a tiny encoder learns in a few epochs."""
TRAINING = {"num_train_epochs": 6, "per_device_train_batch_size": 16, "use_cpu": True}


def rows(split: str, problem_type: str, told_by: str, missing: float = 0.0) -> pd.DataFrame:
    """Rows of a split; ``told_by`` is ``text`` or ``poster``, the other one says nothing."""
    n = SIZES[split]
    random = np.random.default_rng([sorted(SIZES).index(split), len(told_by)])
    words = random.integers(0, len(WORDS), n)
    shown = random.uniform(-1, 1, n)
    posters = (np.outer(shown, [3, -3, 3, -3, 3, -3]) + 5 + 0.3 * random.normal(size=(n, 6))).astype(np.float32)
    told = words / (len(WORDS) - 1) * 2 - 1 if told_by == "text" else shown
    absent = random.random(n) < missing
    labels: Any
    if problem_type == MULTI:
        labels = [
            [name for name, true in (("high", value > 0), ("low", value < 0), ("far", abs(value) > 0.7)) if true]
            for value in told
        ]
    elif problem_type == SINGLE:
        labels = np.where(told > 0, "yes", "no")
    else:
        labels = told * 20 + 100
    plots = [f"the {WORDS[word]} of the night" for word in words]
    cells = [None if gone else poster for gone, poster in zip(absent, posters, strict=True)]
    return pd.DataFrame({"plot": plots, "label": labels, "poster": cells})


@cache
def prepared(
    backbone: Path, problem_type: str = MULTI, told_by: str = "poster", missing: float = 0.0
) -> tuple[Preprocessor, dict[str, MultimodalDataset]]:
    frames = {split: rows(split, problem_type, told_by, missing) for split in SIZES}
    schema = replace(SCHEMA, problem_type=problem_type)
    preprocessor = Preprocessor.fit(frames["train"], schema, load_tokenizer(str(backbone)))
    return preprocessor, {split: preprocessor.transform(frame) for split, frame in frames.items()}


def settings_for(backbone: Path, **options: Any) -> ModelSettings:
    return ModelSettings(backbone=str(backbone), **{"head_dropout": 0.0, **options})


def run(
    name: str,
    backbone: Path,
    folder: Path,
    data: tuple[Preprocessor, dict[str, MultimodalDataset]],
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> MethodResult:
    method = build_method(
        name, settings_for(backbone), {}, {**TRAINING, **training}, QUICK[name] if options is None else options
    )
    return method.run(*data, seed=seed, folder=folder)
