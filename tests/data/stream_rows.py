"""Rows of every kind for the tests of streaming, in memory and as shards."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from data_helpers import WORDS

from mmadapters.data.schema import DatasetSchema, TabularColumns, VectorColumn

SCHEMA = DatasetSchema(
    text="title",
    label="genres",
    modalities=(
        VectorColumn("poster", "poster"),
        TabularColumns("facts", ["year", "budget"], ["country"], 3, 2, ["actors"]),
        VectorColumn("scores", ("x", "y")),
    ),
)
MARK = "row"
NUMBER = VectorColumn("number", (MARK, "one"))
"""A modality that tells which row an item is of."""


def stream_rows(n: int, seed: int = 0, longest: int = 12) -> pd.DataFrame:
    """Rows in which every kind of cell is missing somewhere; ``row`` numbers them."""
    random = np.random.default_rng(seed)
    words = WORDS[5:]
    frame = pd.DataFrame(
        {
            MARK: np.arange(n),
            "one": np.ones(n, dtype=np.int64),
            "title": [" ".join(random.choice(words, random.integers(1, longest))) for _ in range(n)],
            "genres": [list(random.choice(["war", "drama", "art"], random.integers(0, 3), False)) for _ in range(n)],
            "poster": list(random.normal(size=(n, 3)).astype(np.float32)),
            "year": random.integers(1950, 2020, n).astype(float),
            "budget": random.lognormal(10, 3, n),
            "country": random.choice(["fr", "us", "it", "1", "rare"], n, p=[0.3, 0.3, 0.2, 0.19, 0.01]),
            "actors": ["|".join(random.choice(["Ann", "Bo", "Cy", "Di"], random.integers(1, 4))) for _ in range(n)],
            "x": random.normal(size=n),
            "y": random.normal(size=n),
        }
    )
    gaps = np.arange(n)
    frame.loc[gaps % 7 == 0, "year"] = np.nan
    frame["poster"] = [None if i % 5 == 0 else vector for i, vector in enumerate(frame["poster"])]
    frame["country"] = [None if i % 11 == 3 else country for i, country in enumerate(frame["country"])]
    frame["actors"] = [None if i % 13 == 4 else actors for i, actors in enumerate(frame["actors"])]
    frame.loc[gaps % 6 == 1, ["x", "y"]] = np.nan
    return frame


def write_shards(frame: pd.DataFrame, folder: Path, sizes: list[int], row_group_size: int = 100) -> Path:
    """Write consecutive rows as ``part-<i>.parquet`` of the given sizes, the last one with what is left."""
    folder.mkdir(parents=True, exist_ok=True)
    bounds = [0, *itertools.accumulate(sizes), len(frame)]
    for place, (start, stop) in enumerate(itertools.pairwise(bounds)):
        table = pa.Table.from_pandas(frame.iloc[start:stop], preserve_index=False)
        pq.write_table(table, folder / f"part-{place}.parquet", row_group_size=row_group_size)
    return folder


def write_text_shards(frame: pd.DataFrame, folder: Path, ending: str, sizes: list[int]) -> Path:
    """Write consecutive rows as CSV, TSV or JSON lines; in JSON lines a missing cell has no key."""
    folder.mkdir(parents=True, exist_ok=True)
    bounds = [0, *itertools.accumulate(sizes), len(frame)]
    for place, (start, stop) in enumerate(itertools.pairwise(bounds)):
        file, part = folder / f"part-{place}.{ending}", frame.iloc[start:stop]
        if ending in ("csv", "tsv"):
            cells = part.assign(
                genres=[json.dumps(list(labels)) for labels in part["genres"]],
                poster=[None if vector is None else json.dumps(vector.tolist()) for vector in part["poster"]],
            )
            cells.to_csv(file, index=False, sep="," if ending == "csv" else "\t")
        else:
            file.write_text("".join(json.dumps(record) + "\n" for record in records(part)))
    return folder


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries of plain values without what is missing."""

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

    def cells(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in record.items():
            if isinstance(value, (list, np.ndarray)):
                yield name, [plain(entry) for entry in value]
            elif not pd.isna(value):
                yield name, plain(value)

    return [dict(cells(record)) for record in frame.to_dict("records")]


class Rows:
    """Gives dictionaries each time that it is iterated, as a ``datasets.IterableDataset`` does."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.given = records(frame)
        self.times = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.times += 1
        return iter(self.given)


def same_item(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two rows of data sets are equal, features and labels bit for bit."""
    if first.keys() != second.keys():
        return False
    for name, value in first.items():
        if name == "modality_features":
            for modality, features in value.items():
                other = second[name][modality]
                if (features is None) != (other is None):
                    return False
                if features is not None and not (features.dtype == other.dtype and np.array_equal(features, other)):
                    return False
        elif not np.array_equal(value, second[name]):
            return False
    return True


def number_of(item: dict[str, Any]) -> int:
    """The number of the row that an item is of, in a schema with ``NUMBER``."""
    return int(item["modality_features"]["number"][0])
