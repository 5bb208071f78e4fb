"""From rows and what is known of them to a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from mmadapters.adapters.family import FUSIONS
from mmadapters.data.labels import LabelEncoder
from mmadapters.data.preprocessor_statistics import label_values
from mmadapters.data.schema import MULTI_LABEL, DatasetSchema
from mmadapters.errors import ConfigurationError, DataError, listed
from mmadapters.features.cells import is_missing
from mmadapters.features.table_columns import require_columns
from mmadapters.predictor.column_plan import ColumnPlan, plan_columns
from mmadapters.predictor.defaults import reachable_rows
from mmadapters.predictor.fit_settings import Clock, FitSettings, Fitted
from mmadapters.predictor.guessing import sample_of, separator_of
from mmadapters.predictor.holdout import FEWEST_ROWS, held_out, holdout_size, telling_labels
from mmadapters.predictor.media_cells import Place
from mmadapters.predictor.media_features import MediaFeatures, media_recipe
from mmadapters.predictor.messages import Messages, described_labels
from mmadapters.predictor.options import check_options, extractor_options, reads_text_alone
from mmadapters.predictor.preparation import PreparedRows, RowPreparation, Unusable
from mmadapters.predictor.training_run import TrainingRows, train_on_rows


def fit_frame(
    frame: pd.DataFrame, validation: pd.DataFrame | None, settings: FitSettings, clock: Clock, messages: Messages
) -> Fitted:
    """Train on rows in memory.

    Args:
        frame: The training rows.
        validation: Rows to choose the best epoch by, or None to hold some out.
        settings: What is known.
        clock: How much time there is.
        messages: Tells a person what happens.

    Raises:
        DataError: If rows, labels or columns cannot be used.
        ConfigurationError: If a setting cannot be used.
    """
    frame = labelled(frame, settings.columns.label_columns, messages)
    schema, encoder = label_schema(frame, settings)
    plan = plan_columns(frame, settings.columns, str(settings.place.root), settings.place.allow_outside)
    if reads_text_alone(settings.adapter):
        plan = plan.without(plan.modality_names)
    kind, classes = str(encoder.problem_type), len(encoder.classes)
    labels = described_labels(schema.label_columns, kind, classes, schema.label_separator)
    messages.tell_columns(plan, labels, len(frame))
    check_options(settings, plan.modality_names)
    preparation = preparation_for(plan, settings, messages)
    frame = reachable(frame, clock.limit, settings.seed, messages)
    prepared = prepare(preparation, frame, settings.place, clock, messages, must_be_usable=True)
    train = prepared.frame
    if validation is None:
        train, held = hold_out(train, schema, encoder, holdout_size(len(train), clock.limit), settings.seed, messages)
    else:
        rows = labelled(validation, settings.columns.label_columns, messages)
        held = prepare(preparation, rows, settings.place, clock, messages).frame
    together = TrainingRows(train, held, plan, schema, preparation, prepared.stores)
    return train_on_rows(together, settings, clock, messages)


def labelled(frame: pd.DataFrame, columns: Sequence[str], messages: Messages) -> pd.DataFrame:
    """Return the rows that have a label.

    Args:
        frame: N rows.
        columns: Of the labels.
        messages: Tells how many are left out.

    Raises:
        ConfigurationError: If no column is named.
        DataError: If a column is absent, or no row has a label.
    """
    require_label(frame, columns)
    missing = without_label(frame, columns)
    if missing.all():
        raise DataError(f"Label column '{columns[0]}' is empty in all {len(frame)} rows. Check its name.")
    if not missing.any():
        return frame
    messages.tell(f"{int(missing.sum()):,} of {len(frame):,} rows have no label and are left out")
    kept = frame[~missing]
    kept.attrs = frame.attrs
    return kept


def reachable(frame: pd.DataFrame, limit: float | None, seed: int, messages: Messages) -> pd.DataFrame:
    """Return the rows that a fit gets round to: all, or under a time limit without a GPU as many as it may reach.

    They are drawn at random and keep their order.

    Args:
        frame: N rows.
        limit: Seconds, or None.
        seed: Of the draw.
        messages: Tells how many they are.
    """
    size = reachable_rows(len(frame), None if torch.cuda.is_available() else limit)
    if size == len(frame):
        return frame
    messages.tell(f"{size:,} of {len(frame):,} rows are used, drawn at random: {limit:g} s do not suffice for more")
    drawn = np.random.default_rng([seed, 2]).choice(len(frame), size, replace=False)
    kept = frame.iloc[np.sort(drawn)]
    kept.attrs = frame.attrs
    return kept


def require_label(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Check that a label is named, and that rows have its columns.

    Raises:
        ConfigurationError: If no column is named.
        DataError: If one is absent.
    """
    if not columns:
        raise ConfigurationError(
            "No label was named, so there is nothing to learn. Name its column: MultimodalPredictor(label=…); the "
            f"columns are {listed(map(str, frame.columns))}."
        )
    require_columns(frame, columns)


def without_label(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return bool (N,): whether a row lacks a label.

    Args:
        frame: N rows.
        columns: Of the labels.
    """
    missing = np.zeros(len(frame), dtype=bool)
    for column in columns:
        missing |= np.array([is_missing(cell) for cell in frame[column]], dtype=bool)
    return missing


def label_separator(frame: pd.DataFrame, settings: FitSettings) -> str | None:
    """Return the text between the labels of one cell: as given, or as the cells have it.

    Args:
        frame: Rows with labels.
        settings: What is known.
    """
    columns = settings.columns.label_columns
    if settings.label_separator is not None or len(columns) > 1 or settings.problem_type not in (None, MULTI_LABEL):
        return settings.label_separator
    return separator_of(sample_of(frame)[columns[0]])


def label_schema(frame: pd.DataFrame, settings: FitSettings) -> tuple[DatasetSchema, LabelEncoder]:
    """Return a schema that knows the labels alone, and their encoder.

    Args:
        frame: Rows with labels.
        settings: What is known.

    Raises:
        DataError: If labels cannot be used, or there is only one.
    """
    columns, separator = settings.columns.label_columns, label_separator(frame, settings)
    label = columns[0] if isinstance(settings.columns.label, str) else columns
    schema = DatasetSchema("-", label, (), settings.problem_type, separator)
    encoder = LabelEncoder(schema.problem_type, separator).fit(label_values(frame, schema))
    return replace(schema, problem_type=encoder.problem_type), encoder


def preparation_for(plan: ColumnPlan, settings: FitSettings, messages: Messages) -> RowPreparation:
    """Return what is done to the rows of a plan.

    Args:
        plan: What the model reads.
        settings: What is known.
        messages: Tells a person what happens.

    Raises:
        ConfigurationError: If an option of an extractor cannot be used.
    """
    options = extractor_options(settings.extractors, [media.modality for media in plan.media])
    fusion = (settings.adapter or {}).get("fusion") or "gmu"
    reads_steps = fusion in FUSIONS and FUSIONS[fusion].reads == "raw_steps"
    recipes = [media_recipe(media, options.get(media.modality, {}), reads_steps) for media in plan.media]
    features = MediaFeatures(recipes, settings.cache, progress=messages.progress, tell=messages.tell)
    return RowPreparation(features, tuple(plan.numeric_columns))


def prepare(
    preparation: RowPreparation,
    frame: pd.DataFrame,
    place: Place,
    clock: Clock,
    messages: Messages,
    must_be_usable: bool = False,
) -> PreparedRows:
    """Prepare rows, and tell what of them cannot be used.

    Args:
        preparation: Of the model.
        frame: The rows.
        place: Where the files are that they name.
        clock: Is told how long it took.
        messages: Tells a person.
        must_be_usable: Whether a modality is an error that rows have and that can be used in none.

    Raises:
        DataError: Then.
    """
    with clock.extracting(), preparation.media.timed(clock.check), preparation.workers():
        prepared = preparation.of(frame, place)
    found = Unusable()
    found.add(prepared)
    for recipe in preparation.media.recipes:
        name = recipe.modality
        if must_be_usable and prepared.given[name] and prepared.unusable[name] == prepared.given[name]:
            raise DataError(
                f"Column '{recipe.column}' names a file of the kind '{recipe.spec.kind}' in {prepared.given[name]} "
                f"rows, and none can be used; the first: {found.first(name)}. Relative paths start from "
                f"'{place.root}'; give another folder by root=…, or leave the column out."
            )
    for line in found.lines():
        messages.tell(line)
    return prepared


def hold_out(
    frame: pd.DataFrame, schema: DatasetSchema, encoder: LabelEncoder, size: int, seed: int, messages: Messages
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Divide rows into those to train on and those to choose the best epoch by.

    Args:
        frame: N rows.
        schema: Knows the labels.
        encoder: Of the labels.
        size: How many are to be held out.
        seed: Of what is left to chance.
        messages: Tells how many they are.

    Returns:
        Both in the order of the frame; None for the second where there are too few rows.
    """
    if not size:
        messages.tell(f"With fewer than {FEWEST_ROWS} rows none is held out: the last epoch is taken as it is")
        return frame, None
    labels = telling_labels(label_values(frame, schema), str(encoder.problem_type), schema.label_separator)
    held = held_out(labels, size, seed)
    messages.tell(
        f"{int(held.sum()):,} of {len(frame):,} rows are held out, to choose the best epoch by; give others by "
        "validation=…"
    )
    parts = frame[~held], frame[held]
    for part in parts:
        part.attrs = frame.attrs
    return parts
