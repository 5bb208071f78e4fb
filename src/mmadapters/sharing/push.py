"""Publishing an artefact on the Hub: what leaves the machine is looked at first, and nothing else does."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml
from huggingface_hub import ModelCard

from mmadapters.artefact.card import base_model
from mmadapters.artefact.files import ADAPTER_CONFIG_FILE, CARD_FILE, FILES, WEIGHTS_FILE, read_file
from mmadapters.artefact.loading import ArtefactContent, read_artefact
from mmadapters.artefact.pipeline_file import LICENSE
from mmadapters.artefact.places import is_absolute
from mmadapters.artefact.saving import card_was_changed, write_pipeline
from mmadapters.artefact.values import UnfitValue
from mmadapters.artefact.weights_file import read_tensors
from mmadapters.errors import ArtefactError
from mmadapters.files import write_bytes_atomically, write_json_atomically, write_text_atomically
from mmadapters.hub.upload import Uploaded, checked_repository, upload_files

SHARED_FILES = (*FILES, CARD_FILE)
"""What is uploaded."""


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    license: str | None = None,
    revision: str | None = None,
    message: str | None = None,
    backbone: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Uploaded:
    """Upload an artefact to the Hub: weights as safetensors, JSON and the model card, nothing else.

    The folder stays as it is. What is uploaded has no paths of this machine: of feature stores the folder's name is
    left, and the backbone has to have a name that others can use. A model card that its author changed is uploaded as
    it is, with the licence; else it is written again, under the repository's name.

    Args:
        folder: Where ``save_artefact`` wrote it.
        repo_id: ``user/name``; made where it does not exist.
        private: Whether nobody else may see it.
        license: Of adapters and head, such as ``apache-2.0``; None for what the artefact says.
        revision: Branch to upload to, made where it does not exist; None for the main branch.
        message: Of the commit.
        backbone: Name on the Hub of the backbone, where it was trained in a local folder.
        token: Of a user who may write; None for the one of ``hf auth login`` or ``HF_TOKEN``.
        endpoint: Another Hub's address; None for ``HF_ENDPOINT`` or https://huggingface.co.

    Returns:
        Where it is.

    Raises:
        ArtefactError: If the folder is no artefact that can be shared.
        HubError: If the Hub refuses or is not reached.
    """
    repository = checked_repository(repo_id, revision)
    with tempfile.TemporaryDirectory(prefix="mmadapters-push-") as temporary:
        stage(folder, temporary, repo_id, license=license, backbone=backbone)
        return upload_files(
            Path(temporary),
            repository,
            SHARED_FILES,
            message=message or "Upload multimodal adapters",
            private=private,
            token=token,
            endpoint=endpoint,
        )


def stage(
    folder: str | Path, target: str | Path, repo_id: str, *, license: str | None = None, backbone: str | None = None
) -> dict[str, int]:
    """Write what would be uploaded to another folder.

    Args:
        folder: The artefact's.
        target: An empty folder.
        repo_id: ``user/name``, which the model card names.
        license: Of adapters and head; None for what the artefact says.
        backbone: Name on the Hub of the backbone, where it was trained in a local folder.

    Returns:
        The size of each file in bytes.

    Raises:
        ArtefactError: If the folder is no artefact that can be shared.
    """
    content = read_artefact(folder)
    read_tensors(content.folder, content.weights_digest)
    pipeline = _without_this_machine(content, backbone)
    if license is not None:
        _check_license(license)
        pipeline["license"] = license
    place = Path(target)
    write_bytes_atomically(place / WEIGHTS_FILE, read_file(content.folder, WEIGHTS_FILE))
    write_json_atomically(place / ADAPTER_CONFIG_FILE, _adapter_config(content, pipeline))
    write_pipeline(place, pipeline, repo_id)
    _keep_changed_card(content, place, pipeline.get("license"))
    # As everybody else will look at it.
    read_artefact(place, local_paths=False)
    return {name: (place / name).stat().st_size for name in SHARED_FILES}


def _check_license(license: str) -> None:
    try:
        LICENSE(license, "license")
    except UnfitValue as error:
        raise ArtefactError(f"{error} The Hub's names are in its documentation under 'Licenses'.") from error


def _without_this_machine(content: ArtefactContent, backbone: str | None) -> dict[str, Any]:
    """Return what ``pipeline.json`` holds without paths of this machine."""
    pipeline = json.loads(json.dumps(content.pipeline))
    if backbone is not None:
        pipeline["model"]["backbone"] = backbone
        pipeline.pop("backbone_revision", None)
    named = pipeline["model"]["backbone"]
    if base_model(named) is None:
        raise ArtefactError(
            f"The backbone of '{content.folder}' is '{named}', a place on this machine and no name that others can "
            "use. Say under which name the Hub has the same weights: --backbone user/name (backbone=…). Who loads the "
            "adapters gets an error where the weights are others."
        )
    for source in pipeline["preprocessor"]["schema"].get("modalities") or []:
        if source["kind"] == "store" and is_absolute(source["store"]):
            source["store"] = PurePath(source["store"]).name or "features"
    parameters = (pipeline.get("predictor") or {}).get("parameters") or {}
    for name, value in list(parameters.items()):
        if name == "backbone":
            parameters[name] = named
        elif isinstance(value, str) and is_absolute(value):
            del parameters[name]
    return pipeline


def _adapter_config(content: ArtefactContent, pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``adapter_config.json`` holds, with the backbone's name for PEFT in place of a path."""
    name = base_model(pipeline["model"]["backbone"])
    held = json.loads(read_file(content.folder, ADAPTER_CONFIG_FILE))
    members = [
        {**member, "config": {**member["config"], "base_model_name_or_path": None}}
        for member in held.get("members") or []
    ]
    return {**held, "base_model_name_or_path": name, **({"members": members} if members else {})}


def _keep_changed_card(content: ArtefactContent, target: Path, license: str | None) -> None:
    """Keep a model card that its author wrote or changed, with the licence in its metadata."""
    if not (content.folder / CARD_FILE).exists() or not card_was_changed(content.folder, content.pipeline):
        return
    try:
        card = ModelCard(read_file(content.folder, CARD_FILE).decode("utf-8"), ignore_metadata_errors=True)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ArtefactError(
            f"'{content.folder / CARD_FILE}' cannot be uploaded as a model card: {reason} Mend it, or remove it: it is "
            "then written again."
        ) from error
    if license is not None:
        card.data["license"] = license
    write_text_atomically(target / CARD_FILE, str(card))
