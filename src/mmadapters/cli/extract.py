"""``mmadapters extract``: posters, trailers and sound into a feature store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.cli.engine import Engine, RayAddress, check_engine
from mmadapters.cli.settings import load_settings

if TYPE_CHECKING:
    from mmadapters.cli.extract_config import ExtractConfig
    from mmadapters.features.extract import ExtractionSummary


def extract(
    config: Annotated[Path, typer.Argument(help="The extraction as YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: modalities.trailer.frames=16. Repeatable.")
    ] = None,
    num_shards: Annotated[
        int, typer.Option(min=1, help="Number of jobs that share the rows; each writes its own part of the store.")
    ] = 1,
    shard_index: Annotated[int, typer.Option(min=0, help="Number of this job, from 0.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Discard features that were made in another way.")
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option(help="Where files are decoded and encoded: in this machine's processes, or on Ray's nodes."),
    ] = Engine.LOCAL,
    ray_address: RayAddress = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Extract features of images, videos and sound into a store; an interrupted run goes on where it was."""
    from mmadapters.cli.extract_config import ExtractConfig

    check_engine(engine, ray_address)
    settings = load_settings(ExtractConfig, config, overrides or [])
    summary = run(settings, Path.cwd(), progress, num_shards, shard_index, overwrite, engine, ray_address)
    print_summary(summary)


def run(
    settings: ExtractConfig,
    rows_folder: Path,
    progress: bool,
    num_shards: int = 1,
    shard_index: int = 0,
    overwrite: bool = False,
    engine: Engine = Engine.LOCAL,
    ray_address: str | None = None,
) -> ExtractionSummary:
    """Extract as the settings say.

    Args:
        settings: The extraction.
        rows_folder: Relative paths of the rows' file, of ``root`` and of the store start here.
        progress: Whether a progress bar may be shown.
        num_shards: Number of jobs that share the rows.
        shard_index: Number of this job.
        overwrite: Whether features that were made in another way are discarded.
        engine: Where files are decoded and encoded.
        ray_address: Of a Ray cluster.

    Returns:
        What was done.
    """
    from mmadapters.cli.console import prepare_libraries, step
    from mmadapters.cli.settings import coerce_options
    from mmadapters.data.files import ROOT, read_rows
    from mmadapters.features.extract import ExtractionOptions, MediaSource
    from mmadapters.features.extract import extract as extract_rows
    from mmadapters.features.extractor import build_extractor
    from mmadapters.features.guard import Limits
    from mmadapters.features.ray_engine import RayOptions

    shown = prepare_libraries(progress)
    limits = Limits(**coerce_options("limits", Limits, settings.limits))
    ray = RayOptions(address=ray_address, **coerce_options("ray", RayOptions, settings.ray, exclude=["address"]))
    frame = read_rows(rows_folder / settings.data.rows)
    root = frame.attrs[ROOT] if settings.data.root is None else rows_folder / settings.data.root
    options = ExtractionOptions(
        id_column=settings.data.id,
        root=Path(root),
        allow_outside_root=settings.data.allow_outside_root,
        limits=limits,
        workers=settings.workers,
        seconds=settings.seconds_per_file,
        memory_bytes=settings.worker_memory_mb << 20,
        rows_per_shard=settings.rows_per_shard,
        num_shards=num_shards,
        shard_index=shard_index,
        overwrite=overwrite,
        progress=shown,
        ray=ray if engine is Engine.RAY else None,
    )
    sources = []
    for name, media in settings.modalities.items():
        extractor = build_extractor(media.to_spec(name), limits)
        sources.append(MediaSource(media.column, extractor, media.dtype, media.pool_mean))
        step(f"{name}: {media.kind}, {'(T, D)' if extractor.is_sequence else '(D,)'}, D = {extractor.feature_dim}")
    return extract_rows(frame, sources, rows_folder / settings.store, options)


def print_summary(summary: ExtractionSummary) -> None:
    """Print what an extraction did: a table of outcomes by modality, and the first errors of each."""
    from mmadapters.cli.console import OUT, print_table
    from mmadapters.features.outcome import Status

    statuses = [status.value for status in Status]
    print_table(
        f"{summary.rows} rows: {summary.done_before} done before, {summary.extracted} extracted",
        ["modality", *statuses, "encoded"],
        [
            [name, *(str(modality.statuses[status]) for status in statuses), str(modality.encoded)]
            for name, modality in summary.modalities.items()
        ],
        footer=f"{summary.seconds:.1f} s, {summary.rows_per_second:.2f} rows/s; features in {summary.store}",
    )
    for name, modality in summary.modalities.items():
        for id, error in modality.examples:
            OUT.print(f"{name}, row {id}: {error}", soft_wrap=True)
