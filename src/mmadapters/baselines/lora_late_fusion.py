"""LoRA in the encoder, and the modality vectors beside its pooled text: fusion at the head only.

Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models (https://arxiv.org/abs/2106.09685), by PEFT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import set_seed

from mmadapters.baselines.fine_tuning import fine_tuned_result
from mmadapters.baselines.modality_tokens import Standardiser, modality_vectors
from mmadapters.baselines.result import MethodResult, check_splits, saved_bytes
from mmadapters.baselines.sections import MODEL, TRAINING, ConfiguredMethod
from mmadapters.baselines.task_model import TaskModel, text_classifier
from mmadapters.classifier import TextClassifier
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError
from mmadapters.modality import Modality

LORA_TRAINING = {"learning_rate": 1e-3, "head_learning_rate_multiplier": 3.0, "ema_decay": None}
"""Training options of the method; a run's own are made for adapters."""


@dataclass(frozen=True)
class LoraOptions:
    """Options of ``lora_late_fusion``.

    Attributes:
        r: Rank.
        lora_alpha: The update is scaled by ``lora_alpha / r``.
        lora_dropout: Of what enters the update, in training.
        target_modules: Names of the linear layers; None for those that PEFT names for the encoder's type.
    """

    r: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.1
    target_modules: list[str] | None = None

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ConfigurationError(f"r={self.r} must be at least 1.")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigurationError(f"lora_dropout={self.lora_dropout} must be at least 0 and below 1.")


class LoraLateFusion(TaskModel):
    """``out(dropout([LayerNorm(pooled text); standardised vectors]))`` with LoRA in the encoder.

    A missing modality is a vector of zeros, the mean of the training rows.

    Args:
        text: Encoder and pooling; its head is not used.
        modalities: In the order of their vectors.
        standardisers: By modality name.
        options: Of LoRA.
        targets: (N,) values of the training rows, for a regression.

    Raises:
        ConfigurationError: If PEFT does not know which layers of the encoder to adapt, or does not find them.
    """

    def __init__(
        self,
        text: TextClassifier,
        modalities: list[Modality],
        standardisers: Mapping[str, Standardiser],
        options: LoraOptions,
        targets: np.ndarray | None = None,
    ) -> None:
        super().__init__(str(text.config.problem_type), targets)
        config = LoraConfig(
            r=options.r,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            target_modules=options.target_modules,
        )
        encoder: Any = text.encoder
        try:
            self.encoder = get_peft_model(encoder, config)
        except ValueError as error:
            raise ConfigurationError(
                f"LoRA cannot be put into {type(encoder).__name__}: {error} Name its linear layers: target_modules: "
                "[query, value]."
            ) from error
        self._pool = text._pool
        self.names = [modality.name for modality in modalities]
        self.standardisers = nn.ModuleDict({f"of_{name}": standardisers[name] for name in self.names})
        width = int(encoder.config.hidden_size)
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(text.config.head_dropout)
        total = width + sum(modality.feature_dim for modality in modalities)
        self.head = nn.Linear(total, text.config.num_labels)

    def new_parts(self) -> list[nn.Module]:
        """Return the head."""
        return [self.layer_norm, self.head]

    def encoder_parts(self) -> list[nn.Module]:
        """Return the encoder with LoRA."""
        return [self.encoder]

    def output_layer(self) -> nn.Linear:
        """Return the head."""
        return self.head

    def task_logits(
        self,
        *,
        modality_features: Mapping[str, Tensor] | None = None,
        modality_mask: Mapping[str, Tensor] | None = None,
        **tokens: Tensor,
    ) -> Tensor:
        """Return logits (B, C).

        Args:
            modality_features: By name (B, D) or (B, T, D).
            modality_mask: By name bool (B,) or (B, T).
            tokens: The tokenizer's outputs.
        """
        pooled = self._pool(self.encoder(**tokens), tokens.get("attention_mask"))
        parts = [self.layer_norm(pooled)]
        for name in self.names:
            vectors, present = modality_vectors((modality_features or {})[name], (modality_mask or {}).get(name))
            parts.append(self.standardisers[f"of_{name}"](vectors).masked_fill(~present[:, None], 0.0))
        return self.head(self.dropout(torch.cat(parts, dim=1)))


class LoraLateFusionMethod(ConfiguredMethod):
    """LoRA in the encoder with late fusion.

    Args:
        model: Backbone, pooling and the head's dropout; the head is linear.
        adapter: Not read.
        training: The run's training options; learning rates are the method's own.
        options: ``training``, ``model`` and the keys of ``LoraOptions``.
    """

    name = "lora_late_fusion"

    sections = (TRAINING, MODEL)
    own_options = LoraOptions
    defaults = LORA_TRAINING

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Train LoRA and head; see ``Method.run``."""
        check_splits(preprocessor, data)
        modalities = preprocessor.modalities
        standardisers = {modality.name: Standardiser.fit(data["train"], modality) for modality in modalities}
        set_seed(seed)
        text = text_classifier(self.settings.model, preprocessor)
        model = LoraLateFusion(text, modalities, standardisers, self.settings.own, data["train"].labels)
        arguments = self.settings.arguments(seed)
        return fine_tuned_result(model, preprocessor, data, arguments, folder, report, measure=_trained_bytes)


def _trained_bytes(model: TaskModel, folder: Path) -> int:
    """Return the size of what was trained, and of the statistics that features are standardised by."""
    kept = {name: value for name, value in model.named_parameters() if value.requires_grad}
    statistics = {name: value for name, value in model.named_buffers() if ".scale" in name or ".mean" in name}
    return saved_bytes({**kept, **statistics}, folder)
