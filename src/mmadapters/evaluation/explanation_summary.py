"""An explanation as plain values, as ``explanation.json`` holds them; tables and pictures are made from them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mmadapters.evaluation.bootstrap import BOOTSTRAPPED
from mmadapters.evaluation.explanation import (
    Explanation,
    mean_by_label,
    mean_by_site,
    rows_of_labels,
)
from mmadapters.evaluation.faithfulness import faithfulness
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.evaluation.row_losses import row_losses


def summarise_explanation(
    explanation: Explanation, labels: Sequence[str], targets: np.ndarray | None = None
) -> dict[str, Any]:
    """Return means over rows by site and by label, what each modality is worth, and how faithful shares are.

    Args:
        explanation: Of N rows.
        labels: Label names in the order of the logits.
        targets: Encoded labels of the rows; without them only gates and shares are told, by the labels that are
            predicted with at least one half.
    """
    kind = explanation.problem_type
    shares, gates, present = explanation.shares, explanation.gates, explanation.present
    of_label = labelled(explanation, targets, len(labels))
    by_label = {
        "shares_by_label": None if of_label is None else plain(mean_by_label(shares.mean(axis=1), present, of_label)),
        "gates_by_label": None
        if of_label is None or gates is None
        else plain(mean_by_label(gates.mean(axis=1), present, of_label)),
        "rows_by_label": None if of_label is None else of_label.sum(axis=0).tolist(),
    }
    summary: dict[str, Any] = {
        "problem_type": kind,
        "labels": list(labels),
        "main_metrics": list(BOOTSTRAPPED[kind]),
        "rows": len(explanation.logits),
        "names": explanation.names,
        "sites": [{"layer": layer, "place": place} for layer, place in explanation.sites],
        "present": dict(zip(explanation.names, present.sum(axis=0).tolist(), strict=True)),
        "gates": None if gates is None else plain(mean_by_site(gates, present)),
        "shares": plain(mean_by_site(shares, present)),
        **by_label,
        "metrics": None,
        "leave_one_out": [{"modality": name, "changed": _changed(explanation, name)} for name in explanation.without],
        "faithfulness": None,
    }
    if targets is None:
        return summary
    summary["metrics"] = compute_metrics(kind, explanation.scores, targets, labels).values
    rises = loss_rises(explanation, targets)
    for entry in summary["leave_one_out"]:
        name = entry["modality"]
        own = rises[name][_has(explanation, name)]
        known = own[np.isfinite(own)]
        entry["loss_rise"] = float(known.mean()) if len(known) else None
        entry["metrics"] = compute_metrics(kind, explanation.scores_without(name), targets, labels).values
    modalities = [name for name in explanation.names if name in rises]
    if modalities:
        places = [explanation.names.index(name) for name in modalities]
        found = faithfulness(
            modalities,
            explanation.row_shares[:, places],
            np.stack([rises[name] for name in modalities], axis=1),
            present[:, places],
        )
        summary["faithfulness"] = asdict(found)
    return summary


def loss_rises(explanation: Explanation, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return by modality what each row's loss rises by without it, (N,); NaN where the loss is unknown.

    Args:
        explanation: Of N rows.
        targets: Encoded labels of the rows.
    """
    whole = row_losses(explanation.problem_type, explanation.logits, targets)
    return {
        name: row_losses(explanation.problem_type, logits, targets) - whole
        for name, logits in explanation.without.items()
    }


def labelled(explanation: Explanation, targets: np.ndarray | None, n_labels: int) -> np.ndarray | None:
    """Return bool (N, C), which rows have which label: the true ones, else those that are predicted; or None.

    Args:
        explanation: Of N rows.
        targets: Encoded labels, or None.
        n_labels: Number C of labels.
    """
    kind = explanation.problem_type
    if targets is not None:
        return rows_of_labels(kind, targets, n_labels)
    if kind == "regression":
        return None
    if kind == "multi_label_classification":
        return explanation.scores >= 0.5
    return rows_of_labels(kind, explanation.scores.argmax(axis=1), n_labels)


def plain(values: np.ndarray) -> list[Any]:
    """Return an array as nested lists, with None for what is not finite.

    Args:
        values: Of at least one dimension.
    """
    if values.ndim > 1:
        return [plain(row) for row in values]
    return [float(value) if np.isfinite(value) else None for value in values]


def _has(explanation: Explanation, name: str) -> np.ndarray:
    """Return bool (N,): whether a row has a modality; a member of an AdapterFusion is no modality."""
    if name in explanation.names:
        return explanation.present[:, explanation.names.index(name)]
    return np.ones(len(explanation.logits), dtype=bool)


def _changed(explanation: Explanation, name: str) -> float:
    """Return the mean absolute change of the scores without a modality, over the rows that have it."""
    rows = _has(explanation, name)
    if not rows.any():
        return 0.0
    return float(np.abs(explanation.scores[rows] - explanation.scores_without(name)[rows]).mean())
