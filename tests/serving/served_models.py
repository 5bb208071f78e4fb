"""Tiny saved models and an application around them, for the tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fastapi.testclient import TestClient
from PIL import Image
from transformers import ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from mmadapters import MultimodalPredictor
from mmadapters.data.sources.miniature_media import write_mp4
from mmadapters.serving.app import create_app
from mmadapters.serving.config import ServedFolder, ServerConfig

WORDS = ["war", "space", "love", "robot", "dance", "ghost"]
QUICK = {"num_train_epochs": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 16, "use_cpu": True}
TEXT_MODELS = ("genres", "country", "budget")


def movie_rows(n: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    words = random.integers(0, len(WORDS), n)
    vectors = random.normal(size=(n, 4)).astype(np.float32)
    wide = random.normal(size=(n, 6)).astype(np.float32)
    genres = [
        "|".join(name for name, true in {"war": word < 3, "dark": vector[0] > 0}.items() if true) or "none"
        for word, vector in zip(words, vectors, strict=True)
    ]
    return pd.DataFrame(
        {
            "plot": [" ".join(["the", WORDS[w], "of"] + ["cold river"] * (row % 7)) for row, w in enumerate(words)],
            "genres": genres,
            "viewers": [None if row % 7 == 3 else vector for row, vector in enumerate(vectors)],
            "wide": list(wide),
            "budget": [None if row % 5 == 2 else float(money) for row, money in enumerate(random.normal(100, 30, n))],
            "country": [["fr", "us", "de"][word % 3] for word in words],
            "actors": ["Ann|Bo" if row % 2 else "Cy" for row in range(n)],
        }
    )


def train_models(folder: Path, backbone: Path) -> None:
    """A multi-label model, one of classes whose 'viewers' is wider, and a regression; in one backbone."""
    given: dict[str, Any] = {"backbone": str(backbone), "verbose": 0, "training": QUICK, "text": "plot"}
    rows = movie_rows(48)
    multi = {"vectors": ["viewers"], "tabular": ["budget", "country", "actors"]}
    MultimodalPredictor(label="genres", **multi, **given).fit(rows).save(folder / "genres")
    single = {"label": "country", "vectors": {"viewers": "wide"}}
    MultimodalPredictor(**single, **given, adapter={"bottleneck_size": 8, "share_projections": True}).fit(rows).save(
        folder / "country"
    )
    value = {"label": "budget", "problem_type": "regression", "tabular": ["country"]}
    MultimodalPredictor(**value, **given).fit(rows[rows["budget"].notna()]).save(folder / "budget")


def write_picture(file: Path, shade: int) -> Path:
    pixels = np.full((12, 16, 3), shade, dtype=np.uint8)
    pixels[:6, :, 0] = 255 - shade
    Image.fromarray(pixels).save(file, format="PNG")
    return file


def write_clip(file: Path, shade: int, hertz: float | None) -> Path:
    frames = np.full((4, 32, 32, 3), shade, dtype=np.uint8)
    sound = None if hertz is None else (0.5 * np.sin(2 * np.pi * hertz * np.arange(6000) / 12_000)).astype(np.float32)
    write_mp4(file, frames, sound)
    return file


def save_vit(folder: Path) -> Path:
    """A vision transformer, 8 wide, on 16 x 16 pixels."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, initializer_range=0.5, **sizes)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def train_films(folder: Path, backbone: Path) -> pd.DataFrame:
    """A model of posters, films with sound and years, and its rows; their files are in the folder."""
    vit = str(save_vit(folder / "vit"))
    for shade in range(3):
        write_picture(folder / f"{shade}.png", 100 * shade)
        write_clip(folder / f"{shade}.mp4", 60 * shade, (200.0, 3000.0, None)[shade])
    rows = pd.DataFrame(
        {
            "plot": [f"the {WORDS[i % 6]} and the ghost" for i in range(24)],
            "mood": [("dark", "bright")[i % 3 == 2] for i in range(24)],
            "poster": [None if i == 4 else f"{i % 3}.png" for i in range(24)],
            "film": [None if i == 5 else f"{i % 3}.mp4" for i in range(24)],
            "year": [1950 + i for i in range(24)],
        }
    )
    encoder = {"encoder": vit, "device": "cpu"}
    MultimodalPredictor(
        label="mood",
        text="plot",
        image="poster",
        video="film",
        audio={"sound": "film"},
        tabular=["year"],
        extractors={"poster": encoder, "film": {**encoder, "frames": 2}},
        backbone=str(backbone),
        root=folder,
        cache_dir=folder / "cache",
        training=QUICK,
        verbose=0,
    ).fit(rows).save(folder / "films")
    return rows


def config_of(folder: Path, *names: str, **settings: Any) -> ServerConfig:
    return ServerConfig({name: ServedFolder(str(folder / name)) for name in names}, **settings)


@contextmanager
def client_of(config: ServerConfig) -> Iterator[TestClient]:
    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        yield client


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, np.ndarray):
        return [float(number) for number in value]
    return None if value is None or value != value else value


def feature_row(row: Any, model: str) -> dict[str, Any]:
    """A row of ``movie_rows`` as ``/predict/features`` takes it."""
    if model == "genres":
        table = {name: plain(getattr(row, name)) for name in ("budget", "country", "actors")}
        return {"text": row.plot, "features": {"viewers": plain(row.viewers)}, "table": table}
    if model == "country":
        return {"text": row.plot, "features": {"viewers": plain(row.wide)}}
    return {"text": row.plot, "table": {"country": row.country}}


def expected_scores(folder: Path, model: str, rows: pd.DataFrame) -> np.ndarray:
    predictor = MultimodalPredictor.load(folder / model, verbose=0)
    if model == "budget":
        return predictor.predict(rows, as_pandas=False)[:, None]
    return predictor.predict_proba(rows, as_pandas=False)


def scores_of(predictions: list[dict[str, Any]]) -> np.ndarray:
    return np.array([list((p["probabilities"] or {"": p["prediction"]}).values()) for p in predictions])
