"""``mmadapters predict``: predict labels for rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmadapters.cli.model import Int8, Runtime, load_model
from mmadapters.cli.store_option import Stores, with_chosen_stores

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from mmadapters.evaluation.predictions import Predictions, RowModel


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model, or user/name[@revision] on the Hub.")],
    rows: Annotated[Path, typer.Argument(help="Rows to predict: CSV, JSONL or Parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .csv, .jsonl or .parquet.")],
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    runtime: Runtime = None,
    int8: Int8 = False,
    store: Stores = None,
    max_tokens_per_batch: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a batch, padding included; else the model's batch size.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Predict: one row per input row, with the predicted labels and each label's probability."""
    from mmadapters.cli.console import step
    from mmadapters.data.files import check_writable_rows, read_rows, write_rows

    check_writable_rows(output)
    artefact, shown = load_model(model, backbone, runtime, int8, progress)
    preprocessor = with_chosen_stores(artefact.preprocessor, store)
    frame = read_rows(rows)
    dataset = preprocessor.transform(frame, with_labels=False)
    predictions = artefact.predict_dataset(dataset, max_tokens_per_batch=max_tokens_per_batch, progress=shown)
    write_rows(prediction_frame(artefact, frame, predictions), output)
    step(f"{len(frame)} predictions written to {output}")


def prediction_frame(artefact: RowModel, frame: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
    """Return predictions as a table, one row per row of ``frame``.

    Args:
        artefact: The model.
        frame: The rows that were predicted; the schema's id column is kept.
        predictions: What the model said of them.
    """
    import pandas as pd

    id_column = artefact.preprocessor.schema.id
    known = id_column is not None and id_column in frame.columns
    table = pd.DataFrame({id_column: frame[id_column]} if known else {"row": range(len(frame))})
    table["prediction"] = decided(artefact, predictions.scores)
    if artefact.problem_type != "regression":
        for index, name in enumerate(artefact.labels):
            table[f"probability_{name}"] = predictions.scores[:, index]
    return table


def decided(artefact: RowModel, scores: np.ndarray) -> list[Any]:
    """Return what is predicted for each row: a label, labels with ``|`` between, or a value.

    Args:
        artefact: The model.
        scores: Probabilities (N, C), or values (N,).
    """
    from mmadapters.evaluation import predictions

    predicted = predictions.decided(scores, artefact.problem_type, artefact.labels, artefact.decision_thresholds)
    return ["|".join(labels) if isinstance(labels, list) else labels for labels in predicted]
