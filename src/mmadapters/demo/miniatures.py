"""The demonstration on raw media: posters, trailers and sound of a SYNTHETIC set, from files to a comparison.

240 miniature trailers are written, their media extracted into a feature store, and adapters trained on all five
modalities and on each single one, beside logistic regression on the same frozen features. The set is made up: the
figures say that the parts work together, and nothing about films.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mmadapters.backbones import load_encoder, load_tokenizer
from mmadapters.baselines.frozen_linear import embed_texts
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.files import ROOT, read_rows, split_rows
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import MULTI_LABEL, DatasetSchema, ModalitySource, StoredFeatures, TabularColumns
from mmadapters.data.sources.miniatures import (
    CATEGORICAL_COLUMNS,
    LABEL_SEPARATOR,
    NUMERIC_COLUMNS,
    write_miniatures,
)
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
from mmadapters.features.extract import ExtractionOptions, MediaSource, extract
from mmadapters.features.extractor import ExtractorSpec, build_extractor
from mmadapters.features.store_format import MANIFEST
from mmadapters.modality import TEXT

N_ROWS = 240
FRAMES = 8
IMAGE_ENCODER = "efficientnet-lite0"
SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}
TRAINING = {"learning_rate": 1e-3, "per_device_train_batch_size": 16}
"""For 144 training rows; chosen on the validation rows of seed 0. The other options are the defaults."""

DATA_FOLDER = "miniatures"
STORE_FOLDER = "miniature-features"
TEST_ROWS = "test_miniatures.jsonl"
MODALITIES = ("poster", "trailer", "sound", "table")
"""Beside the text."""

NOTE = (
    "The set is SYNTHETIC: plots, pictures, films, sounds and tables were made by a program, each modality telling a "
    "part of the labels. The figures say that the parts work together, and nothing about real films."
)
_SAME_TEXT = "."
"""What adapters of a single modality beside the text read as text, in every row."""


def run_media_demo(options: DemoOptions, n: int = N_ROWS) -> DemoResult:
    """Write the miniatures, extract their features, train, compare, and write artefacts and ``metrics.json``.

    Args:
        options: See ``DemoOptions``.
        n: Number of miniatures.

    Raises:
        MissingDependencyError: If a package that reads the media is not installed.
    """
    options.report(f"Writing {n} miniature trailers (synthetic) to {options.output_dir / DATA_FOLDER}")
    frame = read_rows(write_miniatures(options.output_dir / DATA_FOLDER, n, options.seed))
    store = options.output_dir / STORE_FOLDER
    _extract(frame, store, options)
    frames = split_rows(frame, SPLITS, options.seed)
    training = {**TRAINING, **options.training}
    options = replace(options, training=training, rows_name="miniature trailers", synthetic=True)
    schema = _schema(store)
    singles = [_train_single(options, frames, schema, name) for name in MODALITIES]
    _, text_only = train_adapter(options, frames, replace(schema, modalities=()), TEXT_ONLY)
    artefact, multimodal = train_adapter(options, frames, schema, MULTIMODAL)
    methods = [*_linear_baselines(options, frames, schema), text_only, *singles, multimodal]
    return write_result(options, frames, methods, artefact, options.output_dir / TEST_ROWS, "miniatures", NOTE)


def _extract(frame: pd.DataFrame, store: Path, options: DemoOptions) -> None:
    options.report(
        f"Extracting posters, {FRAMES} frames of each trailer ({IMAGE_ENCODER}) and log-mel sound to {store}"
    )
    if (store / MANIFEST).exists():
        # Of an earlier run, whose miniatures were other ones under the same ids.
        shutil.rmtree(store)
    image = ExtractorSpec("poster", "image", encoder=IMAGE_ENCODER)
    video = ExtractorSpec("trailer", "video", encoder=IMAGE_ENCODER, frames=FRAMES)
    sources = [
        MediaSource("poster", build_extractor(image)),
        MediaSource("trailer", build_extractor(video), pool_mean=True),
        MediaSource("trailer", build_extractor(ExtractorSpec("sound", "audio")), pool_mean=True),
    ]
    progress = not options.training.get("disable_tqdm", False)
    summary = extract(
        frame, sources, store, ExtractionOptions(id_column="id", root=Path(frame.attrs[ROOT]), progress=progress)
    )
    counts = ", ".join(
        f"{name} {' '.join(f'{count} {status}' for status, count in sorted(modality.statuses.items(), reverse=True))}"
        for name, modality in summary.modalities.items()
    )
    options.report(f"  {summary.seconds:.0f} s: {counts}")


def _schema(store: Path) -> DatasetSchema:
    modalities: tuple[ModalitySource, ...] = (
        StoredFeatures("poster", str(store)),
        StoredFeatures("trailer", str(store), pooling="mean"),
        StoredFeatures("sound", str(store), pooling="mean"),
        TabularColumns("table", numeric=NUMERIC_COLUMNS, categorical=CATEGORICAL_COLUMNS),
    )
    return DatasetSchema(
        text="plot",
        label="genres",
        label_separator=LABEL_SEPARATOR,
        modalities=modalities,
        problem_type=MULTI_LABEL,
        id="id",
    )


def _train_single(
    options: DemoOptions, frames: Mapping[str, pd.DataFrame], schema: DatasetSchema, name: str
) -> MethodResult:
    """Train adapters that can tell rows apart by one modality alone: the text is the same everywhere."""
    only = tuple(source for source in schema.modalities if source.name == name)
    blank = {split: frame.assign(plot=_SAME_TEXT) for split, frame in frames.items()}
    _, result = train_adapter(options, blank, replace(schema, modalities=only), f"{name} adapter")
    return replace(result, modalities=[name])


def _linear_baselines(
    options: DemoOptions, frames: Mapping[str, pd.DataFrame], schema: DatasetSchema
) -> list[MethodResult]:
    options.report(f"Fitting logistic regressions on frozen features (plot: {options.model.backbone}, mean-pooled)")
    tokenizer, encoder = load_tokenizer(options.model.backbone), load_encoder(options.model.backbone)
    preprocessor = Preprocessor.fit(frames["train"], schema, tokenizer)
    data = {split: preprocessor.transform(frame) for split, frame in frames.items()}
    started = time.perf_counter()
    texts = {split: embed_texts(frame["plot"].tolist(), encoder, tokenizer) for split, frame in frames.items()}
    seconds = time.perf_counter() - started
    train = {name: _cells(data["train"], name) for name in MODALITIES}
    fills = {name: np.stack([cell for cell in cells if cell is not None]).mean(axis=0) for name, cells in train.items()}
    values = {
        split: {TEXT: texts[split], **{name: _dense(_cells(part, name), fills[name]) for name in MODALITIES}}
        for split, part in data.items()
    }
    targets = {split: np.asarray(part.labels) for split, part in data.items()}
    labels = [str(label) for label in preprocessor.labels.classes] if preprocessor.labels else []
    features = FrozenFeatures(values, targets, labels, seconds)
    subsets = [(TEXT,), *((name,) for name in MODALITIES), (TEXT, *MODALITIES)]
    return [features.fit_linear(options, names) for names in subsets]


def _cells(data: MultimodalDataset, name: str) -> list[np.ndarray | None]:
    return [data[row]["modality_features"][name] for row in range(len(data))]


def _dense(cells: Sequence[np.ndarray | None], fill: np.ndarray) -> np.ndarray:
    """Return a modality as float32 (N, D + 1): the mean of the training rows where it is missing, and a flag of it."""
    values = np.stack([fill if cell is None else cell for cell in cells])
    return np.column_stack([values, [float(cell is None) for cell in cells]]).astype(np.float32)
