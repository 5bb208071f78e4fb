"""``mmadapters predict``: predict labels for rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmadapters.cli.store_option import Stores, with_chosen_stores

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from mmadapters.artefact import Artefact
    from mmadapters.evaluation.evaluator import Predictions


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model, or user/name[@revision] on the Hub.")],
    rows: Annotated[Path, typer.Argument(help="Rows to predict: CSV, JSONL or Parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .csv, .jsonl or .parquet.")],
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    store: Stores = None,
    max_tokens_per_batch: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a batch, padding included; else the model's batch size.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Predict: one row per input row, with the predicted labels and each label's probability."""
    from mmadapters.artefact import load_artefact
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.data.files import check_writable_rows, read_rows, write_rows
    from mmadapters.evaluation.evaluator import predict as run

    shown = prepare_libraries(progress)
    check_writable_rows(output)
    artefact = load_artefact(model, backbone)
    preprocessor = with_chosen_stores(artefact.preprocessor, store)
    frame = read_rows(rows)
    dataset = preprocessor.transform(frame, with_labels=False)
    predictions = run(
        artefact.model,
        dataset,
        artefact.collator,
        artefact.problem_type,
        batch_size=artefact.batch_size,
        max_tokens_per_batch=max_tokens_per_batch or artefact.max_tokens_per_batch,
        progress=shown,
    )
    write_rows(prediction_frame(artefact, frame, predictions), output)
    step(f"{len(frame)} predictions written to {output}")


def prediction_frame(artefact: Artefact, frame: pd.DataFrame, predictions: Predictions) -> pd.DataFrame:
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


def decided(artefact: Artefact, scores: np.ndarray) -> list[Any]:
    """Return what is predicted for each row: a label, labels with ``|`` between, or a value.

    Args:
        artefact: The model.
        scores: Probabilities (N, C), or values (N,).
    """
    import numpy as np

    names = artefact.labels
    if artefact.problem_type == "regression":
        return [float(value) for value in scores]
    if artefact.problem_type == "single_label_classification":
        return [names[index] for index in scores.argmax(axis=1)]
    chosen = scores >= np.array(artefact.decision_thresholds)
    return ["|".join(name for name, yes in zip(names, row, strict=True) if yes) for row in chosen]
