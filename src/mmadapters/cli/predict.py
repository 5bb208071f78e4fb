"""``mmadapters predict``: predict labels for rows, however many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmadapters.cli.media_option import MediaRoot
from mmadapters.cli.model import Int8, Runtime
from mmadapters.cli.store_option import Stores


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model, or user/name[@revision] on the Hub.")],
    rows: Annotated[
        Path, typer.Argument(help="Rows to predict: CSV, JSONL or Parquet; a file, a folder or a pattern.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .csv, .jsonl or .parquet.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was killed; the file is the same in the end.")
    ] = False,
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    runtime: Runtime = None,
    int8: Int8 = False,
    store: Stores = None,
    root: MediaRoot = None,
    max_tokens_per_batch: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a batch, padding included; else the model's batch size.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Predict: one row per input row, with the predicted labels and each label's probability."""
    from mmadapters.cli.console import step
    from mmadapters.cli.media_option import row_predictor
    from mmadapters.cli.model import load_model
    from mmadapters.data.files import check_writable_rows
    from mmadapters.predictor.predict_files import ERROR, PARTIAL, FileOptions, predict_files

    check_writable_rows(output)
    loaded, shown = load_model(model, backbone, runtime, int8, progress)
    predictor = row_predictor(loaded, store, shown, max_tokens_per_batch)
    how = FileOptions(model, root, resume, shown, {"store": store, "runtime": runtime, "int8": int8})
    try:
        counts = predict_files(predictor, rows, output, how, step)
    except KeyboardInterrupt:
        step("interrupted; the same command with --resume goes on from here")
        raise
    step(f"{counts['rows']:,} predictions written to {output}")
    if counts[PARTIAL]:
        step(f"{counts[PARTIAL]:,} rows name something that cannot be used; see the columns status and error")
    if counts[ERROR]:
        step(f"{counts[ERROR]:,} rows cannot be read and have no prediction; see the column error")
