"""A trained model with all that it takes to predict from rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ArtefactError
from mmadapters.evaluation.evaluator import predict
from mmadapters.evaluation.predictions import Predictions
from mmadapters.training.fit import ModelSettings, active_modalities


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
        record: What the model card tells of the training: rows, intervals, what is left without each modality; see
            ``mmadapters.artefact.record``.
        license: Of adapters and head, such as ``apache-2.0``; None where none was given.
        backbone_revision: Commit of a backbone from the Hub.
        predictor: What is kept of rows as people have them, as plain values: ``media``, how their files become
            features, and what was said of the columns.
    """

    model: PeftModel
    preprocessor: Preprocessor
    settings: ModelSettings
    threshold: float = 0.5
    batch_size: int = 64
    max_tokens_per_batch: int | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None
    record: Mapping[str, Any] | None = None
    license: str | None = None
    backbone_revision: str | None = None
    predictor: Mapping[str, Any] | None = None

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
        output_pooled: bool = False,
        progress: bool = False,
    ) -> Predictions:
        """Predict all rows of a data set that the preprocessor made, in their order.

        Args:
            dataset: The rows; labels are not looked at.
            batch_size: Examples a batch, where they are to be others than the artefact's.
            max_tokens_per_batch: Most tokens of a batch, where they are to be others than the artefact's.
            output_gates: Whether to collect the gates' means.
            output_pooled: Whether to collect what the head reads.
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
            output_pooled=output_pooled,
            progress=progress,
        )


def encoder_of(model: PeftModel) -> nn.Module:
    """Return the encoder inside a model."""
    return model.get_base_model().encoder


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
