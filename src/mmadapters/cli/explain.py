"""``mmadapters explain``: what a saved model looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmadapters.cli.media_option import MediaRoot, media_place
from mmadapters.cli.store_option import Stores
from mmadapters.errors import ConfigurationError


def explain(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model, or user/name[@revision] on the Hub.")],
    rows: Annotated[Path, typer.Argument(help="Rows: CSV, JSONL or Parquet. With labels more can be told.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report, tables and pictures.")],
    missing_rates: Annotated[
        str | None,
        typer.Option(help="Score the rows with modalities missing at these rates, as in 0.1,0.3,0.5. Needs labels."),
    ] = None,
    subsets: Annotated[bool, typer.Option(help="Score the rows with every subset of the modalities.")] = False,
    missing_seed: Annotated[int, typer.Option(min=0, help="Of the draw of what is missing.")] = 0,
    backbone: Annotated[str | None, typer.Option(help="Where the backbone is, if not under its saved name.")] = None,
    store: Stores = None,
    root: MediaRoot = None,
    max_tokens_per_batch: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a batch, padding included; else the model's batch size.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Show what a model looks at: gates, shares, what changes without each modality, and whether shares tell."""
    import pandas as pd

    from mmadapters.artefact import load_artefact
    from mmadapters.cli.console import OUT, prepare_libraries, print_table, step
    from mmadapters.cli.media_option import row_predictor
    from mmadapters.data.files import read_rows
    from mmadapters.predictor.explaining import ROWS_FILE, ExplanationOptions, explain_rows
    from mmadapters.report.explanation import explanation_notes, explanation_sections

    rates = parse_rates(missing_rates)
    shown = prepare_libraries(progress)
    artefact = load_artefact(model, backbone)
    predictor = row_predictor(artefact, store, shown)
    schema = artefact.preprocessor.schema
    frame = read_rows(rows)
    labelled = all(column in frame.columns for column in schema.label_columns)
    if (rates or subsets) and not labelled:
        raise ConfigurationError(
            f"--missing-rates and --subsets score predictions, and '{rows}' has no column "
            f"{', '.join(schema.label_columns)}. Give rows with labels, or leave them out."
        )
    dataset = predictor.data_set(frame, media_place(rows, root), with_labels=labelled, tell=step)
    known = schema.id is not None and schema.id in frame.columns
    names = pd.Index(frame[schema.id], name=schema.id) if known else pd.RangeIndex(len(frame), name="row")
    explained = explain_rows(
        artefact,
        dataset,
        frame,
        names,
        model=model.resolve().name,
        data=rows.name,
        options=ExplanationOptions(rates, subsets, missing_seed, max_tokens_per_batch, shown),
    )
    report = explained.report(output, step)
    for section in explanation_sections(explained.summary, ()):
        for found in section.tables:
            print_table(found.title, found.columns, found.rows, found.note, found.text_columns)
    for line in explanation_notes(explained.summary):
        OUT.print(line, soft_wrap=True)
    step(f"the report is {report}; each row is in {output / ROWS_FILE}")


def parse_rates(text: str | None) -> list[float]:
    """Return the rates of ``--missing-rates``.

    Args:
        text: Numbers with commas between, or None.

    Raises:
        ConfigurationError: If they are something else.
    """
    try:
        rates = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        rates = [-1.0]
    if any(not 0.0 <= rate < 1.0 for rate in rates):
        raise ConfigurationError(
            f"--missing-rates is {text!r}. Give numbers of at least 0 and below 1 with commas between, such as "
            "0.1,0.3,0.5,0.7,0.9."
        )
    return rates
