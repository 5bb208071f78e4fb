"""Features that Moviescope is published with: one pickle a movie, and matrices of metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmadapters.data.sources.pickled_files import each_pickled_array
from mmadapters.data.sources.problems import Problems, named_ids
from mmadapters.data.sources.published import PublishedFeatures, Row, StoreDtype
from mmadapters.features.pickles import read_pickled_values
from mmadapters.features.store import StoreColumn

FEATURE_FOLDERS = {"poster": "PosterFeatures", "trailer": "200F_VGG16", "audio": "MelgramPorcessed"}
VGG_DIM = 4096
MEL_BANDS = 128
CLIPS = 4
"""Clips of a trailer's sound that are used."""
METADATA_DIM = 312
MATRICES = "Metadata_matrices"

_KINDS = {"poster": "image", "trailer": "video", "audio": "audio", "metadata": "tabular"}
_MATRIX_NAMES = {"train": "train", "validation": "val", "test": "test"}


def poster_vector(array: np.ndarray) -> np.ndarray | None:
    """Return a poster's features (4096,) out of (1, 4096), or None for another shape."""
    vector = _squeezed(array, 1)
    return vector if vector.shape == (VGG_DIM,) else None


def frame_sequence(array: np.ndarray) -> np.ndarray | None:
    """Return a trailer's frames (T, 4096) out of (1, T, 4096), or None for another shape."""
    frames = _squeezed(array, 2)
    return frames if frames.ndim == 2 and frames.shape[1] == VGG_DIM and len(frames) else None


def joined_clips(array: np.ndarray) -> np.ndarray | None:
    """Return the first four clips of a spectrogram (1, n, 128, T) one after the other, or None for another shape.

    Returns:
        (4T, 128), or (nT, 128) where there are fewer clips: each movie has its own length.
    """
    clips = _squeezed(array, 3)
    if clips.ndim != 3 or clips.shape[1] != MEL_BANDS or not clips.size:
        return None
    return clips[:CLIPS].transpose(0, 2, 1).reshape(-1, MEL_BANDS)


def _squeezed(array: np.ndarray, axes: int) -> np.ndarray:
    """Return an array without the axes of length 1 in front of its last ``axes``."""
    while array.ndim > axes and array.shape[0] == 1:
        array = array[0]
    return array


@dataclass(frozen=True)
class _FileFeatures:
    """How the pickles of a modality are laid out."""

    dim: int
    is_sequence: bool
    layout: Callable[[np.ndarray], np.ndarray | None]
    accepted: str


_FILES = {
    "poster": _FileFeatures(VGG_DIM, False, poster_vector, f"(1, {VGG_DIM})"),
    "trailer": _FileFeatures(VGG_DIM, True, frame_sequence, f"(1, frames, {VGG_DIM})"),
    "audio": _FileFeatures(MEL_BANDS, True, joined_clips, f"(1, clips, {MEL_BANDS}, steps)"),
}


@dataclass(frozen=True)
class PublishedFiles:
    """Which pickles are read.

    Attributes:
        root: Folder of the data set.
        ids: Of the movies, in the order of the store.
        modalities: Keys of ``FEATURE_FOLDERS``.
    """

    root: Path
    ids: tuple[str, ...]
    modalities: tuple[str, ...]

    def paths(self, modality: str) -> list[Path | None]:
        """Return the file of each movie, or None where there is none."""
        paths = [self.root / FEATURE_FOLDERS[modality] / f"{id}.p" for id in self.ids]
        return [path if path.is_file() else None for path in paths]

    def check(self, problems: Problems) -> None:
        """Note folders and files that are not there."""
        for modality in self.modalities:
            folder = FEATURE_FOLDERS[modality]
            if not (self.root / folder).is_dir():
                problems.add(f"The folder '{folder}' does not exist. Without it: --without {modality}.")
                continue
            absent = [id for id, path in zip(self.ids, self.paths(modality), strict=True) if path is None]
            if absent:
                problems.add_incomplete(
                    f"'{folder}' has no file for {len(absent):,} of {len(self.ids):,} movies: {named_ids(absent)}."
                )


def published_features(
    files: PublishedFiles, matrices: Mapping[str, np.ndarray], dtype: StoreDtype, pooled: bool
) -> PublishedFeatures | None:
    """Return the features of all movies, or None where there are none.

    Args:
        files: The pickles.
        matrices: Metadata of each movie, (312,) by id; empty to leave it out.
        dtype: How the features of the pickles are stored; metadata has float32.
        pooled: Whether of a sequence the mean over its steps is kept instead.
    """
    columns = [_column(name, dtype, pooled) for name in files.modalities]
    if matrices:
        columns.append(StoreColumn("metadata", METADATA_DIM, False, "float32", _fingerprint("metadata", MATRICES)))
    if not columns:
        return None

    def read(problems: Problems) -> Iterator[tuple[str, Row]]:
        arrays = [_laid_out(files, name, pooled, problems) for name in files.modalities]
        for id, *found in zip(files.ids, *arrays, strict=True):
            row: Row = dict(zip(files.modalities, found, strict=True))
            if matrices:
                row["metadata"] = matrices.get(id)
            yield id, row

    return PublishedFeatures(tuple(columns), read)


def matrix_columns(root: Path, ids: Mapping[str, Sequence[str]], problems: Problems) -> dict[str, np.ndarray]:
    """Return the metadata (312,) of each movie, from the matrices and the rows that belong to the ids.

    Args:
        root: Folder of the data set.
        ids: Of the movies of each split.
        problems: Where what is wrong is noted.
    """
    if not (root / MATRICES).is_dir():
        problems.add(f"The folder '{MATRICES}' does not exist. Without it: --without metadata.")
        return {}
    found: dict[str, np.ndarray] = {}
    before = len(problems.messages)
    for split, of_split in ids.items():
        name = _MATRIX_NAMES[split]
        matrix = _matrix(root / MATRICES / f"{name}_metadata.npy", problems)
        file = root / MATRICES / f"{name}_ids.pickle"
        rows = problems.attempt(lambda file=file: read_pickled_values(file))  # type: ignore[misc]
        if matrix is not None and rows is not None:
            found.update(_rows_of(matrix, rows, of_split, file.name, problems))
    if not found and len(problems.messages) == before:
        problems.add(f"'{MATRICES}' has no row for any movie. Without it: --without metadata.")
    return found


def _matrix(file: Path, problems: Problems) -> np.ndarray | None:
    try:
        matrix = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
        problems.add(f"'{MATRICES}/{file.name}' was not read: {reason}.")
        return None
    if matrix.ndim != 2 or matrix.shape[1] != METADATA_DIM or matrix.dtype.kind not in "biuf":
        problems.add(
            f"'{MATRICES}/{file.name}' has the shape {matrix.shape} and type {matrix.dtype}; published were numbers of "
            f"the shape (movies, {METADATA_DIM})."
        )
        return None
    if not np.isfinite(matrix).all():
        problems.add(f"'{MATRICES}/{file.name}' has NaN or infinite numbers.")
        return None
    return matrix.astype(np.float32)


def _rows_of(matrix: np.ndarray, rows: Any, ids: Sequence[str], file: str, problems: Problems) -> dict[str, np.ndarray]:
    """Return the row of each id; ids without one, and rows that are none or another's, are noted."""
    numbers = list(rows.values()) if isinstance(rows, dict) else [None]
    if not all(isinstance(row, int) and 0 <= row < len(matrix) for row in numbers) or len({*numbers}) < len(numbers):
        problems.add(
            f"'{MATRICES}/{file}' is no dict from id to a row of its own among the {len(matrix):,} of the matrix."
        )
        return {}
    absent = [id for id in ids if id not in rows]
    if absent:
        problems.add_incomplete(f"'{MATRICES}/{file}' has no row for {len(absent):,} movies: {named_ids(absent)}.")
    return {id: matrix[rows[id]] for id in ids if id in rows}


def _laid_out(files: PublishedFiles, modality: str, pooled: bool, problems: Problems) -> Iterator[np.ndarray | None]:
    """Yield the features of each movie as training reads them; arrays of another shape are noted."""
    of_file = _FILES[modality]
    paths = files.paths(modality)
    for path, array in zip(paths, each_pickled_array(paths, problems), strict=True):
        features = None if array is None else of_file.layout(array)
        if array is not None and features is None:
            problems.add(f"'{path}' has the shape {array.shape}; published were {of_file.accepted}.")
        elif features is not None and not np.isfinite(features).all():
            problems.add(f"'{path}' has NaN or infinite numbers.")
            features = None
        if features is not None and of_file.is_sequence and pooled:
            features = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        yield features


def _column(name: str, dtype: StoreDtype, pooled: bool) -> StoreColumn:
    of_file = _FILES[name]
    keeps_steps = of_file.is_sequence and not pooled
    fingerprint = _fingerprint(name, FEATURE_FOLDERS[name], pooled and of_file.is_sequence)
    return StoreColumn(name, of_file.dim, keeps_steps, dtype, fingerprint, pool_mean=keeps_steps)


def _fingerprint(name: str, folder: str, pooled: bool = False) -> str:
    """Return what the features are, so that they mix with no others."""
    made = {"kind": _KINDS[name], "source": f"Moviescope {folder}", **({"pooled": True} if pooled else {})}
    return json.dumps(made, sort_keys=True)
