"""What going through rows once finds that do not fit into memory: labels, media, and some of them to hold out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mmadapters.data.files import ROOT
from mmadapters.data.label_statistics import LabelStatistics
from mmadapters.data.labels import LabelEncoder
from mmadapters.data.preprocessor_statistics import label_values
from mmadapters.data.row_reader import named_rows, with_columns
from mmadapters.data.row_source import RowSource
from mmadapters.data.schema import DatasetSchema
from mmadapters.data.stream_survey import REPORTED_ROWS
from mmadapters.data.vector_cells import first_width
from mmadapters.errors import DataError
from mmadapters.features.cells import category_key
from mmadapters.predictor.column_plan import ColumnPlan
from mmadapters.predictor.fit_settings import Clock, FitSettings
from mmadapters.predictor.fitting import without_label
from mmadapters.predictor.guessing import SAMPLED_ROWS
from mmadapters.predictor.holdout import holdout_size, telling_labels
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.messages import Messages
from mmadapters.predictor.preparation import PreparedRows, RowPreparation, Unusable

MOST_HELD_OUT = 10_000


@dataclass
class SourceFound:
    """What going through all rows found.

    Attributes:
        kept: For each piece bool (rows,): which of its rows have a label and are not held out.
        validation: The rows that are held out, prepared; None where there are none.
        encoder: Of the labels.
        present: Modalities that some row has.
        rows: Number of all rows.
        unlabelled: Number of those without a label.
    """

    kept: list[np.ndarray]
    validation: pd.DataFrame | None
    encoder: LabelEncoder
    present: set[str] = field(default_factory=set)
    rows: int = 0
    unlabelled: int = 0


def place_of(frame: pd.DataFrame, settings: FitSettings) -> Place:
    """Return where the files are that rows of a source name: beside their own file, unless a folder was given.

    Args:
        frame: The rows.
        settings: What was given.
    """
    return Place.of(frame, None if settings.place.allow_outside else settings.place.root)


def first_rows(source: RowSource) -> pd.DataFrame:
    """Return the first rows of a source, with all columns.

    Args:
        source: The rows.

    Raises:
        DataError: If there are none.
    """
    parts: list[pd.DataFrame] = []
    names = source.names()
    for place in range(len(source.pieces)):
        for part in source.read(place, names):
            parts.append(with_columns(part, names))
            if sum(map(len, parts)) >= SAMPLED_ROWS:
                return _together(parts)
    if not parts:
        raise DataError("There are no rows. Give files, or an object, with at least one row.")
    return _together(parts)


def look_through(
    source: RowSource,
    plan: ColumnPlan,
    schema: DatasetSchema,
    preparation: RowPreparation,
    settings: FitSettings,
    clock: Clock,
    messages: Messages,
    hold: bool,
) -> SourceFound:
    """Go through all rows once.

    Args:
        source: The rows.
        plan: What the model reads.
        schema: Knows the labels.
        preparation: Extracts the features of their media.
        settings: What is known.
        clock: Is told how long features of media took.
        messages: Tells what cannot be used.
        hold: Whether some rows are to be held out.

    Raises:
        DataError: If a row cannot be used, or there is only one label.
    """
    columns = list(dict.fromkeys([*plan.text, *schema.label_columns, *_input_columns(plan)]))
    statistics = LabelStatistics(schema.problem_type, schema.label_separator)
    found = SourceFound([], None, LabelEncoder(schema.problem_type, schema.label_separator))
    drawn = _Drawn(settings.seed) if hold else None
    unusable = Unusable()
    with preparation.workers(), preparation.media.timed(clock.check):
        for place, piece in enumerate(source.pieces):
            masks = []
            with named_rows(piece.name):
                for part in source.read(place, columns):
                    frame = with_columns(part, columns)
                    frame.attrs = part.attrs
                    mask = ~without_label(frame, schema.label_columns)
                    masks.append(mask)
                    before, found.rows = found.rows, found.rows + len(frame)
                    if found.rows // REPORTED_ROWS > before // REPORTED_ROWS:
                        messages.tell(f"  {found.rows:,} rows read")
                    if not mask.any():
                        continue
                    rows = frame[mask]
                    rows.attrs = part.attrs
                    statistics.add(label_values(rows, schema))
                    with clock.extracting():
                        prepared = preparation.of(rows, place_of(rows, settings))
                    unusable.add(prepared)
                    _note_present(found.present, plan, preparation, prepared)
                    if drawn is not None:
                        drawn.add(prepared.frame, place, np.flatnonzero(mask) + sum(map(len, masks[:-1])))
            found.kept.append(np.concatenate(masks) if masks else np.zeros(0, dtype=bool))
    for line in unusable.lines():
        messages.tell(line)
    labelled_rows = int(sum(mask.sum() for mask in found.kept))
    found.unlabelled = found.rows - labelled_rows
    if not labelled_rows:
        raise DataError(f"Label column '{schema.label_columns[0]}' is empty in all {found.rows} rows. Check its name.")
    found.encoder.learn(statistics)
    if drawn is not None:
        found.validation = drawn.held_out(holdout_size(labelled_rows, clock.limit), statistics, schema, found)
    return found


class _Drawn:
    """Draws rows at random of which it is not known how many there are (reservoir sampling).

    Args:
        seed: Of the draw.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 1])
        self._seen = 0
        self._rows: list[tuple[int, int, pd.DataFrame]] = []

    def add(self, rows: pd.DataFrame, piece: int, places: np.ndarray) -> None:
        """Draw among some more rows.

        Args:
            rows: The rows.
            piece: Place of their piece.
            places: Int64 (n,): their places in it.
        """
        for row, place in enumerate(places):
            self._seen += 1
            at = len(self._rows) if self._seen <= MOST_HELD_OUT else int(self._random.integers(self._seen))
            if at >= MOST_HELD_OUT:
                continue
            drawn = (piece, int(place), rows.iloc[row : row + 1].copy())
            drawn[2].attrs = rows.attrs
            if at == len(self._rows):
                self._rows.append(drawn)
            else:
                self._rows[at] = drawn

    def held_out(
        self, size: int, statistics: LabelStatistics, schema: DatasetSchema, found: SourceFound
    ) -> pd.DataFrame | None:
        """Take so many of the drawn rows out of those that are trained on; no label loses its last row there.

        Args:
            size: How many.
            statistics: Of the labels of all rows.
            schema: Knows the labels.
            found: Whose masks are changed.
        """
        order = self._random.permutation(len(self._rows))[:size]
        chosen = [self._rows[place] for place in sorted(order)]
        if not chosen:
            return None
        frame = _together([rows for _, _, rows in chosen])
        names = telling_labels(label_values(frame, schema), str(statistics.problem_type), schema.label_separator)
        left = _rows_by_label(statistics)
        taken: Counter[Any] = Counter()
        kept = np.ones(len(chosen), dtype=bool)
        for row, labels in enumerate(names):
            if any(label in left and taken[label] + 1 >= left[label] for label in labels):
                kept[row] = False
                continue
            taken.update(labels)
            piece, place, _ = chosen[row]
            found.kept[piece][place] = False
        held = frame[kept]
        held.attrs = frame.attrs
        return held if len(held) else None


def _rows_by_label(statistics: LabelStatistics) -> dict[Any, int]:
    frequencies = statistics.frequencies()
    if frequencies is None:
        return {}
    names = [name if statistics.has_indicators else category_key(name) for name in statistics.classes()]
    return dict(zip(names, map(int, frequencies), strict=True))


def _note_present(present: set[str], plan: ColumnPlan, preparation: RowPreparation, prepared: PreparedRows) -> None:
    media = preparation.media
    for recipe in media.recipes:
        if recipe.modality not in present:
            digests = prepared.frame[recipe.column]
            if not media.is_empty(recipe, digests, prepared.stores[recipe.modality]):
                present.add(recipe.modality)
    present.update(table.name for table in plan.tables)
    for vector in plan.vectors:
        if vector.name not in present and first_width(prepared.frame, vector) is not None:
            present.add(vector.name)


def _input_columns(plan: ColumnPlan) -> list[str]:
    tables = [column for table in plan.tables for column in table.columns]
    vectors = [column for vector in plan.vectors for column in vector.columns]
    return [*(media.column for media in plan.media), *tables, *vectors]


def _together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs = {ROOT: parts[0].attrs[ROOT]} if ROOT in parts[0].attrs else {}
    return frame
