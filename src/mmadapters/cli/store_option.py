"""The option ``--store`` of ``predict`` and ``evaluate``: features from other stores than in training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mmadapters.errors import ConfigurationError, listed

if TYPE_CHECKING:
    from mmadapters.data.preprocessor import Preprocessor
    from mmadapters.data.schema import StoredFeatures

Stores = Annotated[
    list[str] | None,
    typer.Option(
        "--store",
        metavar="[MODALITY=]FOLDER",
        help="Read a modality's features, or those of all, from another store than in training. Repeatable.",
    ),
]

_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_\-]*)=(.*)")


def with_chosen_stores(preprocessor: Preprocessor, chosen: Sequence[str] | None) -> Preprocessor:
    """Return the preprocessor reading features from the stores that ``--store`` names.

    Args:
        preprocessor: Of the saved model.
        chosen: ``modality=folder`` each, or once a folder for all modalities from stores that are not named.

    Raises:
        ConfigurationError: If an entry is empty, names no modality from a store or repeats one, or a folder alone
            leaves open which features are meant.
    """
    stores: dict[str, str] = {}
    for_all: list[str] = []
    for entry in chosen or []:
        named = _NAMED.fullmatch(entry)
        folder = named[2] if named else entry
        if not folder.strip():
            raise ConfigurationError(f"--store {entry!r} names no folder. Give --store modality=folder, or a folder.")
        if named is None:
            for_all.append(folder)
        elif named[1] in stores:
            raise ConfigurationError(f"--store names '{named[1]}' twice. Give each modality one store.")
        else:
            stores[named[1]] = folder
    if len(for_all) > 1:
        raise ConfigurationError(
            f"--store gives {listed(for_all)} without a modality. Say which is for which: --store modality=folder."
        )
    if for_all:
        stores |= dict.fromkeys(_not_named(preprocessor, stores), for_all[0])
    return preprocessor.with_stores(stores) if stores else preprocessor


def _not_named(preprocessor: Preprocessor, named: dict[str, str]) -> list[str]:
    """Return the modalities that a folder alone is for.

    Raises:
        ConfigurationError: If there is none, or two of them would read the same column of it and did not in training.
    """
    from mmadapters.data.schema import StoredFeatures

    stored = [source for source in preprocessor.schema.modalities if isinstance(source, StoredFeatures)]
    rest = [source for source in stored if source.name not in named]
    if not rest:
        raise ConfigurationError(
            "--store gives a folder for all modalities, and "
            + ("each has one of its own." if stored else "the model reads none from a store.")
        )
    by_column: dict[str, StoredFeatures] = {}
    for source in rest:
        first = by_column.setdefault(source.store_column, source)
        if first.store != source.store:
            raise ConfigurationError(
                f"--store gives one folder for all modalities, and in training '{first.name}' and '{source.name}' read "
                f"the column '{source.store_column}' of two stores, '{first.store}' and '{source.store}'. Give each "
                f"its own: --store {first.name}=folder --store {source.name}=folder."
            )
    return [source.name for source in rest]
