"""Published data sets that somebody has on disk: read and checked by a file each, written as a folder for training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmadapters.data.files import write_rows
from mmadapters.data.schema import MULTI_LABEL
from mmadapters.data.sources.prepared import PreparedData, check_new_folder, label_counts, new_folder
from mmadapters.data.sources.problems import Problems
from mmadapters.data.sources.protocol import EXTRACT_FILE, TRAIN_FILE, RunFile, extract_yaml, train_yaml
from mmadapters.features.store import StoreColumn, StoreWriter
from mmadapters.files import write_text_atomically

logger = logging.getLogger(__name__)

ID = "id"
LABELS = "labels"
FEATURES = "features"
"""Store of the features that a data set was published with."""
ROWS_FILE = "rows.parquet"
README_FILE = "README.txt"

Row = dict[str, "np.ndarray | None"]
StoreDtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class PublishedFeatures:
    """Features that a data set was published with.

    Attributes:
        columns: Of the store that they are written to.
        read: Given where to note problems, yields id and features of each row, in the order of the store. Features
            that cannot be read are noted and left out.
    """

    columns: tuple[StoreColumn, ...]
    read: Callable[[Problems], Iterator[tuple[str, Row]]]


@dataclass(frozen=True)
class PublishedSet:
    """A data set as it was published, read and checked.

    Attributes:
        title: Its name.
        root: Its folder, from which paths of pictures start.
        splits: Rows of ``train``, ``validation`` and ``test``, with a column ``id``.
        run: What ``train.yaml`` says beside the protocol.
        readme: What the columns hold, where it is from, what was left out.
        problems: Where what is wrong with its features is noted.
        features: Features to write to a store.
        extract: Settings of the modalities whose media are to be extracted.
        notes: What happened to the rows, such as how many were dropped and why.
    """

    title: str
    root: Path
    splits: dict[str, pd.DataFrame]
    run: RunFile
    readme: str
    problems: Problems
    features: PublishedFeatures | None = None
    extract: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write_published(data: PublishedSet, folder: str | Path, seed: int = 1) -> PreparedData:
    """Write a data set: splits as Parquet files, features as a store, ``train.yaml``, ``README.txt``, all or nothing.

    Where there are media to extract, also ``rows.parquet`` with the rows of all splits, and ``extract.yaml``.

    Args:
        data: The data set.
        folder: Where to; it is absent or empty.
        seed: Of the training.

    Raises:
        ConfigurationError: If the folder holds something.
        DataError: If features cannot be read; the message lists all problems.
    """
    check_new_folder(folder)
    commands = [f"mmadapters train {TRAIN_FILE}"]
    with new_folder(folder) as target:
        if data.features is not None:
            _write_store(data, target / FEATURES)
        for name, frame in data.splits.items():
            write_rows(frame, target / f"{name}.parquet")
        if data.extract:
            together = [frame.assign(split=name) for name, frame in data.splits.items()]
            write_rows(pd.concat(together, ignore_index=True), target / ROWS_FILE)
            write_text_atomically(target / EXTRACT_FILE, extract_yaml(data.extract, str(data.root.resolve())))
            commands.insert(0, f"mmadapters extract {EXTRACT_FILE}")
        write_text_atomically(target / TRAIN_FILE, train_yaml(data.run, seed, bool(data.extract)))
        write_text_atomically(target / README_FILE, _readme(data, commands))
    return PreparedData(
        Path(folder), {name: len(frame) for name, frame in data.splits.items()}, _counts(data), tuple(commands)
    )


def _write_store(data: PublishedSet, folder: Path) -> None:
    """Write the features of all rows, or raise what is wrong with them."""
    assert data.features is not None
    with StoreWriter(folder, data.features.columns) as writer:
        for id, row in data.features.read(data.problems):
            data.problems.attempt(lambda id=id, row=row: writer.add(id, row))  # type: ignore[misc]
        data.problems.raise_any()


def _counts(data: PublishedSet) -> dict[str, dict[str, int]]:
    column = data.run.label
    labelled = {name: frame for name, frame in data.splits.items() if column in frame}
    if data.run.problem_type != MULTI_LABEL:
        labelled = {
            name: pd.DataFrame({column: [[str(label)] for label in frame[column]]}) for name, frame in labelled.items()
        }
    counts = label_counts(labelled, column)
    return {label: {name: of_split.get(name, 0) for name in data.splits} for label, of_split in counts.items()}


def _readme(data: PublishedSet, commands: list[str]) -> str:
    rows = ", ".join(f"{len(frame):,} {name}" for name, frame in data.splits.items())
    parts = [f"{data.title}: {rows} rows, from '{data.root}'.", *data.notes, "", data.readme.strip("\n"), "", *commands]
    return "\n".join(parts) + "\n"
