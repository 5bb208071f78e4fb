"""Whether an exported model gives what the artefact gives: on made-up inputs of many shapes, and on rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mmadapters.artefact import Artefact
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.errors import ArtefactError
from mmadapters.evaluation.evaluator import evaluate
from mmadapters.evaluation.predictions import Predictions, decided
from mmadapters.export.exported import ExportedModel
from mmadapters.export.graph import TensorsOnly, example
from mmadapters.export.runtime import Session

TOLERANCE = 1e-4
"""Largest difference of a float32 model from the artefact, over the larger of 1 and the largest value."""
SHAPES = ((1, 3, 1), (2, 17, 9), (5, 64, 1))
"""Rows, tokens and steps of the made-up inputs."""
PRESENT = (1.0, 0.5, 0.0)
"""Shares of the steps that are there, down to no modality at all."""


@dataclass(frozen=True)
class RowCheck:
    """How an exported model compares with the artefact on some rows.

    Attributes:
        rows: Number of rows.
        largest: Largest absolute difference of a logit.
        mean: Mean absolute difference.
        relative: The largest one, over the larger of 1 and the largest logit.
        decisions_changed: Share of the rows for which something else is predicted; for a regression None.
        metrics: Of the exported model, where the rows have labels.
        metrics_before: Of the artefact.
    """

    rows: int
    largest: float
    mean: float
    relative: float
    decisions_changed: float | None
    metrics: Mapping[str, float]
    metrics_before: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)


def largest_difference(plain: TensorsOnly, session: Session, artefact: Artefact) -> float:
    """Return how far a graph is from the model, on made-up inputs.

    Args:
        plain: The model.
        session: The graph.
        artefact: Of the model; its tokenizer says what texts may look like.

    Returns:
        The largest absolute difference of an output, over the larger of 1 and the model's largest output; infinite
        where one of both is not finite.
    """
    tokenizer, signature = artefact.preprocessor.tokenizer, plain.signature
    embeddings = artefact.model.get_base_model().get_input_embeddings().weight
    worst = 0.0
    for seed, (rows, tokens, steps) in enumerate(SHAPES):
        for present in PRESENT:
            inputs = example(
                signature,
                rows,
                min(tokens, artefact.preprocessor.max_length),
                steps,
                vocabulary=min(len(tokenizer), len(embeddings)),
                seed=seed,
                present=present,
                side=tokenizer.padding_side,
            )
            with torch.inference_mode():
                expected = [output.numpy() for output in plain(*inputs)]
            feeds = {name: tensor.numpy() for name, tensor in zip(signature.inputs, inputs, strict=True)}
            found = session.run(feeds)
            pairs = zip(expected, (found[name] for name in signature.outputs), strict=True)
            worst = max(worst, *(difference(output, of_graph) for output, of_graph in pairs))
    return worst


def difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest absolute difference over the larger of 1 and the largest expected value.

    Args:
        expected: What the model gives.
        found: What the graph gives; another shape, or a value that is not finite, is infinitely far.
    """
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def check_tolerance(name: str, found: float) -> None:
    """Refuse a graph that is further from the model than ``TOLERANCE``.

    Raises:
        ArtefactError: Says how far it is.
    """
    if not found <= TOLERANCE:
        raise ArtefactError(
            f"The exported model ({name}) differs from the artefact by {found:.2g}, more than {TOLERANCE:g}, so it was "
            "not written. Try another opset or another version of torch, onnxruntime or openvino, and please report it."
        )


def check_rows(artefact: Artefact, exported: ExportedModel, dataset: MultimodalDataset) -> RowCheck:
    """Compare an exported model with the artefact on rows, in the same batches.

    Args:
        artefact: What was exported.
        exported: What came out.
        dataset: The rows, with labels where they are known.
    """
    before, after = artefact.predict_dataset(dataset), exported.predict_dataset(dataset)
    apart = np.abs(after.logits - before.logits)
    return RowCheck(
        rows=len(dataset),
        largest=float(apart.max()),
        mean=float(apart.mean()),
        relative=difference(before.logits, after.logits),
        decisions_changed=_changed(artefact, before, after),
        metrics=_metrics(artefact, after, dataset),
        metrics_before=_metrics(artefact, before, dataset),
    )


def _changed(artefact: Artefact, before: Predictions, after: Predictions) -> float | None:
    if artefact.problem_type == "regression":
        return None
    old, new = (
        decided(predictions.scores, artefact.problem_type, artefact.labels, artefact.decision_thresholds)
        for predictions in (before, after)
    )
    return sum(a != b for a, b in zip(old, new, strict=True)) / len(old)


def _metrics(artefact: Artefact, predictions: Predictions, dataset: MultimodalDataset) -> dict[str, float]:
    if dataset.labels is None:
        return {}
    return dict(evaluate(predictions, dataset, artefact.problem_type, artefact.labels, artefact.thresholds).values)
