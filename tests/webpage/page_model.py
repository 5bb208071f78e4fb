"""A tiny model that reads everything a page can ask for, and its rows: synthetic miniatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from mmadapters import MultimodalPredictor
from mmadapters.data.files import read_rows
from mmadapters.data.sources.miniatures import write_miniatures

ROWS = 16
TRAINING = {"num_train_epochs": 3, "learning_rate": 1e-2, "per_device_train_batch_size": 16, "use_cpu": True}
ADAPTER = {"bottleneck_size": 8, "dropout": 0.0, "feature_dropout": 0.0}


def write_page_rows(folder: Path) -> Path:
    """Miniatures with cells of several categories and with vectors beside their media."""
    rows = read_rows(write_miniatures(folder, n=ROWS))
    rows["moods"] = ["grim|loud" if i % 2 else "calm" for i in range(ROWS)]
    rows["viewers"] = [str([i / ROWS, -1.0, float(i % 3)]) for i in range(ROWS)]
    rows.to_csv(folder / "movies.csv", index=False)
    return folder / "movies.csv"


def train_page_model(folder: Path, backbone: Path) -> Path:
    """The folder of the model."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = str(folder / "vit")
    ViTModel(ViTConfig(image_size=16, patch_size=8, initializer_range=0.5, **sizes)).save_pretrained(encoder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(encoder)
    rows = read_rows(write_page_rows(folder / "rows"))
    options: dict[str, Any] = {"backbone": str(backbone), "verbose": 0, "training": TRAINING, "adapter": ADAPTER}
    predictor = MultimodalPredictor(
        label="genres",
        column_kinds={"plot": "text", "moods": "multi_valued"},
        extractors={"poster": {"encoder": encoder}, "trailer": {"encoder": encoder, "frames": 2}},
        cache_dir=folder / "cache",
        **options,
    ).fit(rows)
    return predictor.save(folder / "model")
