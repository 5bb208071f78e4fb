"""What a server answers, as plain values: predictions, explanations, what is told of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmadapters.data.schema import MULTI_LABEL, REGRESSION
from mmadapters.evaluation.explanation import Explanation, by_layer
from mmadapters.evaluation.explanation_rows import score_changes
from mmadapters.serving.models import ModelRegistry, RowOutput, ServedModel

Json = dict[str, Any]


def prediction(model: ServedModel, output: RowOutput) -> Json:
    """Return what a model says of a row, as plain values."""
    return {
        "prediction": model.decide(output.scores),
        "probabilities": _probabilities(model, output.scores),
        "missing": output.missing,
        "notes": output.notes,
    }


def explanation(model: ServedModel, found: Explanation) -> Json:
    """Return shares, gates and what changes without each modality, of one row, as plain values.

    Args:
        model: The model.
        found: Of one row.
    """
    layers, shares = by_layer(found.shares[0], found.sites)
    means = found.row_shares[0]
    present = found.present[0]
    gates = None
    if found.gates is not None:
        _, gate_means = by_layer(found.gates[0], found.sites)
        gates = {name: _by_layer(layers, gate_means[:, place]) for place, name in enumerate(found.names)}
    there = {name: bool(present[place]) for place, name in enumerate(found.names)}
    without = {}
    for name in found.without:
        if there.get(name, True):
            scores = np.atleast_1d(found.scores_without(name)[0])
            without[name] = {
                "prediction": model.decide(scores),
                "probabilities": _probabilities(model, scores),
                "change": float(score_changes(found, name)[0]),
            }
    return {
        "shares": {
            name: {
                "layers": _by_layer(layers, shares[:, place]),
                "mean": float(means[place]),
                "present": there[name],
            }
            for place, name in enumerate(found.names)
        },
        "gates": gates,
        "without": without,
    }


def model_info(model: ServedModel, registry: ModelRegistry) -> Json:
    """Return what is told of a model."""
    group, _ = registry.group(model.name)
    reader = model.reader
    modalities = []
    for name, modality in reader.modalities.items():
        table = reader.tables.get(name)
        recipe = model.recipes.get(name)
        columns = list(table.columns) if table is not None else [] if recipe is None else [recipe.column]
        accepts = ["table"] if table is not None else ["features", *(["file"] if recipe is not None else [])]
        modalities.append(
            {
                "name": name,
                "kind": modality.kind,
                "width": modality.feature_dim,
                "accepts": accepts,
                "columns": columns,
            }
        )
    multi_label = model.problem_type == MULTI_LABEL
    return {
        "name": model.name,
        "default": model.name == registry.names[0],
        "problem_type": model.problem_type,
        "labels": model.labels if model.problem_type != REGRESSION else [],
        "thresholds": dict(zip(model.labels, model.thresholds, strict=True)) if multi_label else None,
        "texts": list(reader.preprocessor.schema.text_columns),
        "modalities": modalities,
        "shares_backbone_with": [name for name in group.models if name != model.name],
        **_finite(model.about),
    }


def _finite(about: Mapping[str, Any]) -> Json:
    metrics = {
        split: {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
        for split, values in about["metrics"].items()
    }
    return {**about, "metrics": metrics}


def _probabilities(model: ServedModel, scores: np.ndarray) -> dict[str, float] | None:
    if model.problem_type == REGRESSION:
        return None
    return {name: float(score) for name, score in zip(model.labels, scores, strict=True)}


def _by_layer(layers: Sequence[int], values: np.ndarray) -> dict[str, float]:
    return {str(layer): float(value) for layer, value in zip(layers, values, strict=True)}
