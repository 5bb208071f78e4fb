"""A tiny trained model whose labels are told by the text and by one vector; the other vector is noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from peft import PeftModel

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.backbones import load_tokenizer
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, fit

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]


def rows(n: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    posters, noise = random.normal(size=(n, 6)), random.normal(size=(n, 4))
    labels = [
        [name for name, true in {"war": word < 3, "dark": poster[0] > 0}.items() if true]
        for word, poster in zip(words, posters, strict=True)
    ]
    frame = pd.DataFrame({"plot": [WORDS[w] for w in words], "labels": labels})
    frame["poster"] = list(posters.astype(np.float32))
    frame["noise"] = list(noise.astype(np.float32))
    return frame


@dataclass(frozen=True)
class Explained:
    """What the tests need of it."""

    model: PeftModel
    preprocessor: Preprocessor
    settings: ModelSettings
    train: MultimodalDataset
    test: MultimodalDataset
    collator: MultimodalCollator


def explained_model(backbone: Path, **adapter: object) -> Explained:
    schema = DatasetSchema(
        text="plot", label="labels", modalities=(VectorColumn("poster", "poster"), VectorColumn("noise", "noise"))
    )
    preprocessor = Preprocessor.fit(rows(160, 0), schema, load_tokenizer(str(backbone)))
    train, test = preprocessor.transform(rows(160, 0)), preprocessor.transform(rows(60, 1))
    settings = ModelSettings(backbone=str(backbone), head_dropout=0.0)
    options = {"bottleneck_size": 8, "dropout": 0.0, "feature_dropout": 0.0, **adapter}
    fitted = fit(
        preprocessor,
        train,
        None,
        settings=settings,
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, **options),
        arguments=MultimodalTrainingArguments(
            learning_rate=1e-2,
            num_train_epochs=12,
            per_device_train_batch_size=16,
            use_cpu=True,
            disable_tqdm=True,
        ),
    )
    collator = MultimodalCollator(preprocessor.tokenizer, preprocessor.modalities)
    return Explained(fitted.model, preprocessor, settings, train, test, collator)
