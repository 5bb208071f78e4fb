"""Saved models and the raw media of rows, for the verbs that run a model: where files are, and what finds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.cli.store_option import with_chosen_stores

if TYPE_CHECKING:
    from mmadapters.evaluation.predictions import RowModel
    from mmadapters.predictor.chunks import RowPredictor
    from mmadapters.predictor.media_cells import Place

MediaRoot = Annotated[
    Path | None,
    typer.Option(
        "--root", help="Folder that paths of media start from and may not leave; that of the rows where absent."
    ),
]


def media_place(rows: Path, root: Path | None) -> Place:
    """Return where the media of a file of rows are.

    Args:
        rows: The file.
        root: The option ``--root``.
    """
    from mmadapters.predictor.media_cells import Place

    return Place((root or rows.parent).expanduser().absolute())


def row_predictor(
    model: RowModel, stores: list[str] | None, progress: bool, max_tokens_per_batch: int | None = None
) -> RowPredictor:
    """Return a saved or exported model with what prepares rows for it.

    Args:
        model: The model.
        stores: The option ``--store``; the media of modalities that it names are not looked at.
        progress: Whether to show progress bars.
        max_tokens_per_batch: Most tokens of a batch, or None for what was saved.
    """
    from dataclasses import replace

    from mmadapters.cli.console import step
    from mmadapters.data.schema import StoredFeatures
    from mmadapters.data.sources.package_index import cache_folder
    from mmadapters.predictor.chunks import RowPredictor
    from mmadapters.predictor.preparation import RowPreparation

    preparation = RowPreparation.of_model(model, cache_folder(), progress, step)
    chosen = with_chosen_stores(model.preprocessor, stores)
    # Those whose store was named are found by the schema's id, and no longer by a column of their own.
    sources = chosen.schema.modalities
    named = [source.name for source in sources if isinstance(source, StoredFeatures) and source.id is None]
    reading: RowModel = replace(model, preprocessor=chosen)  # type: ignore[type-var]
    predictor = RowPredictor(reading, preparation.without_media(named), max_tokens_per_batch)
    predictor.open_stores()
    return predictor
