"""Runs a model over a data set: scores, and the gates where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from mmadapters.data.batching import inference_batches, padded_lengths
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.errors import DataError, listed
from mmadapters.evaluation.metrics import MULTI_LABEL, MetricsReport, compute_metrics
from mmadapters.evaluation.predictions import Predictions, in_row_order
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.evaluation.thresholds import with_tuned_figures
from mmadapters.modality import TEXT


def predict(
    model: nn.Module,
    dataset: MultimodalDataset,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    problem_type: str,
    *,
    batch_size: int = 64,
    max_tokens_per_batch: int | None = None,
    output_gates: bool | str = False,
    output_pooled: bool = False,
    progress: bool = False,
) -> Predictions:
    """Run the model over all rows in evaluation mode, and return what it says of them in their order.

    Batches are made of rows of similar length, the longest first, so that little is padded and what needs the most
    memory comes at the start.

    Args:
        model: A PEFT model around a ``TextClassifier``, or the classifier itself. Its mode is restored afterwards.
        dataset: The rows; labels are not looked at.
        collator: Makes batches of them.
        problem_type: How logits become scores.
        batch_size: Examples a batch. The same batches give the same numbers, bit for bit.
        max_tokens_per_batch: Most tokens of a batch, padding included; it takes the place of ``batch_size``.
        output_gates: Whether to collect the gates' means, or ``"contributions"`` to the adapters' updates in their
            place.
        output_pooled: Whether to collect what the head reads.
        progress: Whether to show a progress bar.

    Raises:
        DataError: If there are no rows.
        ConfigurationError: If a row alone has more tokens than ``max_tokens_per_batch``.
    """
    if len(dataset) == 0:
        raise DataError("There are no rows to predict.")
    device = next(model.parameters()).device
    lengths = padded_lengths(dataset.lengths, getattr(collator, "pad_to_multiple_of", None))
    batches = inference_batches(lengths, batch_size, max_tokens_per_batch)
    loader = DataLoader(dataset, batch_sampler=[rows.tolist() for rows in batches], collate_fn=collator)
    options = {"output_gates": output_gates} if output_gates else {}
    logits, gates, pooled = [], [], []
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in tqdm(loader, desc="predicting", disable=not progress, unit="batch"):
                batch.pop("labels", None)
                output = model(**to_device(batch, device), **options)
                logits.append(output["logits"].float().cpu().numpy())
                if output_gates:
                    gates.append(output["gates"].float().cpu().numpy())
                if output_pooled:
                    pooled.append(output["pooled"].float().cpu().numpy())
    finally:
        model.train(was_training)
    order = np.concatenate(batches)
    all_logits = in_row_order(np.concatenate(logits), order)
    return Predictions(
        scores_from_logits(all_logits, problem_type),
        all_logits,
        in_row_order(np.concatenate(gates), order) if output_gates else None,
        in_row_order(np.concatenate(pooled), order) if output_pooled else None,
    )


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch, a nest of dictionaries of tensors, on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    return {name: to_device(value, device) for name, value in batch.items()}


def evaluate(
    predictions: Predictions,
    dataset: MultimodalDataset,
    problem_type: str,
    labels: Sequence[str],
    thresholds: Sequence[float] | None = None,
) -> MetricsReport:
    """Score predictions against the data set's labels.

    Args:
        predictions: Of ``predict`` on the same data set.
        dataset: The rows with their labels.
        problem_type: Decides the metrics.
        labels: Label names in the order of the logits.
        thresholds: Tuned ones, one per label: what they decide is reported beside what 0.5 decides, as ``tuned_…``.

    Raises:
        DataError: If the data set has no labels.
    """
    if dataset.labels is None:
        raise DataError("The rows have no labels to evaluate against. Pass rows with the label column.")
    report = compute_metrics(problem_type, predictions.scores, dataset.labels, labels)
    if thresholds is None or problem_type != MULTI_LABEL:
        return report
    return with_tuned_figures(report, predictions.scores, dataset.labels, labels, thresholds)


@dataclass(frozen=True)
class GateMeans:
    """Mean gates over a data set.

    Attributes:
        names: ``text`` and the modalities, or the members of an AdapterFusion, in their order.
        by_layer: (layers, names), the mean over the examples in which the modality is present and over the layer's
            sites; NaN for a modality that no example has.
        layers: The index of each row's layer.
    """

    names: list[str]
    by_layer: np.ndarray
    layers: list[int]


def gate_means(
    predictions: Predictions,
    dataset: MultimodalDataset,
    site_layers: Sequence[int],
    names: Sequence[str] | None = None,
) -> GateMeans:
    """Average gates by layer, leaving out the examples in which a modality is missing.

    Args:
        predictions: Of ``predict(…, output_gates=True)``.
        dataset: The same rows.
        site_layers: The layer of each site, in the order of the gates.
        names: What the gates are of, in their order (``gate_names`` of the PEFT tuner); by default the text and the
            data set's modalities. What is no modality is present in every example.

    Raises:
        DataError: If the predictions hold no gates, or not one for each name.
    """
    if predictions.gates is None:
        raise DataError("The predictions hold no gates. Call predict with output_gates=True.")
    modalities = [modality.name for modality in dataset.modalities]
    chosen = [TEXT, *modalities] if names is None else list(names)
    if len(chosen) != predictions.gates.shape[2]:
        raise DataError(
            f"The predictions hold {predictions.gates.shape[2]} gates a site, the names are {listed(chosen)}. Pass the "
            "model's gate_names."
        )
    everywhere = np.ones(len(dataset), bool)
    present = np.stack([dataset.present(name) if name in modalities else everywhere for name in chosen], axis=1)
    counts = present.sum(axis=0)
    sums = (predictions.gates * present[:, None, :]).sum(axis=0)
    by_site = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    layers = sorted(set(site_layers))
    rows = [by_site[[layer == of_site for of_site in site_layers]].mean(axis=0) for layer in layers]
    return GateMeans(chosen, np.stack(rows), layers)
