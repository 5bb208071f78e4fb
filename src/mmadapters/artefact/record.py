"""What is recorded of a training for its model card: rows, labels, intervals, what is left without each modality.

The record is plain values in ``pipeline.json``, so that the card can be written again from the folder alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from mmadapters.artefact.values import fields, list_of, mapping_of, nullable, number, text, truth, whole
from mmadapters.data.streaming import StreamedDataset
from mmadapters.evaluation.ablation import leave_one_out_variants, variant_metrics, varied
from mmadapters.evaluation.bootstrap import metric_intervals, scored_rows
from mmadapters.evaluation.evaluator import Predictions, predict
from mmadapters.evaluation.metrics import IGNORED_LABEL, MULTI_LABEL, REGRESSION

if TYPE_CHECKING:
    from mmadapters.artefact.model import Artefact
    from mmadapters.data.dataset import MultimodalDataset
    from mmadapters.training.arguments import MultimodalTrainingArguments
    from mmadapters.training.fit import FitResult

_COUNT = whole(0, 10**15)
_METRICS = mapping_of(number(), 1000)
_SPLIT = fields(
    {"rows": _COUNT},
    {
        "source": nullable(text()),
        "label_counts": nullable(mapping_of(_COUNT, 1_000_000, key=text(empty=True))),
        "targets": nullable(mapping_of(number(), 10)),
        "present": mapping_of(_COUNT, 1000),
        "chosen_on": truth,
        "scored_rows": _COUNT,
        "intervals": mapping_of(
            fields({"value": number(), "low": number(), "high": number(), "resamples": _COUNT}), 100
        ),
    },
    others=True,
)
_SETTING = list_of(text(empty=True), 2, at_least=2)
RECORD = fields(
    {"splits": mapping_of(_SPLIT, 100)},
    {
        "without": nullable(fields({"split": text(), "rows": _COUNT, "metrics": mapping_of(_METRICS, 1000)})),
        "training": list_of(_SETTING, 1000),
        "synthetic": truth,
    },
    others=True,
)
"""The table of a record. Where validation rows have ``chosen_on``, epoch and thresholds were chosen on them."""


def training_record(
    artefact: Artefact,
    data: Mapping[str, MultimodalDataset | StreamedDataset],
    predictions: Mapping[str, Predictions],
    *,
    sources: Mapping[str, str] | None = None,
    training: Mapping[str, Any] | None = None,
    synthetic: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Look at what a model card tells of a training.

    The model is run once more for each modality, on the test rows, or the validation rows where there are none.

    Args:
        artefact: The trained model.
        data: Its rows by split, as they were trained and scored on.
        predictions: By split, of the rows that were scored.
        sources: By split, the file of its rows; of a path the last part is kept.
        training: Settings by name, such as ``training_settings`` gives them.
        synthetic: Whether a program made the rows up.
        progress: Whether to show progress bars.

    Returns:
        Plain values for ``Artefact.record``.
    """
    splits = {}
    for split, rows in data.items():
        source = (sources or {}).get(split)
        splits[split] = {
            "rows": len(rows),
            **({} if source is None else {"source": PurePath(source).name}),
            **_labels(artefact, rows),
            **_present(artefact, rows),
            **_scored(artefact, rows, predictions.get(split)),
            **({"chosen_on": True} if split == "validation" else {}),
        }
    looked_at = next((split for split in ("test", "validation") if split in predictions), None)
    return {
        "splits": splits,
        "without": None if looked_at is None else _without(artefact, looked_at, data[looked_at], progress),
        "training": [[name, _shown(value)] for name, value in (training or {}).items()],
        "synthetic": synthetic,
    }


def training_settings(arguments: MultimodalTrainingArguments, fitted: FitResult) -> dict[str, Any]:
    """Return what a model card tells of how a model was trained, by name.

    Args:
        arguments: Of the training.
        fitted: What came of it.
    """
    steps = {"most steps": arguments.max_steps} if arguments.max_steps > 0 else {}
    last = max((entry["epoch"] for entry in fitted.log if isinstance(entry.get("epoch"), (int, float))), default=None)
    chosen = {} if fitted.best_metric is None else {_chosen_by(arguments, fitted): fitted.best_metric}
    batch = (
        {"tokens a batch": arguments.max_tokens_per_batch}
        if arguments.max_tokens_per_batch
        else {"examples a batch": arguments.per_device_train_batch_size * arguments.world_size}
    )
    return {
        "seed": arguments.seed,
        "most epochs": arguments.num_train_epochs,
        **steps,
        **({} if last is None else {"epochs trained": last}),
        **chosen,
        **batch,
        "gradient accumulation": arguments.gradient_accumulation_steps,
        "learning rate of the adapters": arguments.learning_rate,
        "learning rate of the head": arguments.learning_rate * arguments.head_learning_rate_multiplier,
        "schedule": getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type),
        "weight decay": arguments.weight_decay,
        "class weights": arguments.class_weights,
        "label smoothing": arguments.label_smoothing_factor,
        "moving average of the weights": arguments.ema_decay,
        "seconds": round(fitted.seconds, 1),
        "device": str(arguments.device),
    }


def _chosen_by(arguments: MultimodalTrainingArguments, fitted: FitResult) -> str:
    """Name the validation metric of the best epoch, which the log knows by its value."""
    named = arguments.named_metric
    names = [] if named is None else [f"eval_{named.removeprefix('eval_')}"]
    names += [name for entry in fitted.log for name, value in entry.items() if value == fitted.best_metric]
    found = next((name for name in names if name.startswith("eval_")), "eval_metric")
    return f"best validation {found.removeprefix('eval_').replace('_', ' ')}"


def _labels(artefact: Artefact, rows: MultimodalDataset | StreamedDataset) -> dict[str, Any]:
    """Return how many rows have each label, or what a regression's targets are like."""
    if isinstance(rows, StreamedDataset):
        if rows.label_mean is not None:
            return {"targets": {"mean": float(rows.label_mean)}}
        return {} if rows.label_frequencies is None else _counts(artefact.labels, rows.label_frequencies)
    if rows.labels is None:
        return {}
    labels = np.asarray(rows.labels)
    if artefact.problem_type == REGRESSION:
        described = {"mean": labels.mean(), "deviation": labels.std(), "least": labels.min(), "most": labels.max()}
        return {"targets": {name: float(value) for name, value in described.items()}}
    if artefact.problem_type == MULTI_LABEL:
        return _counts(artefact.labels, labels.sum(axis=0))
    return _counts(artefact.labels, np.bincount(labels[labels != IGNORED_LABEL], minlength=len(artefact.labels)))


def _counts(labels: list[str], frequencies: np.ndarray) -> dict[str, Any]:
    return {"label_counts": {label: int(count) for label, count in zip(labels, frequencies, strict=True)}}


def _present(artefact: Artefact, rows: MultimodalDataset | StreamedDataset) -> dict[str, Any]:
    """Return how many rows have each modality that can be missing."""
    if isinstance(rows, StreamedDataset):
        return {}
    read = [modality.name for modality in artefact.preprocessor.modalities if modality.kind != "tabular"]
    return {"present": {name: int(np.sum(rows.present(name))) for name in read}} if read else {}


def _scored(
    artefact: Artefact, rows: MultimodalDataset | StreamedDataset, predictions: Predictions | None
) -> dict[str, Any]:
    if predictions is None or isinstance(rows, StreamedDataset) or rows.labels is None:
        return {}
    targets = np.asarray(rows.labels)
    scored = int(scored_rows(artefact.problem_type, targets).sum())
    if not scored:
        return {}
    intervals = metric_intervals(artefact.problem_type, predictions.scores, targets)
    return {
        "scored_rows": scored,
        "intervals": {
            name: {"value": found.value, "low": found.low, "high": found.high, "resamples": found.resamples}
            for name, found in intervals.items()
        },
    }


def _without(artefact: Artefact, split: str, rows: Any, progress: bool) -> dict[str, Any] | None:
    names = [modality.name for modality in artefact.preprocessor.modalities]
    if not names or rows.labels is None:
        return None
    variants = leave_one_out_variants(names)
    logits = {
        variant.key: predict(
            artefact.model,
            varied(rows, variant),
            artefact.collator,
            artefact.problem_type,
            batch_size=artefact.batch_size,
            max_tokens_per_batch=artefact.max_tokens_per_batch,
            progress=progress,
        ).logits
        for variant in variants
    }
    found = variant_metrics(variants, logits, artefact.problem_type, np.asarray(rows.labels), _names(artefact))
    return {
        "split": split,
        "rows": len(rows),
        "metrics": {entry["lost"][0]: entry["metrics"] for entry in found},
    }


def _names(artefact: Artefact) -> list[str]:
    return [] if artefact.problem_type == REGRESSION else artefact.labels


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
