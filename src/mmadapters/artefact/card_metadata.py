"""The metadata of a model card, as the Hub reads it: what the model is based on, its task, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from mmadapters.backbones import PACKAGED_BACKBONES
from mmadapters.evaluation.metrics import REGRESSION
from mmadapters.hub.names import is_repository_id

DEFAULT_NAME = "multimodal-adapters"
_HUB_METRICS = {
    "average_precision": "average_precision",
    "f1": "f1",
    "accuracy": "accuracy",
    "mae": "mae",
    "rmse": "rmse",
    "r2": "r_squared",
}
"""Metric ids of the Hub, by the end of ours."""


def card_data(pipeline: Mapping[str, Any], name: str | None) -> ModelCardData:
    """Return the card's metadata, as the Hub reads it.

    Args:
        pipeline: What ``pipeline.json`` holds.
        name: Name of the model, or None.
    """
    base = base_model(str(pipeline["model"]["backbone"]))
    results = _eval_results(pipeline)
    return ModelCardData(
        license=pipeline.get("license"),
        library_name="peft",
        pipeline_tag=None if pipeline["problem_type"] == REGRESSION else "text-classification",
        tags=["mmadapters", "multimodal", "adapter", pipeline["problem_type"].replace("_", "-")],
        base_model=base,
        base_model_relation=None if base is None else "adapter",
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=(name or DEFAULT_NAME) if results else None,
        eval_results=results or None,
    )


def base_model(backbone: str) -> str | None:
    """Return the name that the Hub knows a backbone by, or None for a folder.

    Args:
        backbone: An alias, a folder or a name on the Hub.
    """
    if backbone in PACKAGED_BACKBONES:
        return PACKAGED_BACKBONES[backbone].hub_name
    return backbone if is_repository_id(backbone) else None


def _eval_results(pipeline: Mapping[str, Any]) -> list[EvalResult]:
    """Return what was measured on test rows, or else on validation rows, as the Hub's metadata has it."""
    metrics, splits = pipeline.get("metrics") or {}, (pipeline.get("record") or {}).get("splits") or {}
    split = next((name for name in ("test", "validation") if metrics.get(name)), None)
    if split is None:
        return []
    source = splits.get(split, {}).get("source") or "own rows"
    chosen = ", chosen on these rows" if split == "validation" else ""
    return [
        EvalResult(
            task_type="tabular-regression" if pipeline["problem_type"] == REGRESSION else "text-classification",
            dataset_type="custom",
            dataset_name=source,
            dataset_split=split,
            metric_type=hub_id,
            metric_value=float(f"{value:.6g}"),
            metric_name=f"{name.replace('_', ' ')}{chosen}",
        )
        for name, value in metrics[split].items()
        if (hub_id := next((known for end, known in _HUB_METRICS.items() if name.endswith(end)), None))
    ]
