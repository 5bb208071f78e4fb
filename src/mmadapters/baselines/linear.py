"""What anyone would try first: logistic regression on frozen features, and the frequencies of the labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mmadapters.baselines.frozen_features import frozen_inputs
from mmadapters.baselines.frozen_linear import DEFAULT_CS, SELECTION_METRIC, FrozenLinearBaseline
from mmadapters.baselines.result import (
    MethodResult,
    as_rows,
    check_splits,
    label_names,
    predicted_splits,
    saved_bytes,
    scratch_folder,
)
from mmadapters.baselines.sections import ConfiguredMethod
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, SINGLE_LABEL

SMOOTHING = 0.5
"""Examples that each outcome is counted to have more, so that no probability is 0 or 1."""


@dataclass(frozen=True)
class LogisticRegressionOptions:
    """Options of ``logistic_regression``.

    Attributes:
        cs: The inverse regularisations to choose from on the validation rows.
        text: Whether the text is read beside the modalities.
    """

    cs: list[float] = field(default_factory=lambda: list(DEFAULT_CS))
    text: bool = True

    def __post_init__(self) -> None:
        FrozenLinearBaseline(MULTI_LABEL, self.cs)


class LogisticRegressionMethod(ConfiguredMethod):
    """Logistic regression, or ridge regression, on frozen features: the text's mean states and the modality vectors.

    A modality that a row lacks is the mean of the training rows; where training rows lack one, a column says so.

    Args:
        model: Its backbone is the frozen encoder; nothing else of it is read.
        adapter: Not read.
        training: Batch size and device of the encoder.
        options: ``training`` and the keys of ``LogisticRegressionOptions``.
    """

    name = "logistic_regression"

    own_options = LogisticRegressionOptions

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Fit for each C; see ``Method.run``. Nothing of it is random."""
        problem_type = check_splits(preprocessor, data)
        own: LogisticRegressionOptions = self.settings.own
        arguments = self.settings.arguments(seed)
        started = time.perf_counter()
        inputs = frozen_inputs(
            self.settings.model.backbone,
            preprocessor,
            data,
            text=own.text,
            batch_size=arguments.per_device_eval_batch_size,
            device=arguments.device,
        )
        joined = {split: part.joined(inputs.sometimes_missing) for split, part in inputs.splits.items()}
        classes = len(label_names(preprocessor)) if problem_type == SINGLE_LABEL else None
        baseline = FrozenLinearBaseline(problem_type, own.cs)
        baseline.fit(
            joined["train"],
            np.asarray(data["train"].labels),
            joined["validation"],
            np.asarray(data["validation"].labels),
            n_classes=classes,
        )
        seconds = time.perf_counter() - started
        if report is not None:
            best = baseline.validation_scores[baseline.chosen_c]
            named = SELECTION_METRIC[problem_type].replace("_", " ")
            report(f"  C {baseline.chosen_c:g}, validation {named} {best:.4f}")
        with scratch_folder(folder, "saved") as scratch:
            saved = baseline.save(scratch / "baseline.safetensors")
        return MethodResult(
            logits={split: as_rows(baseline.logits(joined[split]), problem_type) for split in predicted_splits(data)},
            trainable_parameters=baseline.n_parameters,
            parameters=inputs.encoder_parameters + baseline.n_parameters,
            file_bytes=saved,
            seconds=seconds,
            log=[],
            settings={
                "c": baseline.chosen_c,
                "metric": SELECTION_METRIC[problem_type],
                "value": baseline.validation_scores[baseline.chosen_c],
            },
        )


class MajorityMethod(ConfiguredMethod):
    """What is known without looking at a row: the labels' frequencies in training, or the mean of a regression.

    Args:
        model: Not read.
        adapter: Not read.
        training: Not read.
        options: It has none.
    """

    name = "majority"

    sections = ()

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Count; see ``Method.run``. Nothing of it is random, and nothing is chosen."""
        problem_type = check_splits(preprocessor, data)
        started = time.perf_counter()
        targets = np.asarray(data["train"].labels)
        constant = majority_logits(targets, problem_type, len(label_names(preprocessor)))
        seconds = time.perf_counter() - started
        logits = {split: np.tile(constant, (len(data[split]), 1)) for split in predicted_splits(data)}
        return MethodResult(
            logits={split: as_rows(values, problem_type) for split, values in logits.items()},
            trainable_parameters=constant.size,
            parameters=constant.size,
            file_bytes=saved_bytes({"logits": torch.from_numpy(constant)}, folder),
            seconds=seconds,
            log=[],
            settings={},
        )


def majority_logits(targets: np.ndarray, problem_type: str, n_classes: int) -> np.ndarray:
    """Return the logits whose scores are the frequencies of the training rows, float32 (C,); (1,) for a regression.

    Args:
        targets: Encoded labels of the training rows; class -100 is left out.
        problem_type: Of the task.
        n_classes: Number C of labels.
    """
    if problem_type == MULTI_LABEL:
        positives, n = targets.sum(axis=0, dtype=np.float64), len(targets)
        logits = np.log((positives + SMOOTHING) / (n - positives + SMOOTHING))
    elif problem_type == SINGLE_LABEL:
        known = targets[targets != IGNORED_LABEL]
        counts = np.bincount(known, minlength=n_classes) + SMOOTHING
        logits = np.log(counts / counts.sum())
    else:
        logits = np.array([targets.mean(dtype=np.float64)])
    return logits.astype(np.float32)
