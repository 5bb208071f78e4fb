"""MM-IMDb's HDF5 file: features of posters, genres, and plots as numbers of words whose names are in another file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.sources.problems import SPLITS, Problems, check_ids
from mmadapters.data.sources.published import ID, LABELS, PublishedFeatures, Row, StoreDtype
from mmadapters.errors import MissingDependencyError, listed
from mmadapters.features.pickles import read_pickled_values
from mmadapters.features.store import StoreColumn

HDF5_FILE = "multimodal_imdb.hdf5"
VOCABULARY_FILE = "metadata.npy"
VGG_DIM = 4096
GENRES = (
    *("Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror", "Documentary", "Mystery"),
    *("Sci-Fi", "Fantasy", "Family", "Biography", "War", "History", "Music", "Animation", "Musical", "Western"),
    *("Sport", "Short", "Film-Noir"),
)
"""Columns of ``genres`` where the file does not name them."""

_SETS = ("genres", "imdb_ids", "sequences", "vgg_features")
_FUEL_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_UNKNOWN_WORD = "_UNK_"
_CHUNK = 1024


def read_hdf5(
    root: Path, file: Path, problems: Problems, dtype: StoreDtype, published_rows: Mapping[str, int]
) -> tuple[dict[str, pd.DataFrame], PublishedFeatures | None]:
    """Read the rows of all splits, and how to read their features.

    Args:
        root: Folder with the vocabulary.
        file: The HDF5 file.
        problems: Where what is wrong is noted.
        dtype: How features are stored.
        published_rows: Rows of each split, which are one after the other where the file does not say where they are.

    Returns:
        By split the columns ``id``, ``text`` and ``labels``, and the features ``poster``, (4096,) each.

    Raises:
        MissingDependencyError: If h5py is not installed.
    """
    h5py = _h5py()
    nothing = {name: pd.DataFrame({ID: [], "text": [], LABELS: []}, dtype=object) for name in SPLITS}
    vocabulary = problems.attempt(lambda: read_pickled_values(root / VOCABULARY_FILE, ["ix_to_word"]))
    words = (vocabulary or {}).get("ix_to_word")
    if vocabulary is not None and not isinstance(words, dict):
        problems.add(f"'{VOCABULARY_FILE}' has no dict 'ix_to_word'.")
    try:
        with h5py.File(file, "r") as opened:
            if not _check_sets(opened, problems) or not isinstance(words, dict):
                return nothing, None
            rows = _rows(opened, words)
            places = _split_places(opened, published_rows)
    except OSError as error:
        problems.add(f"'{file.name}' was not read: {error}.")
        return nothing, None
    if set(places) != set(SPLITS):
        problems.add(f"'{file.name}' names the splits {listed(places)}; accepted are 'train', 'dev' and 'test'.")
        return nothing, None
    splits = {name: rows.iloc[start:stop].reset_index(drop=True) for name, (start, stop) in places.items()}
    left = len(rows) - sum(map(len, splits.values()))
    if left:
        problems.add(f"'{file.name}': {left:,} of {len(rows):,} movies are in no split.")
    check_ids(problems, {name: frame[ID] for name, frame in splits.items()})
    fingerprint = json.dumps({"kind": "image", "source": "MM-IMDb vgg_features"})
    column = StoreColumn("poster", VGG_DIM, False, dtype, fingerprint)

    def read(noted: Problems) -> Iterator[tuple[str, Row]]:
        with h5py.File(file, "r") as opened:
            for name in SPLITS:
                yield from _features(opened["vgg_features"], places[name], list(splits[name][ID]), noted)

    return splits, PublishedFeatures((column,), read)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "MM-IMDb's HDF5 file is read by h5py, which is not installed. Install it: pip install 'mmadapters[hdf5]'"
        ) from error
    return h5py


def _check_sets(opened: Any, problems: Problems) -> bool:
    """Note data sets of the file that are absent or have another shape than was published."""
    absent = [name for name in _SETS if name not in opened]
    if absent:
        problems.add(f"The HDF5 file has no {listed(absent)}; it has {listed(opened)}.")
        return False
    rows = {name: len(opened[name]) for name in _SETS}
    if len(set(rows.values())) > 1:
        problems.add(
            "Data sets of the HDF5 file differ in their rows: " + ", ".join(f"{k}: {v}" for k, v in rows.items())
        )
        return False
    names = _genre_names(opened)
    for name, shape in (("genres", (rows["genres"], len(names))), ("vgg_features", (rows["genres"], VGG_DIM))):
        if opened[name].shape != shape:
            problems.add(f"'{name}' of the HDF5 file has the shape {opened[name].shape}; published was {shape}.")
            return False
    return True


def _genre_names(opened: Any) -> list[str]:
    named = opened["genres"].attrs.get("target_names")
    if named is None:
        return list(GENRES)
    return [str(name) for name in json.loads(named)]


def _rows(opened: Any, words: Mapping[str, str]) -> pd.DataFrame:
    names = np.array(_genre_names(opened), dtype=object)
    genres = opened["genres"][:].astype(bool)
    ids = [id.decode("ascii") if isinstance(id, bytes) else str(id) for id in opened["imdb_ids"][:]]
    texts = []
    for sequence in opened["sequences"][:]:
        known = (words.get(str(number), _UNKNOWN_WORD) for number in sequence)
        texts.append(" ".join(word for word in known if word != _UNKNOWN_WORD))
    labels = [list(names[row]) for row in genres]
    return pd.DataFrame({ID: ids, "text": texts, LABELS: labels}).astype(object)


def _split_places(opened: Any, published_rows: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return the first row and the one after the last of each split, as ``fuel`` notes them in the file."""
    noted = opened.attrs.get("split")
    if noted is not None and noted.dtype.names and {"split", "source", "start", "stop"} <= {*noted.dtype.names}:
        return {
            _FUEL_SPLITS[_text(entry["split"])]: (int(entry["start"]), int(entry["stop"]))
            for entry in noted
            if _text(entry["source"]) == "genres" and _text(entry["split"]) in _FUEL_SPLITS
        }
    ends = np.cumsum([published_rows[name] for name in SPLITS])
    return {name: (int(end) - published_rows[name], int(end)) for name, end in zip(SPLITS, ends, strict=True)}


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _features(features: Any, place: tuple[int, int], ids: list[str], problems: Problems) -> Iterator[tuple[str, Row]]:
    """Yield id and features of each movie of a split; those that are not finite are noted and left out."""
    for start in range(*place, _CHUNK):
        chunk = np.asarray(features[start : min(start + _CHUNK, place[1])], dtype=np.float32)
        for id, vector in zip(ids[start - place[0] :], chunk, strict=False):
            if not np.isfinite(vector).all():
                problems.add(f"Movie {id}: features of the poster are NaN or infinite.")
                yield id, {"poster": None}
            else:
                yield id, {"poster": vector}
