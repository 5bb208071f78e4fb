"""What a page shows of one row: labels with probabilities, where they come from, and what changes without each part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmadapters.artefact import Artefact
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.schema import MULTI_LABEL, REGRESSION
from mmadapters.evaluation.explanation import Explanation, by_layer, explain
from mmadapters.evaluation.explanation_rows import score_changes
from mmadapters.predictor.decisions import decided_values

MOST_CHANGES = 3
SMALLEST_CHANGE = 0.0005
"""Of a probability: it would be shown as 0."""


@dataclass(frozen=True)
class LabelScore:
    """One label of a row.

    Attributes:
        label: The label.
        probability: That the row has it.
        threshold: From which on it is predicted; None where the most probable label is.
        predicted: Whether it is.
    """

    label: str
    probability: float
    threshold: float | None
    predicted: bool


@dataclass(frozen=True)
class Change:
    """What is predicted for a row without one modality.

    Attributes:
        modality: Its name.
        prediction: What is predicted then: labels, none where no label reaches its threshold, or a value.
        differs: Whether that is something else than with it.
        labels: The labels whose probabilities change most, with the probability before and after; for a regression
            one entry without a name, with the values.
        mean: By how much the scores change, absolute, a mean over labels.
    """

    modality: str
    prediction: tuple[str, ...]
    differs: bool
    labels: tuple[tuple[str, float, float], ...]
    mean: float


@dataclass(frozen=True)
class Answer:
    """What a model says of one row, and where that comes from.

    Attributes:
        prediction: The labels that are predicted, none where no label reaches its threshold, or the value.
        labels: All labels, the most probable first; none of a regression.
        value: What a regression predicts.
        names: The K sources: the text and the modalities, or the members of an AdapterFusion.
        present: By source whether the row has it.
        shares: By source its share of the adapters' updates, a mean over all sites.
        layers: The indices of the layers that have adapters.
        shares_by_layer: (layers, K).
        changes: What changes without each modality that the row has.
    """

    prediction: tuple[str, ...]
    labels: tuple[LabelScore, ...]
    value: float | None
    names: tuple[str, ...]
    present: tuple[bool, ...]
    shares: tuple[float, ...]
    layers: tuple[int, ...]
    shares_by_layer: np.ndarray
    changes: tuple[Change, ...]


def answer_row(artefact: Artefact, dataset: MultimodalDataset) -> Answer:
    """Ask a model about one row.

    Args:
        artefact: The model.
        dataset: The row.
    """
    explanation = explain(
        artefact.model,
        dataset,
        artefact.collator,
        artefact.problem_type,
        batch_size=artefact.batch_size,
        max_tokens_per_batch=artefact.max_tokens_per_batch,
    )
    prediction = _decided(artefact, explanation.scores)
    regression = artefact.problem_type == REGRESSION
    layers, shares = by_layer(explanation.shares[0], explanation.sites)
    return Answer(
        prediction,
        () if regression else _labels(artefact, explanation.scores[0]),
        float(explanation.scores[0]) if regression else None,
        tuple(explanation.names),
        tuple(map(bool, explanation.present[0])),
        tuple(map(float, explanation.row_shares[0])),
        tuple(layers),
        shares,
        tuple(_change(artefact, explanation, name, prediction) for name in _given(explanation, dataset)),
    )


def _labels(artefact: Artefact, scores: np.ndarray) -> tuple[LabelScore, ...]:
    several = artefact.problem_type == MULTI_LABEL
    thresholds = artefact.decision_thresholds
    order = np.argsort(-scores, kind="stable")
    return tuple(
        LabelScore(
            artefact.labels[place],
            float(scores[place]),
            thresholds[place] if several else None,
            bool(scores[place] >= thresholds[place]) if several else bool(place == order[0]),
        )
        for place in order
    )


def _given(explanation: Explanation, dataset: MultimodalDataset) -> list[str]:
    """Return the modalities that the row has, in their order."""
    return [name for name in explanation.without if dataset.present(name)[0]]


def _change(artefact: Artefact, explanation: Explanation, name: str, prediction: tuple[str, ...]) -> Change:
    before, after = explanation.scores[0], explanation.scores_without(name)[0]
    found = _decided(artefact, explanation.scores_without(name))
    mean = float(score_changes(explanation, name)[0])
    if artefact.problem_type == REGRESSION:
        return Change(name, found, found != prediction, (("", float(before), float(after)),), mean)
    order = np.argsort(-np.abs(before - after), kind="stable")[:MOST_CHANGES]
    labels = tuple(
        (artefact.labels[place], float(before[place]), float(after[place]))
        for place in order
        if abs(before[place] - after[place]) >= SMALLEST_CHANGE
    )
    return Change(name, found, found != prediction, labels, mean)


def _decided(artefact: Artefact, scores: np.ndarray) -> tuple[str, ...]:
    decided: Any = decided_values(artefact, scores)[0]
    if artefact.problem_type == REGRESSION:
        return (f"{decided:.4g}",)
    return tuple(map(str, decided)) if artefact.problem_type == MULTI_LABEL else (str(decided),)
