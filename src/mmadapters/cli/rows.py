"""Reads the rows of a run, and turns them into data sets by what the training rows fix."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmadapters.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from mmadapters.cli.run_config import RunConfig
    from mmadapters.data.preprocessor import Preprocessor


def prepare_rows(
    settings: RunConfig, rows_folder: Path, report: Callable[[str], None] | None = None
) -> tuple[Preprocessor, dict[str, Any]]:
    """Fit the preprocessing on the training rows of a run, and turn the rows of all its splits into data sets.

    Args:
        settings: The run.
        rows_folder: Relative paths of row files start here.
        report: Called with a line for a person while many rows are read.

    Returns:
        The preprocessor, and the data sets by split, ``train`` first: a ``MultimodalDataset`` each, of training rows
        that are streamed a ``StreamedDataset``.
    """
    from mmadapters.backbones import load_tokenizer
    from mmadapters.data.preprocessor import Preprocessor

    if settings.data.streaming:
        from mmadapters.training.streamed import BY_LENGTH, check_sampling

        check_sampling(settings.training.get("train_sampling_strategy", BY_LENGTH))
    frames = read_splits(settings, rows_folder)
    tokenizer = load_tokenizer(settings.model.backbone)
    schema, max_length = settings.to_schema(), settings.data.max_length
    data: dict[str, Any] = {}
    if settings.data.streaming:
        from mmadapters.data.streaming import DEFAULT_SHUFFLE_BUFFER, StreamedDataset

        preprocessor, data["train"] = StreamedDataset.fit(
            rows_folder / settings.data.train,
            schema,
            tokenizer,
            max_length,
            shuffle_buffer=settings.data.shuffle_buffer or DEFAULT_SHUFFLE_BUFFER,
            seed=settings.seed,
            report=report,
        )
    else:
        preprocessor = Preprocessor.fit(frames["train"], schema, tokenizer, max_length=max_length)
    return preprocessor, data | {split: preprocessor.transform(frame) for split, frame in frames.items()}


def read_splits(settings: RunConfig, rows_folder: Path) -> dict[str, pd.DataFrame]:
    """Read the row files, cutting validation and test from the training rows where they have no file.

    Args:
        settings: The run. Training rows that are streamed are not read.
        rows_folder: Relative paths start here.

    Raises:
        DataError: If a file cannot be read, or one is needed and several are named.
    """
    from mmadapters.data.files import read_rows, split_rows

    data = settings.data
    paths = {"train": data.train, "validation": data.validation, "test": data.test}
    if data.streaming:
        del paths["train"]
    for split, path in paths.items():
        if path:
            _check_one_file(split, rows_folder / path)
    frames: dict[str, Any] = {split: read_rows(rows_folder / path) for split, path in paths.items() if path}
    fractions = {name: fraction for name, fraction in data.split.items() if name not in frames}
    if fractions:
        cut = {"train": 1.0 - sum(fractions.values()), **fractions}
        frames |= split_rows(frames["train"], cut, settings.seed if data.split_seed is None else data.split_seed)
    return frames


def _check_one_file(split: str, path: Path) -> None:
    if path.is_dir() or (glob.has_magic(str(path)) and not path.exists()):
        hint = " Or set data.streaming: true, which reads them while it trains." if split == "train" else ""
        raise DataError(f"data.{split} is '{path}', which is no file but may name several. Name one file.{hint}")
