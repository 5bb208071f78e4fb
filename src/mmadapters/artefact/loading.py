"""Reading an artefact: everything in its folder is looked at before anything is made of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftModel,
    PeftModelForSequenceClassification,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import Tensor

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.artefact.adapter_file import check_reads, read_adapter_config
from mmadapters.artefact.files import ADAPTER_CONFIG_FILE, PIPELINE_FILE, WEIGHTS_FILE, check_folder, read_file
from mmadapters.artefact.finding import FoundArtefact, find_artefact
from mmadapters.artefact.model import Artefact, weights_digest
from mmadapters.artefact.pipeline_file import read_pipeline
from mmadapters.artefact.places import is_absolute
from mmadapters.artefact.weights_file import TensorInfo, check_digest, check_tensors, read_header, read_tensors
from mmadapters.backbones import load_encoder_config, load_tokenizer
from mmadapters.classifier import TextClassifier, TextClassifierConfig
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ArtefactError, MMAdaptersError
from mmadapters.training.fit import HEAD_DROPOUT, ModelSettings


@dataclass(frozen=True)
class ArtefactContent:
    """What an artefact's folder says, looked at and not yet followed.

    Attributes:
        folder: The folder.
        pipeline: What ``pipeline.json`` holds.
        adapter: The adapters' configuration.
        tensors: What the weights are, by name; they have not been read.
    """

    folder: Path
    pipeline: Mapping[str, Any]
    adapter: MultimodalAdapterConfig
    tensors: Mapping[str, TensorInfo]

    @property
    def weights_digest(self) -> str | None:
        """SHA-256 that the weights' file has to have, if one was recorded."""
        return (self.pipeline.get("sha256") or {}).get(WEIGHTS_FILE)


def read_artefact(folder: str | Path, local_paths: bool = True, local_backbone: bool | None = None) -> ArtefactContent:
    """Look at all that an artefact's folder says, without loading a backbone, reading a weight or running anything.

    Args:
        folder: The artefact's.
        local_paths: Whether full paths of feature stores are accepted, as ``save_artefact`` writes them for folders of
            the machine.
        local_backbone: The same of the backbone; by default as ``local_paths``.

    Raises:
        ArtefactError: If something is absent, too large, malformed or not what an artefact may hold.
    """
    place = Path(folder)
    check_folder(place)
    pipeline = read_pipeline(place, local_paths, local_paths if local_backbone is None else local_backbone)
    config_file = read_file(place, ADAPTER_CONFIG_FILE)
    check_digest(place / ADAPTER_CONFIG_FILE, config_file, (pipeline.get("sha256") or {}).get(ADAPTER_CONFIG_FILE))
    adapter = read_adapter_config(place, config_file)
    check_reads(adapter, pipeline, place / ADAPTER_CONFIG_FILE)
    tensors = read_header(place)
    read = len(adapter.modalities) + sum(1 + len(member.config.modalities) for member in adapter.members)
    if read > len(tensors):
        raise ArtefactError(
            f"'{place / ADAPTER_CONFIG_FILE}' names {read} modalities and members, and '{place / WEIGHTS_FILE}' has "
            f"only {len(tensors)} tensors. The files are of two models; take all of them from one place."
        )
    content = ArtefactContent(place, pipeline, adapter, tensors)
    _preprocessor(content, None)
    return content


def load_artefact(
    folder: str | Path | FoundArtefact,
    backbone: str | None = None,
    device: str | torch.device = "cpu",
    *,
    local_paths: bool | None = None,
) -> Artefact:
    """Read an artefact, from a folder or from the Hub. Nothing in it is run, and no other file is read by its word.

    Args:
        folder: Where ``save_artefact`` wrote it; or, where there is no such folder, the name of a repository on the
            Hub, ``user/name`` or ``user/name@revision``, whose files are downloaded.
        backbone: Where the backbone is on this machine, if not under the name that was saved. Its weights must be the
            same.
        device: Where the model is to be.
        local_paths: Whether full paths of the backbone and of feature stores are followed, as they stand in an
            artefact that was trained with folders of this machine. By default in a folder, and never from the Hub;
            give False for a folder that somebody sent.

    Raises:
        ArtefactError: If files are absent, broken, too large or hold what they should not, the format is newer, or the
            backbone's weights are others than those that the adapters were trained in.
        ConfigurationError: If the backbone cannot be loaded.
        HubError: If it is no folder and cannot be had from the Hub.
    """
    found = folder if isinstance(folder, FoundArtefact) else find_artefact(folder)
    trusted = found.repository is None if local_paths is None else local_paths
    content = read_artefact(found.folder, trusted, trusted or backbone is not None)
    pipeline = content.pipeline
    named = pipeline["model"]["backbone"]
    settings = ModelSettings(**{**pipeline["model"], "backbone": backbone or named})
    if is_absolute(settings.backbone) and not Path(settings.backbone).is_dir():
        raise ArtefactError(
            f"The backbone of '{content.folder}' is the folder '{settings.backbone}', which does not exist. Pass "
            "backbone=… (--backbone) with where it is, or its name on the Hub."
        )
    revision = pipeline.get("backbone_revision") if settings.backbone == named else None
    check_tensors(content.folder, content.tensors, _expected_tensors(content, settings, revision))
    classifier = TextClassifier.from_backbone(
        settings.backbone,
        problem_type=pipeline["problem_type"],
        labels=pipeline["labels"],
        pooling=settings.pooling,
        head=settings.head,
        head_dropout=HEAD_DROPOUT if settings.head_dropout is None else settings.head_dropout,
        revision=revision,
        safetensors_only=not trusted and backbone is None,
    )
    _check_backbone(content, settings.backbone, weights_digest(classifier.encoder))
    model = _adapted(classifier, content.adapter)
    set_peft_model_state_dict(model, read_tensors(content.folder, content.weights_digest))
    return Artefact(
        model.eval().to(device),
        _preprocessor(content, load_tokenizer(settings.backbone, revision)),
        settings,
        threshold=pipeline["threshold"],
        batch_size=pipeline["batch_size"],
        max_tokens_per_batch=pipeline.get("max_tokens_per_batch"),
        metrics=pipeline.get("metrics", {}),
        thresholds=tuple(pipeline["thresholds"]) if pipeline.get("thresholds") else None,
        record=pipeline.get("record"),
        license=pipeline.get("license"),
        backbone_revision=revision,
        predictor=pipeline.get("predictor"),
    )


def _adapted(classifier: TextClassifier, adapter: MultimodalAdapterConfig) -> PeftModel:
    """Return a classifier with adapters in it that are newly drawn and do not learn."""
    config = copy.deepcopy(adapter)
    config.inference_mode = True
    kind = PeftModel if config.task_type is None else PeftModelForSequenceClassification
    return kind(classifier, config)


def _expected_tensors(content: ArtefactContent, settings: ModelSettings, revision: str | None) -> dict[str, Tensor]:
    """Return the tensors that the configuration asks for, by name, from a model that takes no memory."""
    names = content.pipeline["labels"]
    encoder = load_encoder_config(settings.backbone, revision)
    try:
        config = TextClassifierConfig(
            encoder=encoder,
            pooling=settings.pooling,
            head=settings.head,
            problem_type=content.pipeline["problem_type"],
            num_labels=len(names),
        )
        with torch.device("meta"):
            model = _adapted(TextClassifier(config), content.adapter)
            return get_peft_model_state_dict(model, save_embedding_layers=False)
    except (MMAdaptersError, ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        raise ArtefactError(
            f"The adapters in '{content.folder}' cannot be put into the backbone '{settings.backbone}': {error}"
        ) from error


def _check_backbone(content: ArtefactContent, backbone: str, digest: str) -> None:
    trained = content.pipeline["backbone_digest"]
    if digest != trained:
        raise ArtefactError(
            f"The backbone '{backbone}' has other weights (digest {digest[:12]}…) than the one that the adapters in "
            f"'{content.folder}' were trained in ({trained[:12]}…). Pass backbone=… (--backbone) with the folder or "
            "name of that one."
        )


def _preprocessor(content: ArtefactContent, tokenizer: Any) -> Preprocessor:
    try:
        return Preprocessor.from_dict(content.pipeline["preprocessor"], tokenizer)
    except (MMAdaptersError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError(
            f"'{content.folder / PIPELINE_FILE}' cannot be used: its preprocessor cannot be made. {error}"
        ) from error
