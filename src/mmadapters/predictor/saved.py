"""A predictor on disk: an artefact that knows how to predict from raw media, without a path of this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmadapters.artefact import Artefact, load_artefact, save_artefact
from mmadapters.data.schema import StoredFeatures
from mmadapters.errors import ArtefactError

MACHINE_PARAMETERS = ("root", "cache_dir", "device", "verbose")
"""Parameters that belong to a machine or a session, and are not saved."""


def save_predictor(artefact: Artefact, folder: str | Path) -> Path:
    """Write a trained model; see ``save_artefact``.

    Args:
        artefact: The model.
        folder: Where to.

    Raises:
        ArtefactError: If the folder holds something else than an artefact.
    """
    # Where features are kept is found again by what they were made with.
    names = {
        source.name: Path(source.store).name
        for source in artefact.preprocessor.schema.modalities
        if isinstance(source, StoredFeatures) and source.id is not None
    }
    return save_artefact(replace(artefact, preprocessor=artefact.preprocessor.with_store_names(names)), folder)


def saved_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a predictor that are saved, as plain values.

    Args:
        parameters: All of them.
    """
    return {name: _plain(value) for name, value in parameters.items() if name not in MACHINE_PARAMETERS}


def loaded_parameters(artefact: Artefact, accepted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a saved model was trained with.

    Args:
        artefact: The model; one that no predictor trained gives what its preprocessing says.
        accepted: All parameters with their defaults; others are passed over, as those of later versions.

    Raises:
        ArtefactError: If they cannot be read.
    """
    state = artefact.predictor
    if state is None:
        schema = artefact.preprocessor.schema
        return {
            "label": schema.to_dict()["label"],
            "text": schema.to_dict()["text"],
            "backbone": artefact.settings.backbone,
            "problem_type": artefact.problem_type,
            "label_separator": schema.label_separator,
            "id": schema.id,
        }
    parameters = state.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise ArtefactError("What the saved model says of its parameters cannot be read. The artefact is damaged.")
    return {name: value for name, value in parameters.items() if name in accepted and name not in MACHINE_PARAMETERS}


def artefact_files(artefact: Artefact) -> dict[str, bytes]:
    """Return a trained model as the files that ``save_predictor`` writes, by their names.

    Args:
        artefact: The model.
    """
    with tempfile.TemporaryDirectory(prefix="mmadapters-") as folder:
        saved = save_predictor(artefact, Path(folder) / "artefact")
        return {path.name: path.read_bytes() for path in saved.iterdir()}


def artefact_of_files(files: Mapping[str, bytes]) -> Artefact:
    """Return the model that ``artefact_files`` gave.

    Args:
        files: Content by name.
    """
    with tempfile.TemporaryDirectory(prefix="mmadapters-") as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        return load_artefact(folder)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
