"""Training on rows that do not fit into memory: gone through once to know them, and then read in each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mmadapters.data.row_reader import with_columns
from mmadapters.data.row_source import Piece, RowSource
from mmadapters.data.schema import DatasetSchema
from mmadapters.predictor.column_plan import plan_columns
from mmadapters.predictor.fit_settings import Clock, FitSettings, Fitted
from mmadapters.predictor.fitting import (
    label_separator,
    labelled,
    preparation_for,
    prepare,
    require_label,
    without_label,
)
from mmadapters.predictor.messages import Messages, described_labels
from mmadapters.predictor.options import check_options, reads_text_alone
from mmadapters.predictor.preparation import RowPreparation
from mmadapters.predictor.source_survey import first_rows, look_through, place_of
from mmadapters.predictor.training_run import TrainingRows, train_on_rows

_REMEMBERED_FILES = 2_000_000


class PreparedSource:
    """The rows of a source that are trained on, with what names the features of their media; see ``RowSource``.

    Args:
        source: All rows.
        kept: For each piece bool (rows,): which of its rows are trained on.
        preparation: What is done to them.
        settings: Where their files are.
    """

    readable_in_workers = False

    def __init__(
        self, source: RowSource, kept: Sequence[np.ndarray], preparation: RowPreparation, settings: FitSettings
    ) -> None:
        self._source = source
        self._kept = kept
        self._preparation = preparation
        self._settings = settings
        self.pieces = [
            Piece(piece.name, int(rows.sum()), piece.first_row) for piece, rows in zip(source.pieces, kept, strict=True)
        ]

    def names(self) -> list[str]:
        """Return the names of the columns that the first rows have."""
        return self._source.names()

    def read(self, piece: int, columns: Sequence[str], skip: int = 0) -> Iterator[pd.DataFrame]:
        """Yield the rows of a piece that are trained on."""
        start = 0
        for part in self._source.read(piece, list(columns)):
            mask = self._kept[piece][start : start + len(part)]
            start += len(part)
            chosen = part[mask]
            left_out = min(skip, len(chosen))
            skip -= left_out
            if len(chosen) > left_out:
                frame = with_columns(chosen.iloc[left_out:], columns)
                frame.attrs = part.attrs
                yield self._preparation.of(frame, place_of(frame, self._settings)).frame


def fit_source(
    source: RowSource, validation: pd.DataFrame | None, settings: FitSettings, clock: Clock, messages: Messages
) -> Fitted:
    """Train on rows that are read while the model is trained.

    What columns are is told by the first rows. One pass over all of them reads labels, extracts the features of their
    media and draws those that are held out.

    Args:
        source: The rows.
        validation: Rows to choose the best epoch by, in memory; None to hold some out.
        settings: What is known.
        clock: How much time there is.
        messages: Tells a person what happens.

    Raises:
        DataError: If rows, labels or columns cannot be used.
        ConfigurationError: If a setting cannot be used.
    """
    sample = first_rows(source)
    label_columns = settings.columns.label_columns
    require_label(sample, label_columns)
    separator = label_separator(sample[~without_label(sample, label_columns)], settings)
    label = label_columns[0] if isinstance(settings.columns.label, str) else label_columns
    schema = DatasetSchema("-", label, (), settings.problem_type, separator)
    place = place_of(sample, settings)
    plan = plan_columns(sample, settings.columns, str(place.root), place.allow_outside)
    if reads_text_alone(settings.adapter):
        plan = plan.without(plan.modality_names)
    check_options(settings, plan.modality_names)
    preparation = preparation_for(plan, settings, messages)
    preparation.media.digests.remembered = _REMEMBERED_FILES
    messages.tell("The rows are read while the model is trained; first they are gone through once")
    found = look_through(source, plan, schema, preparation, settings, clock, messages, hold=validation is None)
    encoder = found.encoder
    schema = replace(schema, problem_type=encoder.problem_type)
    labels = described_labels(label_columns, str(encoder.problem_type), len(encoder.classes), separator)
    messages.tell_columns(plan, labels, found.rows)
    if found.unlabelled:
        messages.tell(f"{found.unlabelled:,} of {found.rows:,} rows have no label and are left out")
    absent = [name for name in plan.modality_names if name not in found.present]
    for name in absent:
        messages.tell(f"{name}: no row has it, so the model does not read it")
    plan, preparation = plan.without(absent), preparation.without_media(absent)
    held = found.validation
    if held is not None:
        messages.tell(f"{len(held):,} of {found.rows:,} rows are held out, to choose the best epoch by")
    elif validation is not None:
        given = labelled(validation, label_columns, messages)
        held = prepare(preparation, given, place_of(given, settings), clock, messages).frame
    rows = PreparedSource(source, found.kept, preparation, settings)
    return train_on_rows(TrainingRows(rows, held, plan, schema, preparation, {}), settings, clock, messages)
