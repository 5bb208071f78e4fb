"""What is done to rows before a model's preprocessor sees them: media become features, and what is no number goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mmadapters.errors import ArtefactError
from mmadapters.features.cells import to_number
from mmadapters.features.store import FeatureStore
from mmadapters.features.table_columns import require_columns
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.media_features import MediaFeatures, MediaRecipe

if TYPE_CHECKING:
    from mmadapters.evaluation.predictions import RowModel

FORMAT_VERSION = 1
"""Of what a saved model keeps for the preparation."""


@dataclass(frozen=True)
class PreparedRows:
    """Rows as the preprocessor takes them.

    Attributes:
        frame: The rows.
        stores: Open feature stores, by modality.
        notes: By row, counted from 0, what of it cannot be used and counts as missing.
        given: By modality or column, the number of rows that give it; of what has notes alone.
        unusable: By modality or column, how many of these cannot be used.
    """

    frame: pd.DataFrame
    stores: dict[str, FeatureStore]
    notes: dict[int, list[str]]
    given: dict[str, int]
    unusable: Counter[str]


class Unusable:
    """Collects what of some chunks of rows cannot be used."""

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, prepared: PreparedRows) -> None:
        """Count the notes of a chunk.

        Args:
            prepared: The chunk.
        """
        self._given.update(prepared.given)
        self._counts.update(prepared.unusable)
        for notes in prepared.notes.values():
            for note in notes:
                name, _, text = note.partition(": ")
                self._first.setdefault(name, text)

    def first(self, name: str) -> str:
        """Return why the first cell of a modality or column cannot be used.

        Args:
            name: Of the modality or column.
        """
        return self._first[name]

    def lines(self) -> Iterator[str]:
        """Yield a line for a person on each modality or column with something that cannot be used."""
        for name, count in self._counts.items():
            yield (
                f"{name}: {count:,} of {self._given[name]:,} cells cannot be used and count as missing, the first: "
                f"{self._first[name]}"
            )


@dataclass(frozen=True)
class RowPreparation:
    """Prepares rows for a model.

    Attributes:
        media: Gives rows the features of their media.
        numeric: Columns of numbers; a cell with something else counts as empty.
    """

    media: MediaFeatures
    numeric: Sequence[str] = field(default=())

    @classmethod
    def of_model(
        cls, model: RowModel, cache: Path, progress: bool = False, tell: Callable[[str], None] = lambda line: None
    ) -> RowPreparation:
        """Return the preparation of a saved model; one that no predictor trained needs none.

        Args:
            model: The model.
            cache: Folder that features are kept in.
            progress: Whether to show progress bars.
            tell: Called with a line for a person.

        Raises:
            ArtefactError: If what was saved cannot be read.
        """
        state = model.predictor or {"format_version": FORMAT_VERSION}
        if not isinstance(state, Mapping) or not isinstance(state.get("format_version"), int):
            raise ArtefactError("What the saved model says of its rows cannot be read. The artefact is damaged.")
        if state["format_version"] > FORMAT_VERSION:
            raise ArtefactError(
                f"The saved model describes its rows in format {state['format_version']}, this version of mmadapters "
                f"reads up to {FORMAT_VERSION}. Install a newer mmadapters."
            )
        read = [modality.name for modality in model.preprocessor.modalities]
        recipes = [MediaRecipe.from_dict(entry) for entry in state.get("media", ())]
        recipes = [recipe for recipe in recipes if recipe.modality in read]
        return cls(MediaFeatures(recipes, cache, progress=progress, tell=tell), tuple(state.get("numeric", ())))

    def without_media(self, modalities: Iterable[str]) -> RowPreparation:
        """Return a preparation that leaves some modalities to the preprocessor.

        Args:
            modalities: Their names.
        """
        left_out = set(modalities)
        kept = [recipe for recipe in self.media.recipes if recipe.modality not in left_out]
        return RowPreparation(self.media.with_recipes(kept), self.numeric)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are looked at."""
        return tuple(dict.fromkeys([*(recipe.column for recipe in self.media.recipes), *self.numeric]))

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Keep worker processes from one call to the next within the context."""
        with self.media.workers():
            yield

    def of(self, frame: pd.DataFrame, place: Place) -> PreparedRows:
        """Prepare rows.

        Args:
            frame: N rows.
            place: Where the files are that they name.

        Raises:
            DataError: If a column is absent, or features would be made in another way than those of the training rows.
            MissingDependencyError: If a package that reads the media is not installed.
        """
        require_columns(frame, self.columns)
        found = self.media.of(frame, place)
        notes: dict[int, list[str]] = {}
        unusable: Counter[str] = Counter()
        for row, problems in sorted(found.problems.items()):
            notes[row] = [f"{modality}: {problem}" for modality, problem in problems.items()]
            unusable.update(problems.keys())
        given = dict(found.given)
        for column in self.numeric:
            if not pd.api.types.is_numeric_dtype(found.frame[column]):
                cells = found.frame[column].tolist()
                wrong = {row: cell for row, cell in enumerate(cells) if to_number(cell) is None}
                found.frame[column] = _without(found.frame[column], wrong)
                for row, cell in wrong.items():
                    notes.setdefault(row, []).append(f"{column}: {_shown(cell)} is no number")
                    unusable[column] += 1
                given[column] = int(frame[column].notna().sum())
        return PreparedRows(found.frame, found.stores, notes, given, unusable)


def _without(series: pd.Series, rows: Iterable[int]) -> pd.Series:
    left_out = set(rows)
    if not left_out:
        return series
    return pd.Series(
        [None if row in left_out else cell for row, cell in enumerate(series)], index=series.index, dtype=object
    )


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else f"{text[:57]}…"
