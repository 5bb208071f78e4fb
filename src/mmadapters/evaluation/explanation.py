"""What a model looked at: gates, contributions to the adapters' updates, and what changes without each modality.

A gate near 1 in front of a small vector passes little on. So beside the gates stands each modality's *share*: the
length of the part of the update that comes from it, over the sum of all parts' lengths. Whether shares tell what
matters is measured, not assumed: ``faithfulness`` correlates them with what a row's loss rises by without the modality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from peft import PeftModel

from mmadapters.data.dataset import MultimodalDataset
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.ablation import leave_one_out_variants, varied
from mmadapters.evaluation.evaluator import predict
from mmadapters.evaluation.scores import scores_from_logits
from mmadapters.modality import TEXT


@dataclass(frozen=True)
class Explanation:
    """What a model looked at in N rows, at S sites, with K sources: the text and the modalities, or members.

    Attributes:
        problem_type: Of the task.
        names: The K sources, ``text`` first; for an AdapterFusion its members.
        sites: Layer and place (``attention`` or ``feed_forward``) of each site, in the order in which they run.
        gates: (N, S, K) means over tokens and units, 0 for a missing modality; None where the fusion has no gates.
        contributions: (N, S, K) lengths of the parts of the updates, means over tokens.
        present: Bool (N, K), whether a row has it.
        logits: (N, C) with everything.
        without: By modality, the logits (N, C) of the rows without it.
    """

    problem_type: str
    names: list[str]
    sites: list[tuple[int, str]]
    gates: np.ndarray | None
    contributions: np.ndarray
    present: np.ndarray
    logits: np.ndarray
    without: dict[str, np.ndarray]

    @property
    def shares(self) -> np.ndarray:
        """(N, S, K): contributions over their sum at each site, 0 where nothing contributes."""
        total = self.contributions.sum(axis=2, keepdims=True)
        return np.divide(self.contributions, total, out=np.zeros_like(self.contributions), where=total > 0)

    @property
    def row_shares(self) -> np.ndarray:
        """(N, K): the shares of each row, a mean over sites."""
        return self.shares.mean(axis=1)

    @property
    def scores(self) -> np.ndarray:
        """Probabilities (N, C), or values (N,) of a regression, with everything."""
        return scores_from_logits(self.logits, self.problem_type)

    def scores_without(self, name: str) -> np.ndarray:
        """Return the scores of the rows without a modality.

        Args:
            name: Of the modality.
        """
        return scores_from_logits(self.without[name], self.problem_type)


def explain(
    model: PeftModel,
    dataset: MultimodalDataset,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    problem_type: str,
    *,
    batch_size: int = 64,
    max_tokens_per_batch: int | None = None,
    progress: bool = False,
) -> Explanation:
    """Look at what a model makes of its inputs; it is run twice, and once more for each modality.

    Args:
        model: A PEFT model with one active multimodal adapter.
        dataset: The rows, at least with the modalities that the adapter reads; labels are not looked at.
        collator: Makes batches of them.
        problem_type: Of the task.
        batch_size: Rows a batch.
        max_tokens_per_batch: Most tokens of a batch instead, padding included.
        progress: Whether to show progress bars.

    Raises:
        ConfigurationError: If the model has no multimodal adapter.
        DataError: If there are no rows, or they lack a modality altogether.
    """
    tuner: Any = getattr(model, "base_model", None)
    if not hasattr(tuner, "contribution_names"):
        raise ConfigurationError(
            f"A {type(model).__name__} without multimodal adapters was given, and only these tell what they looked at. "
            "Give a PEFT model with a MultimodalAdapterConfig."
        )

    def run(rows: MultimodalDataset, gates: bool | str = False) -> Any:
        return predict(
            model,
            rows,
            collator,
            problem_type,
            batch_size=batch_size,
            max_tokens_per_batch=max_tokens_per_batch,
            output_gates=gates,
            progress=progress,
        )

    modalities = list(model.active_peft_config.modality_names)
    looked_at = run(dataset, "contributions")
    names = list(tuner.contribution_names)
    present = np.ones((len(dataset), len(names)), dtype=bool)
    for place, name in enumerate(names):
        if name in modalities:
            present[:, place] = dataset.present(name)
    without = {variant.lost[0]: run(varied(dataset, variant)).logits for variant in leave_one_out_variants(modalities)}
    was_training = model.training
    sites = [(site.layer, site.name) for site in model.eval().base_model.gate_sites]
    model.train(was_training)
    return Explanation(
        problem_type,
        names,
        sites,
        run(dataset, True).gates if tuner.gate_names else None,
        cast(np.ndarray, looked_at.gates).astype(np.float64),
        present,
        looked_at.logits,
        without,
    )


def mean_by_site(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return means (S, K) over the rows that have the modality; NaN for one that no row has.

    Args:
        values: (N, S, K).
        present: Bool (N, K).
    """
    counts = present.sum(axis=0)
    sums = (values * present[:, None, :]).sum(axis=0)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan, dtype=np.float64), where=counts > 0)


def mean_by_label(values: np.ndarray, present: np.ndarray, of_label: np.ndarray) -> np.ndarray:
    """Return means (C, K) over the rows with a label that have the modality; NaN where there are none.

    Args:
        values: (N, K).
        present: Bool (N, K).
        of_label: Bool (N, C), whether a row has a label.
    """
    weights = of_label.astype(np.float64).T
    counts = weights @ present
    sums = weights @ (values * present)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def by_layer(by_site: np.ndarray, sites: Sequence[tuple[int, str]]) -> tuple[list[int], np.ndarray]:
    """Return the layers, and means (layers, K) over the sites of each.

    Args:
        by_site: (S, K).
        sites: Layer and place of each.
    """
    layers = sorted({layer for layer, _ in sites})
    return layers, np.stack([by_site[[at == layer for at, _ in sites]].mean(axis=0) for layer in layers])


def rows_of_labels(problem_type: str, targets: np.ndarray, n_labels: int) -> np.ndarray | None:
    """Return bool (N, C), whether a row has a label; None for a regression.

    Args:
        problem_type: Of the task.
        targets: Encoded labels.
        n_labels: Number C of labels.
    """
    if problem_type == "regression":
        return None
    if problem_type == "multi_label_classification":
        return np.asarray(targets) > 0.5
    return np.asarray(targets)[:, None] == np.arange(n_labels)


def mean_shares(explanation: Explanation) -> Mapping[str, float]:
    """Return each source's mean share, over sites and the rows that have it; NaN for one that no row has."""
    means = mean_by_site(explanation.shares, explanation.present).mean(axis=0)
    return dict(zip(explanation.names, map(float, means), strict=True))


def text_alone(explanation: Explanation) -> bool:
    """Tell whether the model reads nothing but the text."""
    return explanation.names == [TEXT]
