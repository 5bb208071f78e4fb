"""``mmadapters evaluate``: score a saved model on rows with labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmadapters.cli.media_option import MediaRoot, media_place
from mmadapters.cli.model import Int8, Runtime
from mmadapters.cli.store_option import Stores


def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model, or user/name[@revision] on the Hub.")],
    rows: Annotated[Path, typer.Argument(help="Rows with labels: CSV, JSONL or Parquet.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the report as JSON.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    runtime: Runtime = None,
    int8: Int8 = False,
    store: Stores = None,
    root: MediaRoot = None,
    max_tokens_per_batch: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a batch, padding included; else the model's batch size.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Score a saved model on rows with labels: metrics and a table per label."""
    from mmadapters.cli.console import step
    from mmadapters.cli.media_option import row_predictor
    from mmadapters.cli.model import load_model
    from mmadapters.data.files import read_rows
    from mmadapters.evaluation.evaluator import evaluate as score
    from mmadapters.files import write_json_atomically

    artefact, shown = load_model(model, backbone, runtime, int8, progress)
    predictor = row_predictor(artefact, store, shown)
    dataset = predictor.data_set(read_rows(rows), media_place(rows, root), with_labels=True, tell=step)
    predictions = artefact.predict_dataset(dataset, max_tokens_per_batch=max_tokens_per_batch, progress=shown)
    report = score(predictions, dataset, artefact.problem_type, artefact.labels, artefact.thresholds)
    content = {**report.to_dict(), "unseen_labels": dict(dataset.unseen_labels)}
    if output is not None:
        write_json_atomically(output, content)
    if as_json:
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        from mmadapters.cli.report import print_report

        print_report(f"{rows.name}: {report.n_examples} rows", report, dataset.unseen_labels)
