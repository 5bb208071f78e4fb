"""Writing an artefact."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmadapters.artefact.card import model_card
from mmadapters.artefact.files import (
    ADAPTER_CONFIG_FILE,
    CARD_FILE,
    PIPELINE_FILE,
    WEIGHTS_FILE,
    file_size,
    read_file,
    read_json,
)
from mmadapters.artefact.loading import read_artefact
from mmadapters.artefact.model import Artefact, encoder_of, weights_digest
from mmadapters.artefact.pipeline_file import FORMAT_VERSION
from mmadapters.backbones import COMMIT, PACKAGED_BACKBONES
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import StoredFeatures
from mmadapters.errors import ArtefactError
from mmadapters.files import replace_folder, write_json_atomically, write_text_atomically

RECORDED_PACKAGES = ("mmadapters", "torch", "transformers", "peft", "numpy", "scikit-learn")
DIGESTED = (ADAPTER_CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
"""Files whose SHA-256 stands in ``pipeline.json``; that of the card tells whether its author changed it."""


def save_artefact(artefact: Artefact, folder: str | Path) -> Path:
    """Write an artefact; the folder holds all of it or, after an interruption, what it held before.

    Args:
        artefact: What to save. Of several adapters in its model the active one is saved; an AdapterFusion with its
            members.
        folder: Where to; an artefact that is there is replaced.

    Returns:
        The folder.

    Raises:
        ArtefactError: If the folder is a file, or exists and holds something else than an artefact, or if what would
            be written could not be loaded again.
    """
    target = Path(folder)
    check_may_be_written(target)
    pipeline = describe_pipeline(artefact)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replace_folder(target) as temporary:
        active = artefact.model.active_adapter
        artefact.model.save_pretrained(str(temporary), selected_adapters=[active], save_embedding_layers=False)
        if (temporary / active).is_dir():
            # PEFT puts every adapter but "default" into a folder of its name.
            for file in (temporary / active).iterdir():
                file.replace(temporary / file.name)
            (temporary / active).rmdir()
        write_pipeline(temporary, pipeline)
        # What is written is what is accepted: better an error now than one in another process.
        read_artefact(temporary)
    return target


def write_pipeline(folder: Path, pipeline: Mapping[str, Any], name: str | None = None) -> None:
    """Write ``pipeline.json`` and the model card beside adapters that are written.

    Args:
        folder: The artefact's.
        pipeline: What ``pipeline.json`` is to hold; the digests of the other files are filled in.
        name: What the model card is to call the model.
    """
    adapter, size = read_json(folder, ADAPTER_CONFIG_FILE), file_size(folder, WEIGHTS_FILE)
    write_text_atomically(folder / CARD_FILE, model_card(pipeline, adapter, name, size))
    digests = {file: hashlib.sha256(read_file(folder, file)).hexdigest() for file in DIGESTED}
    write_json_atomically(folder / PIPELINE_FILE, {**pipeline, "sha256": digests})


def card_was_changed(folder: Path, pipeline: Mapping[str, Any]) -> bool:
    """Tell whether an artefact's model card is another than the one that was written with it.

    Args:
        folder: The artefact's.
        pipeline: What ``pipeline.json`` holds.
    """
    found = hashlib.sha256(read_file(folder, CARD_FILE)).hexdigest()
    return found != (pipeline.get("sha256") or {}).get(CARD_FILE)


def card_of(folder: str | Path, name: str | None = None) -> str:
    """Return the model card of an artefact, from what its folder holds.

    Args:
        folder: The artefact's.
        name: What to call the model, such as ``user/name``.

    Raises:
        ArtefactError: If the folder is no artefact.
    """
    place = Path(folder)
    content = read_artefact(place)
    return model_card(content.pipeline, content.adapter.to_dict(), name, file_size(place, WEIGHTS_FILE))


def check_may_be_written(folder: str | Path) -> None:
    """Refuse a place for an artefact before work is done for it.

    Args:
        folder: Where an artefact is to be written.

    Raises:
        ArtefactError: If it is a file, holds something else than an artefact, or lies below a file.
    """
    target = Path(folder)
    above = next((place for place in (target, *target.parents) if place.exists()), None)
    if above is not None and not above.is_dir():
        raise ArtefactError(f"'{above}' is a file, so '{target}' cannot be a folder. Name another output folder.")
    if target.exists() and not (target / PIPELINE_FILE).is_file() and any(target.iterdir()):
        raise ArtefactError(
            f"'{target}' exists and holds no {PIPELINE_FILE}, so it is no artefact and is not replaced. Name another "
            "folder, or empty it."
        )


def artefact_bytes(folder: str | Path) -> int:
    """Return the size of all files of an artefact, in bytes."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def describe_pipeline(artefact: Artefact) -> dict[str, Any]:
    """Return the content of ``pipeline.json`` but for the digests of files, as plain values.

    Args:
        artefact: What is to be saved or exported.
    """
    backbone, encoder = artefact.settings.backbone, encoder_of(artefact.model)
    is_local = backbone not in PACKAGED_BACKBONES and Path(backbone).is_dir()
    commit = artefact.backbone_revision or getattr(encoder.config, COMMIT, None)
    return {
        "format_version": FORMAT_VERSION,
        "model": {**asdict(artefact.settings), "backbone": str(Path(backbone).resolve()) if is_local else backbone},
        "backbone_digest": weights_digest(encoder),
        **({"backbone_revision": commit} if commit and not is_local and backbone not in PACKAGED_BACKBONES else {}),
        "problem_type": artefact.problem_type,
        "labels": artefact.labels,
        "threshold": artefact.threshold,
        "thresholds": None if artefact.thresholds is None else list(artefact.thresholds),
        "batch_size": artefact.batch_size,
        "max_tokens_per_batch": artefact.max_tokens_per_batch,
        "preprocessor": _without_upward_paths(artefact.preprocessor).to_dict(),
        "metrics": {split: dict(values) for split, values in artefact.metrics.items()},
        "license": artefact.license,
        "summary": artefact.model.base_model.adapter_summary().to_dict(),
        "record": None if artefact.record is None else dict(artefact.record),
        **({} if artefact.predictor is None else {"predictor": dict(artefact.predictor)}),
        "versions": {package: version(package) for package in RECORDED_PACKAGES},
    }


def _without_upward_paths(preprocessor: Preprocessor) -> Preprocessor:
    """Return the preprocessor with full paths where stores were named by paths that go up, which loading refuses."""
    upward = {
        source.name: os.path.abspath(source.store)
        for source in preprocessor.schema.modalities
        if isinstance(source, StoredFeatures) and ".." in Path(source.store).parts
    }
    return preprocessor.with_stores(upward) if upward else preprocessor
