"""The saved form of a trained model: a folder of a few MB that predicts the same in another process.

==============================  ==================================================================================
``adapter_config.json``         the adapters' configuration, PEFT's
``adapter_model.safetensors``   adapters and head, PEFT's
``pipeline.json``               the backbone and a digest of its weights, labels, preprocessing, versions
``README.md``                   the model card
==============================  ==================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from mmadapters.backbones import PACKAGED_BACKBONES, load_tokenizer
from mmadapters.classifier import TextClassifier
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ArtefactError
from mmadapters.evaluation.evaluator import predict
from mmadapters.evaluation.predictions import Predictions
from mmadapters.files import replace_folder, write_json_atomically, write_text_atomically
from mmadapters.training.fit import ModelSettings, active_modalities

FORMAT_VERSION = 1
PIPELINE_FILE = "pipeline.json"
FILES = ("adapter_config.json", "adapter_model.safetensors", PIPELINE_FILE)
RECORDED_PACKAGES = ("mmadapters", "torch", "transformers", "peft", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Artefact:
    """A trained model with all that it takes to predict from rows.

    Attributes:
        model: The PEFT model, in evaluation mode.
        preprocessor: Turns rows into a data set, and holds labels and tokenizer. Whatever it is given with, it keeps
            only the modalities that the model's active adapter reads, so that no other column is asked for.
        settings: Backbone, pooling and head.
        threshold: Probability from which on a label is predicted (multi-label) where there are no ``thresholds``.
        batch_size: Examples a batch in prediction; the same batches give the same numbers, bit for bit.
        max_tokens_per_batch: Most tokens of a batch in prediction instead, padding included.
        metrics: What was measured when it was trained, by split.
        thresholds: For each label the probability from which on it is predicted, as tuned on the validation split.
    """

    model: PeftModel
    preprocessor: Preprocessor
    settings: ModelSettings
    threshold: float = 0.5
    batch_size: int = 64
    max_tokens_per_batch: int | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.thresholds is not None and len(self.thresholds) != len(self.labels):
            raise ArtefactError(
                f"{len(self.thresholds)} thresholds were given for {len(self.labels)} labels. Give one per label, or "
                "None."
            )
        read = active_modalities(self.model, self.preprocessor)
        restricted = self.preprocessor.restricted_to(modality.name for modality in read)
        object.__setattr__(self, "preprocessor", restricted)

    @property
    def problem_type(self) -> str:
        """One of ``mmadapters.classifier.PROBLEM_TYPES``: the active adapter's own, or the model's."""
        return str(self.model.active_peft_config.problem_type or self.model.config.problem_type)

    @property
    def labels(self) -> list[str]:
        """The label names in the order of the logits: the active adapter's own, or the model's."""
        own = self.model.active_peft_config.labels
        if own is not None:
            return list(own)
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    @property
    def decision_thresholds(self) -> tuple[float, ...]:
        """For each label the probability from which on it is predicted (multi-label)."""
        return self.thresholds or (self.threshold,) * len(self.labels)

    @property
    def collator(self) -> MultimodalCollator:
        """Makes batches for the model of the preprocessor's rows."""
        return MultimodalCollator(self.preprocessor.tokenizer, self.preprocessor.modalities)

    def predict_dataset(
        self,
        dataset: MultimodalDataset,
        *,
        batch_size: int | None = None,
        max_tokens_per_batch: int | None = None,
        output_gates: bool = False,
        progress: bool = False,
    ) -> Predictions:
        """Predict all rows of a data set that the preprocessor made, in their order.

        Args:
            dataset: The rows; labels are not looked at.
            batch_size: Examples a batch, where they are to be others than the artefact's.
            max_tokens_per_batch: Most tokens of a batch, where they are to be others than the artefact's.
            output_gates: Whether to collect the gates' means.
            progress: Whether to show a progress bar.
        """
        return predict(
            self.model,
            dataset,
            self.collator,
            self.problem_type,
            batch_size=batch_size or self.batch_size,
            max_tokens_per_batch=max_tokens_per_batch or (None if batch_size else self.max_tokens_per_batch),
            output_gates=output_gates,
            progress=progress,
        )


def save_artefact(artefact: Artefact, folder: str | Path) -> Path:
    """Write an artefact; the folder holds all of it or, after an interruption, what it held before.

    Args:
        artefact: What to save. Of several adapters in its model the active one is saved; an AdapterFusion with its
            members.
        folder: Where to; an artefact that is there is replaced.

    Returns:
        The folder.

    Raises:
        ArtefactError: If the folder is a file, or exists and holds something else than an artefact.
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
        write_json_atomically(temporary / PIPELINE_FILE, pipeline)
        write_text_atomically(temporary / "README.md", model_card(artefact))
    return target


def describe_pipeline(artefact: Artefact) -> dict[str, Any]:
    """Return the content of ``pipeline.json``, as plain values.

    Args:
        artefact: What is to be saved or exported.
    """
    backbone = artefact.settings.backbone
    if backbone not in PACKAGED_BACKBONES and Path(backbone).is_dir():
        backbone = str(Path(backbone).resolve())
    return {
        "format_version": FORMAT_VERSION,
        "model": {**asdict(artefact.settings), "backbone": backbone},
        "backbone_digest": weights_digest(_encoder(artefact.model)),
        "problem_type": artefact.problem_type,
        "labels": artefact.labels,
        "threshold": artefact.threshold,
        "thresholds": None if artefact.thresholds is None else list(artefact.thresholds),
        "batch_size": artefact.batch_size,
        "max_tokens_per_batch": artefact.max_tokens_per_batch,
        "preprocessor": artefact.preprocessor.to_dict(),
        "metrics": {split: dict(values) for split, values in artefact.metrics.items()},
        "versions": {package: version(package) for package in RECORDED_PACKAGES},
    }


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


def load_artefact(folder: str | Path, backbone: str | None = None, device: str | torch.device = "cpu") -> Artefact:
    """Read an artefact.

    Args:
        folder: Where ``save_artefact`` wrote it.
        backbone: Where the backbone is on this machine, if not under the name that was saved. Its weights must be the
            same.
        device: Where the model is to be.

    Raises:
        ArtefactError: If files are absent or broken, the format is newer, or the backbone's weights are others than
            those that the adapters were trained in.
    """
    source = Path(folder)
    pipeline = _read_pipeline(source)
    settings = ModelSettings(**{**pipeline["model"], **({"backbone": backbone} if backbone else {})})
    classifier = TextClassifier.from_backbone(
        settings.backbone,
        problem_type=pipeline["problem_type"],
        labels=pipeline["labels"],
        pooling=settings.pooling,
        head=settings.head,
        head_dropout=settings.head_dropout,
    )
    digest = weights_digest(classifier.encoder)
    if digest != pipeline["backbone_digest"]:
        raise ArtefactError(
            f"The backbone '{settings.backbone}' has other weights (digest {digest[:12]}…) than the one that the "
            f"adapters in '{source}' were trained in ({pipeline['backbone_digest'][:12]}…). Pass backbone=… with the "
            "folder or name of that one."
        )
    model = PeftModel.from_pretrained(classifier, str(source)).eval().to(device)
    preprocessor = Preprocessor.from_dict(pipeline["preprocessor"], load_tokenizer(settings.backbone))
    return Artefact(
        model,
        preprocessor,
        settings,
        threshold=pipeline["threshold"],
        batch_size=pipeline["batch_size"],
        max_tokens_per_batch=pipeline.get("max_tokens_per_batch"),
        metrics=pipeline.get("metrics", {}),
        thresholds=tuple(pipeline["thresholds"]) if pipeline.get("thresholds") else None,
    )


def artefact_bytes(folder: str | Path) -> int:
    """Return the size of all files of an artefact, in bytes."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def weights_digest(encoder: nn.Module) -> str:
    """Return a SHA-256 of an encoder's weights, names and shapes, whatever adapters are in it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        if ".mmadapter_" in name:
            continue
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name.replace('.base_layer.', '.')} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.view(torch.uint8).numpy().tobytes() if values.dim() else str(values.item()).encode())
    return digest.hexdigest()


def model_card(artefact: Artefact) -> str:
    """Return a model card, written from what the artefact holds."""
    config = artefact.model.active_peft_config
    modalities = "\n".join(f"- `{m.name}`: {m.kind}, {m.feature_dim} wide" for m in config.modalities) or "- none"
    members = f"; fuses {', '.join(f'`{member.name}`' for member in config.members)}" if config.members else ""
    summary = artefact.model.base_model.adapter_summary()
    shown = [
        f"| {split} | {name} | {value:.4f} |"
        for split, values in artefact.metrics.items()
        for name, value in values.items()
    ]
    measured = "\n".join(["| split | metric | value |", "| --- | --- | --- |", *shown]) if shown else "None recorded."
    thresholds = ""
    if artefact.thresholds is not None:
        lowest, highest = min(artefact.thresholds), max(artefact.thresholds)
        thresholds = f"\n- A label is predicted from a probability of its own on ({lowest:.2f} to {highest:.2f})"
    labels = ", ".join(artefact.labels[:50]) + (" …" if len(artefact.labels) > 50 else "")
    return f"""---
library_name: peft
tags:
- mmadapters
- multimodal
- adapter
---

# Multimodal adapters for `{artefact.settings.backbone}`

Trained with mmadapters: gated multimodal adapters and a head inside a frozen text encoder.

- Problem: {artefact.problem_type.replace("_", " ")}
- Labels ({len(artefact.labels)}): {labels}
- Fusion: `{config.fusion}`{members}, bottleneck {config.bottleneck_size}
- Parameters: {summary.adapters:,} in the adapters, {summary.share:.2%} of the encoder's
- Pooling and head: `{artefact.settings.pooling}`, `{artefact.settings.head}`{thresholds}

## Modalities beside the text

{modalities}

## Measured

{measured}

## Use

```python
from mmadapters import load_artefact

artefact = load_artefact("<this folder>")
```

or `mmadapters predict <this folder> rows.csv -o predictions.csv`.
"""


def _encoder(model: PeftModel) -> nn.Module:
    return model.get_base_model().encoder


def _read_pipeline(source: Path) -> dict[str, Any]:
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing and any(source.glob("model*.onnx")):
        raise ArtefactError(
            f"'{source}' is an exported model, which is for prediction alone: `mmadapters predict` and `evaluate` "
            "and mmadapters.export.load_exported take it. Name the artefact that it was made from."
        )
    if missing:
        raise ArtefactError(
            f"'{source}' is no artefact: it has no {', '.join(missing)}. Name a folder that `mmadapters train` or "
            "save_artefact wrote."
        )
    try:
        pipeline = json.loads((source / PIPELINE_FILE).read_text(encoding="utf-8"))
        format_version = int(pipeline["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"'{source / PIPELINE_FILE}' cannot be read: {error!r}. The artefact is damaged."
        ) from error
    if format_version > FORMAT_VERSION:
        raise ArtefactError(
            f"'{source}' has format {format_version}, this version of mmadapters reads up to {FORMAT_VERSION}. "
            "Install a newer mmadapters."
        )
    return pipeline
