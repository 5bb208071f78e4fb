"""What a trained model does where modalities are missing: each of them, every subset, and at growing rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.missing import draw_missing, without
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.metrics import compute_metrics
from mmadapters.evaluation.scores import scores_from_logits

MOST_MODALITIES = 6
"""Up to so many, every subset is looked at: 2⁶ of them."""


@dataclass(frozen=True)
class Variant:
    """The rows of a split with something missing.

    Attributes:
        kept: The modalities of which nothing is taken away; of the others, what the rate says.
        lost: The other modalities.
        rate: The probability with which a row lacks each of ``lost``; 1 for all rows.
    """

    kept: tuple[str, ...]
    lost: tuple[str, ...]
    rate: float = 1.0

    @property
    def key(self) -> str:
        """A name that no other variant of the same modalities has."""
        return f"without {'+'.join(self.lost)} at {self.rate:g}"


def subset_variants(names: Sequence[str]) -> list[Variant]:
    """Return one variant for each subset of the modalities that is not all of them, larger ones first.

    Args:
        names: The modalities, in their order.

    Raises:
        ConfigurationError: If they are too many.
    """
    if len(names) > MOST_MODALITIES:
        raise ConfigurationError(
            f"{len(names)} modalities have {2 ** len(names):,} subsets. Every subset is looked at with up to "
            f"{MOST_MODALITIES} modalities; leave the subsets out."
        )
    kept = [subset for size in range(len(names) - 1, -1, -1) for subset in combinations(names, size)]
    return [Variant(subset, tuple(name for name in names if name not in subset)) for subset in kept]


def leave_one_out_variants(names: Sequence[str]) -> list[Variant]:
    """Return one variant for each modality, without it.

    Args:
        names: The modalities, in their order.
    """
    return [Variant(tuple(other for other in names if other != name), (name,)) for name in names]


def rate_variants(names: Sequence[str], rates: Sequence[float]) -> list[Variant]:
    """Return variants in which each modality alone, and all of them at once, go missing at each rate.

    Args:
        names: The modalities, in their order.
        rates: Probabilities above 0.
    """
    lost = [(name,) for name in names] + ([tuple(names)] if len(names) > 1 else [])
    return [Variant(tuple(n for n in names if n not in own), own, rate) for own in lost for rate in rates if rate > 0]


def varied(dataset: MultimodalDataset, variant: Variant, seed: int = 0) -> MultimodalDataset:
    """Return the rows of a variant; nothing is read or copied.

    Args:
        dataset: All rows with all modalities.
        variant: What is taken away.
        seed: Of the draw; see ``mmadapters.data.missing``.
    """
    if variant.rate >= 1.0:
        return without(dataset, dict.fromkeys(variant.lost, True))
    return without(dataset, draw_missing(len(dataset), variant.lost, variant.rate, seed))


def variant_metrics(
    variants: Sequence[Variant],
    logits: Mapping[str, np.ndarray],
    problem_type: str,
    targets: np.ndarray,
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """Return what a model reaches on each variant, as plain values.

    Args:
        variants: The variants.
        logits: By the variants' keys: (N, C), for a regression (N,).
        problem_type: Of the task.
        targets: Encoded labels of the rows.
        labels: Label names in the order of the logits.
    """
    return [
        {
            **asdict(variant),
            "kept": list(variant.kept),
            "lost": list(variant.lost),
            "metrics": compute_metrics(
                problem_type, scores_from_logits(logits[variant.key], problem_type), targets, labels
            ).values,
        }
        for variant in variants
    ]
