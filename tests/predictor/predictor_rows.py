"""Rows, files and a tiny encoder for the tests of the predictor."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from mmadapters import MultimodalPredictor
from mmadapters.data.sources.miniature_media import write_mp4

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
QUICK = {"num_train_epochs": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 16, "use_cpu": True}
SMALL = {"bottleneck_size": 8, "dropout": 0.0, "feature_dropout": 0.0}


def movie_rows(n: int, seed: int = 0) -> pd.DataFrame:
    """Labels told by the text, by a vector and by numbers; the index is texts."""
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    vectors = random.normal(size=(n, 4)).astype(np.float32)
    budget = random.normal(100, 30, n)
    genres = [
        "|".join(name for name, true in {"war": word < 3, "dark": vector[0] > 0, "big": money > 100}.items() if true)
        or "none"
        for word, vector, money in zip(words, vectors, budget, strict=True)
    ]
    return pd.DataFrame(
        {
            "movie": [f"m{seed}-{row}" for row in range(n)],
            "plot": [f"the {WORDS[w]} and the {WORDS[(w + row) % 6]} of the river" for row, w in enumerate(words)],
            "genres": genres,
            "viewers": [None if row % 7 == 3 else vector for row, vector in enumerate(vectors)],
            "budget": [None if row % 5 == 2 else float(money) for row, money in enumerate(budget)],
            "country": [None if row % 6 == 1 else ["fr", "us", "de"][word % 3] for row, word in enumerate(words)],
        },
        index=[f"row {seed}-{row}" for row in range(n)],
    )


def predictor(encoder: Path, **parameters: Any) -> MultimodalPredictor:
    given = {"label": "genres", "backbone": str(encoder), "verbose": 0, "training": QUICK, "adapter": SMALL}
    return MultimodalPredictor(**{**given, **parameters})


def save_vit(folder: Path) -> Path:
    """A vision transformer, 8 wide, on 16 x 16 pixels."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, initializer_range=0.5, **sizes)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def write_picture(file: Path, shade: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((12, 16, 3), shade, dtype=np.uint8)
    pixels[:6, :, 0] = 255 - shade
    Image.fromarray(pixels).save(file, format="PNG")
    return file


def write_sound(file: Path, hertz: float, seconds: float = 0.5, rate: int = 12_000) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes((samples * 32_767).astype("<i2").tobytes())
    return file


def write_clip(file: Path, shade: int, hertz: float | None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((4, 32, 32, 3), shade, dtype=np.uint8)
    sound = None if hertz is None else (0.5 * np.sin(2 * np.pi * hertz * np.arange(6000) / 12_000)).astype(np.float32)
    write_mp4(file, frames, sound)
    return file
