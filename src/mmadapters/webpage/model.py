"""A trained model as a page uses it: one row at a time, made of what a person typed in and uploaded."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.artefact import Artefact
from mmadapters.data.dataset import MultimodalDataset, read_features, width_of
from mmadapters.data.files import ROOT
from mmadapters.data.missing import without
from mmadapters.errors import DataError
from mmadapters.features.cells import is_missing, to_number
from mmadapters.features.guard import Limits, MediaError, checked_size, safe_path
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.media_features import MediaFeatures
from mmadapters.predictor.preparation import RowPreparation
from mmadapters.webpage.answer import Answer, answer_row
from mmadapters.webpage.fields import NUMBER_FIELD, VECTOR_FIELD, Field, Group, page_groups, without_stores

MOST_UPLOADED = 200 << 20
"""Bytes of a file."""
LIMITS = Limits(max_bytes=MOST_UPLOADED, max_seconds=900.0, max_frames=60_000)
"""What a file that was uploaded may be at most."""


@dataclass(frozen=True)
class Reply:
    """What became of one row.

    Attributes:
        answer: What the model says of it; None where it cannot be asked.
        problems: By field, why what was given cannot be used.
        error: Why the model cannot be asked, where that is due to no single field.
    """

    answer: Answer | None
    problems: dict[str, str]
    error: str = ""


class PageModel:
    """Answers for a page.

    Args:
        artefact: The trained model. Features that it reads from a store are asked for as ``.npy`` files.
        folder: Where uploaded files are, which are all that is read, and where features of them are kept.
        name: What the model is called on the page.

    Raises:
        ArtefactError: If what the model says of its rows cannot be read.
    """

    def __init__(self, artefact: Artefact, folder: Path, name: str) -> None:
        saved = RowPreparation.of_model(artefact, folder)
        recipes = saved.media.recipes
        self.name = name
        self.folder = folder
        self.artefact = replace(artefact, preprocessor=without_stores(artefact.preprocessor, recipes))
        self._preparation = RowPreparation(MediaFeatures(recipes, folder / "cache", limits=LIMITS), saved.numeric)
        self.groups: list[Group] = page_groups(self.artefact, recipes)
        self._lock = threading.Lock()

    @property
    def fields(self) -> list[Field]:
        """What is asked for, in the order of the page."""
        return [field for group in self.groups for field in group.fields]

    @property
    def modalities(self) -> list[str]:
        """The modalities that may be left out, in the order of the page."""
        return [name for group in self.groups for name in group.modalities]

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Keep the processes that decode media from one row to the next within the context."""
        with self._preparation.workers():
            yield

    def reply(self, values: Mapping[str, Any], used: Collection[str]) -> Reply:
        """Ask the model about one row.

        Args:
            values: By field, what was given: a text, also of a number; a category or a list of them; the path of an
                uploaded file; None for nothing.
            used: The modalities that are not left out.
        """
        cells: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for field in self.fields:
            value = values.get(field.name)
            try:
                cells |= self._cells(field, value)
            except DataError as error:
                problems[field.name] = _without_paths(str(error), value)
                cells |= dict.fromkeys(field.columns)
        with self._lock:
            try:
                data, unread = self._data_set(cells, used)
                problems |= unread
                return Reply(answer_row(self.artefact, data), problems)
            except DataError as error:
                return Reply(None, problems, str(error))

    def _data_set(self, cells: Mapping[str, Any], used: Collection[str]) -> tuple[MultimodalDataset, dict[str, str]]:
        """Return the row as a data set, and by field what of it cannot be used."""
        frame = pd.DataFrame({column: pd.Series([cell], dtype=object) for column, cell in cells.items()})
        frame.attrs[ROOT] = str(self.folder)
        media = self._preparation.media
        # A file that only modalities would be made of that are left out need not be decoded.
        read = [recipe for recipe in media.recipes if recipe.modality in used]
        left_out = [recipe.modality for recipe in media.recipes if recipe.modality not in used]
        for column in {recipe.column for recipe in media.recipes} - {recipe.column for recipe in read}:
            frame[column] = pd.Series([None], dtype=object)
        prepared = self._preparation.of(frame, Place(self.folder))
        columns = {recipe.modality: recipe.column for recipe in media.recipes}
        problems: dict[str, str] = {}
        for note in prepared.notes.get(0, []):
            modality, _, text = note.partition(": ")
            if modality not in left_out:
                column = columns.get(modality, modality)
                problems.setdefault(column, _without_paths(text, cells.get(column)))
        data = self.artefact.preprocessor.transform_chunk(prepared.frame, dict(prepared.stores), with_labels=False)
        off = [name for name in self.modalities if name not in used]
        return without(data, dict.fromkeys(off, True)), problems

    def _cells(self, field: Field, value: Any) -> dict[str, Any]:
        """Return the cells that a field fills.

        Raises:
            DataError: If what was given is no such thing.
        """
        if value is None or (isinstance(value, (str, list)) and not value):
            return dict.fromkeys(field.columns)
        if field.kind == NUMBER_FIELD:
            number = to_number(value)
            if number is None:
                raise DataError(f"'{value}' is no number.")
            return {field.columns[0]: number if math.isfinite(number) else None}
        if field.kind != VECTOR_FIELD:
            return {field.columns[0]: value}
        found = self._vector(field, value)
        if len(field.columns) == 1:
            return {field.columns[0]: found}
        return dict.fromkeys(field.columns) if found is None else dict(zip(field.columns, found.tolist(), strict=True))

    def _vector(self, field: Field, path: str) -> np.ndarray | None:
        """Read the numbers of an uploaded ``.npy`` file, (D,) or (T, D).

        Raises:
            DataError: If it holds something else, or of another width.
        """
        try:
            checked_size(safe_path(path, self.folder), LIMITS)
        except MediaError as error:
            raise DataError(f"{Path(path).name}: {error}") from None
        found = read_features(path, f"'{field.name}'", str(self.folder))
        if found is None:
            return None
        array = found if isinstance(found, np.ndarray) else found.load()
        wanted = f"({field.width},)" if len(field.columns) > 1 else f"({field.width},) or (steps, {field.width})"
        if width_of(found) != field.width or (len(field.columns) > 1 and array.ndim > 1):
            raise DataError(f"{Path(path).name} has the shape {array.shape}; the model reads {wanted}.")
        return array


def _without_paths(text: str, value: Any) -> str:
    """Return a message that names an uploaded file as the person knows it, and not the folder that it is kept in."""
    if is_missing(value) or not isinstance(value, str):
        return text
    return text.replace(value, Path(value).name)
