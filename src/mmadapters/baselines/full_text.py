"""Full fine-tuning of the encoder on the text alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import set_seed

from mmadapters.baselines.fine_tuning import (
    FULL_FINE_TUNING,
    FULL_FINE_TUNING_LENGTH,
    EncoderFrozenFirst,
    fine_tuned_result,
)
from mmadapters.baselines.result import MethodResult, check_splits, saved_bytes
from mmadapters.baselines.sections import MODEL, TRAINING, ConfiguredMethod
from mmadapters.baselines.task_model import FineTunedText, TaskModel, text_classifier
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError


@dataclass(frozen=True)
class FullTextOptions:
    """Options of ``full_text_only``.

    Attributes:
        freeze_encoder_epochs: First epochs in which only the head learns.
    """

    freeze_encoder_epochs: int = 0

    def __post_init__(self) -> None:
        check_frozen_epochs(self.freeze_encoder_epochs)


class FullTextOnly(ConfiguredMethod):
    """Full fine-tuning of encoder and head on the text.

    Args:
        model: Backbone, pooling and head.
        adapter: Not read.
        training: The run's training options; learning rates and warm-up are the method's own.
        options: ``training``, ``model`` and the keys of ``FullTextOptions``.
    """

    name = "full_text_only"

    sections = (TRAINING, MODEL)
    own_options = FullTextOptions
    defaults = FULL_FINE_TUNING
    weak_defaults = FULL_FINE_TUNING_LENGTH

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Train on the text alone; see ``Method.run``."""
        check_splits(preprocessor, data)
        set_seed(seed)
        model = FineTunedText(text_classifier(self.settings.model, preprocessor), data["train"].labels)
        return fine_tuned_result(
            model,
            preprocessor.restricted_to([]),
            {split: rows.restricted_to([]) for split, rows in data.items()},
            self.settings.arguments(seed),
            folder,
            report,
            [EncoderFrozenFirst(self.settings.own.freeze_encoder_epochs, model.encoder_parts())],
            measure=whole_model_bytes,
        )


def whole_model_bytes(model: TaskModel, folder: Path) -> int:
    """Return the size of all weights: where all of them learn, all of them are kept for each task."""
    return saved_bytes(model.state_dict(), folder)


def check_frozen_epochs(epochs: int) -> None:
    """Refuse a negative number of epochs."""
    if epochs < 0:
        raise ConfigurationError(f"freeze_encoder_epochs={epochs} must be a whole number of at least 0.")
