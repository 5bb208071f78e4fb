"""``mmadapters explain``: what a saved model looks at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmadapters.cli.store_option import Stores, with_chosen_stores
from mmadapters.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

    from mmadapters.artefact import Artefact
    from mmadapters.data.dataset import MultimodalDataset

ROWS_FILE = "rows.csv"


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
    max_tokens_per_batch: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a batch, padding included; else the model's batch size.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Show what a model looks at: gates, shares, what changes without each modality, and whether shares tell."""
    from mmadapters.artefact import load_artefact
    from mmadapters.cli.console import OUT, prepare_libraries, print_table, step
    from mmadapters.data.files import read_rows, write_rows
    from mmadapters.report.explanation import explanation_notes, explanation_sections, write_explanation

    rates = parse_rates(missing_rates)
    shown = prepare_libraries(progress)
    artefact = load_artefact(model, backbone)
    preprocessor = with_chosen_stores(artefact.preprocessor, store)
    frame = read_rows(rows)
    labelled = all(column in frame.columns for column in preprocessor.schema.label_columns)
    if (rates or subsets) and not labelled:
        raise ConfigurationError(
            f"--missing-rates and --subsets score predictions, and '{rows}' has no column "
            f"{', '.join(preprocessor.schema.label_columns)}. Give rows with labels, or leave them out."
        )
    dataset = preprocessor.transform(frame, with_labels=labelled)
    content, table = explanation_content(
        artefact,
        dataset,
        frame,
        rates=rates,
        subsets=subsets,
        missing_seed=missing_seed,
        max_tokens_per_batch=max_tokens_per_batch or artefact.max_tokens_per_batch,
        progress=shown,
    )
    # As JSON has it.
    content = json.loads(json.dumps({**content, "model": model.resolve().name, "data": rows.name}))
    pictures = []
    try:
        from mmadapters.plots.draw import draw_explanation

        pictures = draw_explanation(content)
    except MissingDependencyError as error:
        step(str(error))
    output.mkdir(parents=True, exist_ok=True)
    write_rows(table, output / ROWS_FILE)
    write_explanation(output, content, pictures)
    for section in explanation_sections(content, ()):
        for found in section.tables:
            print_table(found.title, found.columns, found.rows, found.note, found.text_columns)
    for line in explanation_notes(content):
        OUT.print(line, soft_wrap=True)
    step(f"the report is {output / 'report.html'}; each row is in {output / ROWS_FILE}")


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


def explanation_content(
    artefact: Artefact,
    dataset: MultimodalDataset,
    frame: pd.DataFrame,
    *,
    rates: list[float],
    subsets: bool,
    missing_seed: int,
    max_tokens_per_batch: int | None,
    progress: bool,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return what the report is made from, and a table with a row for each row.

    Args:
        artefact: The model.
        dataset: The rows, with labels where they are known.
        frame: The same rows as they were read.
        rates: At which modalities go missing.
        subsets: Whether every subset of the modalities is scored.
        missing_seed: Of the draw.
        max_tokens_per_batch: Most tokens of a batch, or None for the artefact's batch size.
        progress: Whether to show progress bars.
    """
    import numpy as np

    from mmadapters.cli.predict import decided
    from mmadapters.evaluation.ablation import Variant, rate_variants, subset_variants, variant_metrics, varied
    from mmadapters.evaluation.evaluator import predict
    from mmadapters.evaluation.explanation import explain as look
    from mmadapters.evaluation.explanation_rows import examples, explanation_rows
    from mmadapters.evaluation.explanation_summary import summarise_explanation

    how: dict[str, Any] = {
        "batch_size": artefact.batch_size,
        "max_tokens_per_batch": max_tokens_per_batch,
        "progress": progress,
    }
    kind, labels = artefact.problem_type, artefact.labels
    names = [] if kind == "regression" else labels
    explanation = look(artefact.model, dataset, artefact.collator, kind, **how)
    targets = None if dataset.labels is None else np.asarray(dataset.labels)
    modalities = [modality.name for modality in dataset.modalities]
    variants = [Variant(tuple(modalities), (), 0.0)] if rates or subsets else []
    variants += subset_variants(modalities) if subsets else []
    variants += rate_variants(modalities, rates)
    logits = {
        variant.key: predict(
            artefact.model, varied(dataset, variant, missing_seed), artefact.collator, kind, **how
        ).logits
        for variant in variants
    }
    table = explanation_rows(explanation, lambda scores: decided(artefact, scores), targets)
    schema = artefact.preprocessor.schema
    known = schema.id is not None and schema.id in frame.columns
    row_names: list[Any] = frame[schema.id].tolist() if known else list(range(len(frame)))
    texts = [
        " / ".join("" if value is None or value != value else str(value) for value in row)
        for row in frame[list(schema.text_columns)].itertuples(index=False)
    ]
    table.insert(0, schema.id if known else "row", row_names)
    content = {
        **summarise_explanation(explanation, names, targets),
        "variants": [] if targets is None else variant_metrics(variants, logits, kind, targets, names),
        "examples": examples(table, list(explanation.without), row_names, texts),
    }
    return content, table
