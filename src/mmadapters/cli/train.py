"""``mmadapters train``: train adapters by one YAML file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.cli.rows import prepare_rows
from mmadapters.cli.settings import load_settings, to_yaml
from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    from mmadapters.artefact import Artefact
    from mmadapters.cli.run_config import RunConfig
    from mmadapters.data.dataset import MultimodalDataset
    from mmadapters.data.preprocessor import Preprocessor
    from mmadapters.evaluation.evaluator import Predictions
    from mmadapters.evaluation.metrics import MetricsReport
    from mmadapters.training.arguments import MultimodalTrainingArguments

METRICS_FILE = "metrics.json"
RESOLVED_CONFIG = "config.resolved.yaml"


def train(
    config: Annotated[Path, typer.Argument(help="The run as YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: training.learning_rate=1e-3. Repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was killed, from its newest checkpoint.")
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Train once with each of these seeds, 0,1,2 or 0-4, and print mean and standard deviation. Each has a "
            "folder of its own; those that are finished are not trained again."
        ),
    ] = None,
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
    if seeds is None:
        run(settings, rows_folder=Path.cwd(), progress=progress, resume=resume)
    else:
        from mmadapters.cli.seeds import parse_seeds, run_seeds

        run_seeds(settings, parse_seeds(seeds), rows_folder=Path.cwd(), progress=progress, resume=resume)


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
    from mmadapters.artefact import artefact_bytes
    from mmadapters.cli.console import file_size, prepare_libraries, step
    from mmadapters.cli.report import print_report

    shown = prepare_libraries(progress)
    output = Path(settings.output_dir)
    # Everything that can be wrong in the file is found before the first row is read.
    arguments = checked_arguments(settings, shown, resume)
    is_first = arguments.process_index == 0
    preprocessor, data = prepare_rows(settings, rows_folder, step if is_first else None)
    if is_first:
        step(", ".join(f"{split}: {len(rows)} rows" for split, rows in data.items()))
    reports = train_on_rows(settings, arguments, preprocessor, data, resume)
    folder = output / "artefact"
    if is_first:
        for split, report in reports.items():
            print_report(f"{split}: {report.n_examples} rows", report, data[split].unseen_labels)
        step(f"saved to {folder} ({file_size(artefact_bytes(folder))}); metrics and resolved config in {output}")
    return folder


def checked_arguments(settings: RunConfig, progress: bool, resume: bool) -> MultimodalTrainingArguments:
    """Return the training arguments of a run, after looking for all that can be wrong before a row is read.

    Args:
        settings: The run.
        progress: Whether progress bars are shown.
        resume: Whether the run goes on with one that is there.

    Raises:
        ConfigurationError, ArtefactError: If something is.
    """
    from mmadapters.artefact import check_may_be_written
    from mmadapters.cli.options import check_adapter_options, training_arguments
    from mmadapters.training.resuming import check_may_start
    from mmadapters.training.tracking import LOGGING_DIR_VARIABLE

    output = Path(settings.output_dir)
    check_may_be_written(output / "artefact")
    arguments = training_arguments(settings.training, seed=settings.seed, progress=progress)
    if arguments.needs_output_dir:
        arguments.output_dir, arguments.needs_output_dir = str(output / "checkpoints"), False
    if arguments.logging_dir is None and LOGGING_DIR_VARIABLE not in os.environ:
        arguments.logging_dir = str(output / "logs")
    check_may_start(arguments, resume)
    check_adapter_options(settings.adapter, settings.modalities)
    return arguments


def train_on_rows(
    settings: RunConfig,
    arguments: MultimodalTrainingArguments,
    preprocessor: Preprocessor,
    data: Mapping[str, MultimodalDataset],
    resume: bool = False,
) -> dict[str, MetricsReport]:
    """Train on rows that are prepared, and write artefact, metrics and resolved config; the config is written last.

    Args:
        settings: The run.
        arguments: As ``checked_arguments`` gave them.
        preprocessor: Fitted on the training rows.
        data: The rows by split.
        resume: Whether to go on with a run that was killed or interrupted.

    Returns:
        What was measured, by split; nothing in processes but the first.
    """
    from mmadapters.artefact import Artefact, artefact_bytes, save_artefact, training_record, training_settings
    from mmadapters.cli.console import step
    from mmadapters.cli.options import adapter_config, prefix_cache_options
    from mmadapters.evaluation.evaluator import evaluate, predict
    from mmadapters.evaluation.thresholds import validation_thresholds
    from mmadapters.files import write_json_atomically, write_text_atomically
    from mmadapters.training.fit import ModelSettings, fit

    output = Path(settings.output_dir)
    model = ModelSettings(**asdict(settings.model))
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
    if arguments.process_index:
        return {}
    artefact = Artefact(
        fitted.model,
        preprocessor,
        model,
        batch_size=arguments.per_device_eval_batch_size,
        max_tokens_per_batch=arguments.max_tokens_per_batch,
    )
    reports: dict[str, MetricsReport] = {}
    predicted: dict[str, Predictions] = {}
    with prefixed_rows(settings, artefact, data) as held_out:
        for split, rows in held_out.items():
            predictions = predicted[split] = predict(
                fitted.model,
                rows,
                artefact.collator,
                artefact.problem_type,
                batch_size=artefact.batch_size,
                max_tokens_per_batch=artefact.max_tokens_per_batch,
                progress=not arguments.disable_tqdm,
            )
            # On the rows that thresholds are tuned on they say nothing.
            reports[split] = evaluate(
                predictions, data[split], artefact.problem_type, artefact.labels, artefact.thresholds
            )
            if split == "validation" and arguments.tune_thresholds:
                tuned = validation_thresholds(artefact.problem_type, predictions.scores, data[split].labels)
                artefact = replace(artefact, thresholds=tuned)
    artefact = replace(artefact, metrics={split: report.values for split, report in reports.items()})
    # Where this file is, artefact and metrics are those of the run that it describes.
    (output / RESOLVED_CONFIG).unlink(missing_ok=True)
    # At once: what the card needs takes a while, in which the process may be killed.
    folder = save_artefact(artefact, output / "artefact")
    if artefact.preprocessor.modalities and predicted:
        step("looking at what is left without each modality, for the model card")
    record = training_record(
        artefact,
        data,
        predicted,
        sources=row_sources(settings),
        training=training_settings(arguments, fitted),
        synthetic=settings.data.synthetic,
        progress=not arguments.disable_tqdm,
    )
    save_artefact(replace(artefact, record=record), folder)
    write_json_atomically(
        output / METRICS_FILE,
        {
            "splits": {
                split: {**report.to_dict(), "unseen_labels": dict(data[split].unseen_labels)}
                for split, report in reports.items()
            },
            "rows": {split: len(rows) for split, rows in data.items()},
            "row_digests": {split: rows.digest() for split, rows in data.items()},
            "trainable_parameters": sum(p.numel() for p in fitted.model.parameters() if p.requires_grad),
            "file_bytes": artefact_bytes(folder),
            "seconds": fitted.seconds,
            "seed": settings.seed,
            "linear_probe": None if fitted.linear_probe is None else asdict(fitted.linear_probe),
            "log": fitted.log,
        },
    )
    write_text_atomically(output / RESOLVED_CONFIG, to_yaml(settings))
    return reports


@contextmanager
def prefixed_rows(
    settings: RunConfig, artefact: Artefact, data: Mapping[str, MultimodalDataset]
) -> Iterator[dict[str, MultimodalDataset]]:
    """Yield the validation and test rows of a run, with the prefix cache's states where the run has an exact cache.

    Where the cache cannot hold them they are predicted without it: a training is not lost for that.

    Args:
        settings: The run.
        artefact: The trained model, which starts at its first layer with an adapter meanwhile.
        data: The rows by split.
    """
    from functools import partial

    from mmadapters.backbones import load_encoder
    from mmadapters.cli.console import step
    from mmadapters.cli.options import prefix_cache_options
    from mmadapters.training.prefix_cache import cached_prefix

    rows = {split: data[split] for split in ("validation", "test") if split in data}
    options = prefix_cache_options(settings.prefix_cache)
    with ExitStack() as stack:
        # Rounded states would measure another model than the one that is saved.
        if options is not None and options.dtype == "float32" and rows:
            reload_encoder = partial(load_encoder, artefact.settings.backbone)
            prefixed = cached_prefix(artefact.model, options, rows, artefact.collator, reload_encoder, step)
            try:
                rows = {**stack.enter_context(prefixed)}
            except ConfigurationError as error:
                step(f"predicting without the prefix cache: {error}")
        yield rows


def row_sources(settings: RunConfig) -> dict[str, str]:
    """Return which file the rows of each split are from, without the folders on the way there.

    Args:
        settings: The run.
    """
    data = settings.data
    name = Path(data.train).name
    shares = {"train": 1.0 - sum(data.split.values()), **data.split}
    files = {"train": data.train, "validation": data.validation, "test": data.test}
    cut = {split: f"{100 * share:.3g} % of {name}" for split, share in shares.items() if data.split}
    return {split: Path(file).name for split, file in files.items() if file} | cut
