"""Tokenised rows with the features of their modalities and their labels, as a PyTorch data set."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mmadapters.errors import DataError, did_you_mean, listed
from mmadapters.features.cells import is_missing
from mmadapters.modality import Modality

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    Rows = Dataset[dict[str, Any]]
else:
    # A DataLoader takes whatever has rows and a length, and an exported model runs where there is no PyTorch.
    Rows = object

_ACCEPTED = (
    "A cell is accepted as an array or list of numbers, (width,) or (steps, width), or as the path of a '.npy' file "
    "with one; give columns of single numbers as a list of columns, or as a table."
)

DIGEST_ROWS = 64


@dataclass(frozen=True)
class FeatureFile:
    """A feature sequence that stays on disk until its row is asked for.

    Attributes:
        path: A ``.npy`` file with an array (T, D).
        feature_dim: Width D of a step.
        where: Modality and row, for messages.
    """

    path: Path
    feature_dim: int
    where: str

    def load(self) -> np.ndarray:
        """Return the sequence, float32 (T, D)."""
        return _finite_array(_open_array(self.path, self.where), f"{self.where}, file '{self.path}'")


Features = np.ndarray | FeatureFile | None
"""One row's features of a modality: float32 (D,) or (T, D), a file with (T, D), or None where it is missing."""


class FeatureColumn:
    """One modality's features of N rows.

    Vectors are held as one array. Sequences are held as they came: arrays in memory, ``.npy`` files on disk.

    Args:
        modality: Name and width D of the features.
        features: One entry a row.
    """

    def __init__(self, modality: Modality, features: Iterable[Features]) -> None:
        self.modality = modality
        self._sequences: dict[int, np.ndarray | FeatureFile] = {}
        vectors: list[np.ndarray] = []
        places: list[int] = []
        for row, feature in enumerate(features):
            places.append(-1)
            if isinstance(feature, np.ndarray) and feature.ndim == 1:
                places[row] = len(vectors)
                vectors.append(feature)
            elif feature is not None:
                self._sequences[row] = feature
        self._places = np.array(places, dtype=np.int64)
        self._vectors = np.array(vectors, dtype=np.float32).reshape(len(vectors), modality.feature_dim)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: int) -> np.ndarray | None:
        """Return the features of a row, float32 (D,) or (T, D), or None where the modality is missing.

        Raises:
            DataError: If the row's file cannot be read or holds something that is not finite.
        """
        if self._places[row] >= 0:
            return self._vectors[self._places[row]]
        feature = self._sequences.get(row)
        return feature.load() if isinstance(feature, FeatureFile) else feature

    def add_to_digest(self, digest: hashlib._Hash) -> None:
        """Add the vectors, and which rows have what, to a digest."""
        digest.update(np.ascontiguousarray(self._vectors).data)
        digest.update(self._places.data)
        digest.update(np.array(sorted(self._sequences), dtype=np.int64).data)

    @property
    def present(self) -> np.ndarray:
        """Bool (N,): whether a row has the modality."""
        present = self._places >= 0
        present[list(self._sequences)] = True
        return present


class ModalityColumn(Protocol):
    """One modality's features of N rows, wherever they are."""

    @property
    def modality(self) -> Modality:
        """Name and width of the features."""
        ...

    @property
    def present(self) -> np.ndarray:
        """Bool (N,): whether a row has the modality."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> np.ndarray | None:
        """Return the features of a row, float32 (D,) or (T, D), or None where the modality is missing."""
        ...


class MultimodalDataset(Rows):
    """N rows for ``MultimodalCollator``.

    Everything is held in memory but sequences in ``.npy`` files and features in stores.

    Attributes:
        labels: Encoded labels: float32 (N, C), int64 (N,) or float32 (N,); or None.
        unseen_labels: How often each label occurred that the training rows do not have.

    Args:
        tokens: The tokenizer's outputs without padding: for each model input one list of whole numbers a row.
        columns: Features of each modality, in the order of the model's modalities.
        labels: Encoded labels, or None.
        unseen_labels: Counted labels that could not be encoded.
    """

    def __init__(
        self,
        tokens: Mapping[str, Sequence[Sequence[int]]],
        columns: Sequence[ModalityColumn] = (),
        labels: np.ndarray | None = None,
        unseen_labels: Counter[str] | None = None,
    ) -> None:
        lengths = np.array([len(ids) for ids in tokens["input_ids"]], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._tokens = {
            key: np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(self._starts[-1]))
            for key, rows in tokens.items()
        }
        self._columns = {column.modality.name: column for column in columns}
        self.labels = labels
        self.unseen_labels: Counter[str] = Counter() if unseen_labels is None else unseen_labels

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return one row.

        Args:
            row: Position of the row; negative ones count from the end.

        Returns:
            ``input_ids``, ``attention_mask`` and the tokenizer's other outputs as lists of whole numbers without
            padding; ``modality_features`` with float32 (D,) or (T, D) for each modality, or None where it is missing
            (the key is absent in a data set without modalities); ``labels`` where there are any.

        Raises:
            IndexError: If there is no such row.
            DataError: If the row's ``.npy`` file cannot be read or holds something that is not finite.
        """
        if not -len(self) <= row < len(self):
            raise IndexError(f"Row {row} of a data set of {len(self)} rows was asked for.")
        row = int(row) % len(self)
        item: dict[str, Any] = dict(self.tokens(row))
        if self._columns:
            item["modality_features"] = {name: column[row] for name, column in self._columns.items()}
        if self.labels is not None:
            item["labels"] = self.labels[row]
        return item

    def tokens(self, row: int) -> dict[str, list[int]]:
        """Return the tokenizer's outputs for one row, without padding; nothing else is read.

        Args:
            row: Position of the row, from 0.
        """
        part = slice(self._starts[row], self._starts[row + 1])
        return {key: flat[part].tolist() for key, flat in self._tokens.items()}

    def token_digest(self) -> str:
        """Return a SHA-256 of the tokens of all rows."""
        digest = hashlib.sha256(np.ascontiguousarray(self._starts).data)
        for name, flat in sorted(self._tokens.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(flat).data)
        return digest.hexdigest()

    @property
    def modalities(self) -> list[Modality]:
        """The modalities, in the order of the model."""
        return [column.modality for column in self._columns.values()]

    def restricted_to(self, names: Iterable[str]) -> MultimodalDataset:
        """Return the same rows with fewer modalities; nothing is read or copied.

        Args:
            names: The modalities to keep. Their order stays that of the data set.

        Raises:
            DataError: If no modality has one of the names.
        """
        kept = set(names)
        for name in sorted(kept):
            self.column(name)
        restricted = copy.copy(self)
        restricted._columns = {name: column for name, column in self._columns.items() if name in kept}
        return restricted

    def shortened_to(self, length: int, closing: Iterable[int] = ()) -> MultimodalDataset:
        """Return the same rows with texts of at most some tokens; nothing is read, and only the tokens are copied.

        Args:
            length: Most tokens of a row, at least 1.
            closing: Tokens that end a text, such as the separator's id: a row that ends in one still does.
        """
        if len(self) == 0 or int(self.lengths.max()) <= length:
            return self
        ends = np.isin(self._tokens["input_ids"][np.maximum(self._starts[1:] - 1, 0)], list(closing))
        kept = []
        for row, (start, stop) in enumerate(zip(self._starts[:-1], self._starts[1:], strict=True)):
            positions = np.arange(start, min(stop, start + length))
            if stop - start > length and ends[row]:
                positions[-1] = stop - 1
            kept.append(positions)
        flat = np.concatenate(kept)
        shortened = copy.copy(self)
        shortened._tokens = {name: values[flat] for name, values in self._tokens.items()}
        shortened._starts = np.concatenate([[0], np.cumsum([len(positions) for positions in kept])])
        return shortened

    def digest(self) -> str:
        """Return a SHA-256 of tokens, labels and features.

        Of features that are not in memory as vectors, ``DIGEST_ROWS`` rows are read.
        """
        digest = hashlib.sha256()
        for name, array in (*self._tokens.items(), ("starts", self._starts), ("labels", self.labels)):
            digest.update(f"{name} {'-' if array is None else (array.shape, array.dtype)}\n".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        for column in self._columns.values():
            digest.update(f"{column.modality.name} {column.modality.feature_dim}\n".encode())
            if isinstance(column, FeatureColumn):
                column.add_to_digest(digest)
            for row in np.linspace(0, len(self) - 1, min(DIGEST_ROWS, len(self)), dtype=np.int64):
                features = column[int(row)]
                digest.update(b"-" if features is None else np.ascontiguousarray(features).data)
        return digest.hexdigest()

    @property
    def lengths(self) -> np.ndarray:
        """Int64 (N,): number of tokens of each row, special tokens included."""
        return np.diff(self._starts)

    def present(self, name: str) -> np.ndarray:
        """Return bool (N,): whether a row has the named modality.

        Raises:
            DataError: If no modality has the name.
        """
        return self.column(name).present

    def features(self, name: str, row: int) -> np.ndarray | None:
        """Return one row's features of a modality, float32 (D,) or (T, D), or None where it is missing.

        Args:
            name: Of the modality.
            row: Position of the row, from 0.

        Raises:
            DataError: If no modality has the name, or the row's features cannot be read.
        """
        return self.column(name)[row]

    def column(self, name: str) -> ModalityColumn:
        """Return a modality's column.

        Args:
            name: Of the modality.

        Raises:
            DataError: If no modality has the name.
        """
        if name not in self._columns:
            raise DataError(
                f"The data set has no modality '{name}'. Its modalities are {listed(self._columns)}."
                f"{did_you_mean(name, self._columns)}"
            )
        return self._columns[name]


def read_features(cell: Any, where: str, root: str) -> Features:
    """Read a cell of a vector modality.

    Args:
        cell: An array or list of numbers (D,) or (T, D), the same as JSON text, or the path of a ``.npy`` file with
            it. ``None``, ``NaN``, blank text and arrays without an element are missing.
        where: Modality and row, for messages.
        root: Folder that relative paths start from.

    Returns:
        Float32 (D,) or (T, D), or None where the modality is missing; a file with (T, D) is only looked at and stays
        on disk.

    Raises:
        DataError: If the cell is none of these, a file cannot be read or a number is not finite.
    """
    if is_missing(cell):
        return None
    if not isinstance(cell, (str, os.PathLike)):
        return _or_missing(_finite_array(cell, where))
    text = os.fspath(cell).strip()
    if text.startswith("["):
        try:
            return _or_missing(_finite_array(json.loads(text), where))
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: {text[:40]!r} starts like a JSON list but is none ({error.msg}).") from error
    if Path(text).suffix.lower() != ".npy":
        raise DataError(f"{where}: {text!r} is no '.npy' path. {_ACCEPTED}")
    return _read_file(Path(root, text), where)


def width_of(features: np.ndarray | FeatureFile) -> int:
    """Return the width D of a feature vector, or of one step of a sequence."""
    return features.feature_dim if isinstance(features, FeatureFile) else features.shape[-1]


def _read_file(path: Path, where: str) -> Features:
    array = _open_array(path, where)
    if array.ndim == 2 and array.size:
        return FeatureFile(path, int(array.shape[1]), where)
    return _or_missing(_finite_array(array, f"{where}, file '{path}'"))


def _open_array(path: Path, where: str) -> np.ndarray:
    """Open a ``.npy`` file without reading its numbers."""
    if not path.is_file():
        raise DataError(
            f"{where}: the file '{path}' does not exist. Relative paths start from the folder of the rows' file, or "
            "from the working folder where rows were given as a frame."
        )
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: '{path}' cannot be read as a '.npy' file of numbers: {error}") from error


def _or_missing(array: np.ndarray) -> np.ndarray | None:
    return array if array.size else None


def _finite_array(value: Any, where: str) -> np.ndarray:
    """Return numbers as a float32 array (D,) or (T, D) of their own."""
    try:
        array = np.asarray(value)
        if array.dtype == object:
            array = np.array(list(value), dtype=np.float64)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"elements of type {array.dtype}")
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{where}: a {type(value).__name__} cannot be read as numbers ({error}). {_ACCEPTED}"
        ) from error
    if array.ndim not in (1, 2):
        raise DataError(f"{where}: the features have the shape {array.shape}. {_ACCEPTED}")
    with np.errstate(over="ignore"):
        array = np.array(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise DataError(
            f"{where}: {int((~np.isfinite(array)).sum())} of {array.size} features are NaN or infinite. Make the "
            "features anew, or leave the cell empty to say that the modality is missing."
        )
    return array
