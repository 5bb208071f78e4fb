"""Rows from which modalities are taken away, to see what a model makes of what is left.

The protocol in one sentence: *at rate r each row lacks each of the named modalities with probability r, independently
of other rows and modalities, and what is missing at one rate is missing at every higher one.* The text stays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import numpy as np

from mmadapters.data.dataset import ModalityColumn, MultimodalDataset
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.modality import Modality


class PartlyMissing:
    """A modality's column in which some rows have nothing any more; nothing is read or copied.

    Args:
        column: The whole column.
        missing: Bool (N,), True where the modality is taken away.
    """

    def __init__(self, column: ModalityColumn, missing: np.ndarray) -> None:
        self._column = column
        self._missing = missing

    @property
    def modality(self) -> Modality:
        """Name and width of the features."""
        return self._column.modality

    @property
    def present(self) -> np.ndarray:
        """Bool (N,): whether a row has the modality."""
        return self._column.present & ~self._missing

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> np.ndarray | None:
        """Return the features of a row, float32 (D,) or (T, D), or None where the modality is missing."""
        return None if self._missing[row] else self._column[row]


def without(dataset: MultimodalDataset, missing: Mapping[str, np.ndarray | bool]) -> MultimodalDataset:
    """Return the same rows, of which some lack modalities; nothing is read or copied.

    Args:
        dataset: N rows.
        missing: By modality name, bool (N,), or one for all rows: True where the modality is taken away. What a row
            lacks already stays missing.

    Raises:
        DataError: If no modality has one of the names, or there is not one value a row.
    """
    columns: dict[str, ModalityColumn] = {}
    for name, given in missing.items():
        rows = np.asarray(given, dtype=bool)
        if rows.ndim == 0:
            rows = np.full(len(dataset), rows)
        if rows.shape != (len(dataset),):
            raise DataError(
                f"Which rows lack '{name}' was given as {rows.shape}, and the data set has {len(dataset)} rows. Give "
                "one bool a row, or one for all."
            )
        column = dataset.column(name)
        columns[name] = PartlyMissing(column, rows) if rows.any() else column
    changed = copy.copy(dataset)
    changed._columns = {name: columns.get(name, column) for name, column in dataset._columns.items()}
    return changed


def draw_missing(
    n_rows: int, names: Iterable[str], rate: float, seed: int = 0, split: str = "test"
) -> dict[str, np.ndarray]:
    """Draw which rows lack which modalities.

    What is drawn for a modality depends on seed, split, its name and the rate alone, whatever others are named.

    Args:
        n_rows: Number N of rows.
        names: The modalities that may go missing.
        rate: Probability r with which a row lacks one, from 0 to 1.
        seed: Of the draw.
        split: Which rows they are; every split has a draw of its own.

    Returns:
        By modality name bool (N,), True where it is missing.

    Raises:
        ConfigurationError: If the rate is no probability.
    """
    if not 0.0 <= rate <= 1.0:
        raise ConfigurationError(f"A rate of {rate!r} was given. Accepted are numbers from 0 to 1.")
    drawn = {}
    for name in names:
        own = np.random.SeedSequence([seed, *f"{split}/{name}".encode()])
        drawn[name] = np.random.default_rng(own).random(n_rows) < rate
    return drawn
