"""``mmadapters train``: train adapters by one YAML file."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmadapters.cli.settings import load_settings, to_yaml

if TYPE_CHECKING:
    import pandas as pd

    from mmadapters.cli.run_config import RunConfig
    from mmadapters.evaluation.metrics import MetricsReport


def train(
    config: Annotated[Path, typer.Argument(help="The run as YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: training.learning_rate=1e-3. Repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was killed, from its newest checkpoint.")
    ] = False,
    cache_limit: Annotated[
        float | None,
        typer.Option(help="The most that the prefix cache may take, in GB; the YAML's limit_gb otherwise."),
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Train adapters and head, and write artefact, metrics and the resolved config to the run's output folder."""
    from mmadapters.cli.run_config import RunConfig

    limit = [] if cache_limit is None else [f"prefix_cache.limit_gb={cache_limit}"]
    settings = load_settings(RunConfig, config, [*(overrides or []), *limit])
    run(settings, rows_folder=Path.cwd(), progress=progress, resume=resume)


def run(settings: RunConfig, rows_folder: Path, progress: bool, resume: bool = False) -> Path:
    """Train as the settings say. Of several processes (``torchrun``) the first one tells and writes.

    Args:
        settings: The run.
        rows_folder: Relative paths of row files start here.
        progress: Whether progress bars may be shown.
        resume: Whether to go on with a run that was killed or interrupted.

    Returns:
        The folder of the artefact.
    """
    from mmadapters.artefact import Artefact, artefact_bytes, check_may_be_written, save_artefact
    from mmadapters.backbones import load_tokenizer
    from mmadapters.cli.console import file_size, prepare_libraries, step
    from mmadapters.cli.options import (
        adapter_config,
        check_adapter_options,
        prefix_cache_options,
        training_arguments,
    )
    from mmadapters.cli.report import print_report
    from mmadapters.data.preprocessor import Preprocessor
    from mmadapters.evaluation.evaluator import evaluate, predict
    from mmadapters.evaluation.thresholds import validation_thresholds
    from mmadapters.files import write_json_atomically, write_text_atomically
    from mmadapters.training.fit import ModelSettings, fit
    from mmadapters.training.resuming import check_may_start

    shown = prepare_libraries(progress)
    output = Path(settings.output_dir)
    # Everything that can be wrong in the file is found before the first row is read.
    check_may_be_written(output / "artefact")
    arguments = training_arguments(settings.training, seed=settings.seed, progress=shown)
    if arguments.needs_output_dir:
        arguments.output_dir, arguments.needs_output_dir = str(output / "checkpoints"), False
    check_may_start(arguments, resume)
    is_first = arguments.process_index == 0
    check_adapter_options(settings.adapter, settings.modalities)
    frames = read_splits(settings, rows_folder)
    model = ModelSettings(**asdict(settings.model))
    schema = settings.to_schema()
    preprocessor = Preprocessor.fit(
        frames["train"], schema, load_tokenizer(model.backbone), max_length=settings.data.max_length
    )
    data = {split: preprocessor.transform(frame) for split, frame in frames.items()}
    if is_first:
        step(", ".join(f"{split}: {len(rows)} rows" for split, rows in data.items()))
    fitted = fit(
        preprocessor,
        data["train"],
        data.get("validation"),
        settings=model,
        adapter=adapter_config(settings.adapter, preprocessor.modalities),
        arguments=arguments,
        report=step,
        resume=resume,
        prefix_cache=prefix_cache_options(settings.prefix_cache),
    )
    if not is_first:
        return output / "artefact"
    artefact = Artefact(
        fitted.model,
        preprocessor,
        model,
        batch_size=arguments.per_device_eval_batch_size,
        max_tokens_per_batch=arguments.max_tokens_per_batch,
    )
    reports: dict[str, MetricsReport] = {}
    for split in ("validation", "test"):
        if split in data:
            predictions = predict(
                fitted.model,
                data[split],
                artefact.collator,
                artefact.problem_type,
                batch_size=artefact.batch_size,
                max_tokens_per_batch=artefact.max_tokens_per_batch,
                progress=shown,
            )
            # On the rows that thresholds are tuned on they say nothing.
            reports[split] = evaluate(
                predictions, data[split], artefact.problem_type, artefact.labels, artefact.thresholds
            )
            if split == "validation" and arguments.tune_thresholds:
                tuned = validation_thresholds(artefact.problem_type, predictions.scores, data[split].labels)
                artefact = replace(artefact, thresholds=tuned)
    metrics = {split: report.values for split, report in reports.items()}
    folder = save_artefact(replace(artefact, metrics=metrics), output / "artefact")
    write_json_atomically(
        output / "metrics.json",
        {
            "splits": {
                split: {**report.to_dict(), "unseen_labels": dict(data[split].unseen_labels)}
                for split, report in reports.items()
            },
            "rows": {split: len(rows) for split, rows in data.items()},
            "trainable_parameters": sum(p.numel() for p in fitted.model.parameters() if p.requires_grad),
            "file_bytes": artefact_bytes(folder),
            "seconds": fitted.seconds,
            "seed": settings.seed,
            "linear_probe": None if fitted.linear_probe is None else asdict(fitted.linear_probe),
            "log": fitted.log,
        },
    )
    write_text_atomically(output / "config.resolved.yaml", to_yaml(settings))
    for split, report in reports.items():
        print_report(f"{split}: {report.n_examples} rows", report, data[split].unseen_labels)
    step(f"saved to {folder} ({file_size(artefact_bytes(folder))}); metrics and resolved config in {output}")
    return folder


def read_splits(settings: RunConfig, rows_folder: Path) -> dict[str, pd.DataFrame]:
    """Read the row files, cutting validation and test from the training rows where they have no file.

    Args:
        settings: The run.
        rows_folder: Relative paths start here.
    """
    from mmadapters.data.files import read_rows, split_rows

    data = settings.data
    paths = {"train": data.train, "validation": data.validation, "test": data.test}
    frames: dict[str, Any] = {split: read_rows(rows_folder / path) for split, path in paths.items() if path}
    fractions = {name: fraction for name, fraction in data.split.items() if name not in frames}
    if fractions:
        cut = {"train": 1.0 - sum(fractions.values()), **fractions}
        frames |= split_rows(frames["train"], cut, settings.seed)
    return frames
