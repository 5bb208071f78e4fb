"""Modality features as tokens of a text encoder: pooled to a few vectors, projected, with segment and position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmadapters.data.dataset import MultimodalDataset
from mmadapters.modality import Modality

SEGMENT_INIT_STD = 0.02
SMALLEST_DEVIATION = 1e-6


def pooled_steps(values: Tensor, mask: Tensor, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Return a sequence as at most ``n_tokens`` means over its valid steps, as adaptive average pooling makes them.

    Of t valid steps and n tokens, token j is the mean of the valid steps from ``floor(j t / n)`` up to and without
    ``ceil((j + 1) t / n)``. A row with fewer steps than tokens has one token a step.

    Args:
        values: (B, T, D); invalid steps may hold anything.
        mask: Bool (B, T), the valid steps.
        n_tokens: Number n of tokens.

    Returns:
        (B, n, D), zeros where there is no token, and bool (B, n).
    """
    count = mask.sum(dim=1)[:, None]
    tokens = count.clamp(max=n_tokens)
    place = torch.arange(n_tokens, device=values.device)[None]
    present = place < tokens
    divisor = tokens.clamp(min=1)
    start = place * count // divisor
    stop = -((-(place + 1) * count) // divisor)
    rank = mask.cumsum(dim=1) - 1
    chosen = (
        mask[:, None] & present[..., None] & (rank[:, None] >= start[..., None]) & (rank[:, None] < stop[..., None])
    )
    weights = chosen.to(values.dtype)
    weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=1.0)
    return weights @ values.masked_fill(~mask[..., None], 0.0), present


def modality_vectors(values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return one vector an example, a sequence averaged over its valid steps.

    Args:
        values: (B, D) or (B, T, D).
        mask: Bool (B,) or (B, T), True where there are features; without it everywhere.

    Returns:
        (B, D), zeros where the modality is missing, and bool (B,).
    """
    if mask is None:
        mask = torch.ones(values.shape[:-1], dtype=torch.bool, device=values.device)
    if values.dim() == 2:
        return values.masked_fill(~mask[:, None], 0.0), mask
    pooled, present = pooled_steps(values, mask, 1)
    return pooled[:, 0], present[:, 0]


class Standardiser(nn.Module):
    """Features minus mean, by standard deviation, both of the training rows.

    Args:
        mean: (D,)
        deviation: (D,); where it is 0 the feature only loses its mean.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        super().__init__()
        scale = 1.0 / np.where(deviation > SMALLEST_DEVIATION, deviation, 1.0)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    @classmethod
    def fit(cls, dataset: MultimodalDataset, modality: Modality) -> Standardiser:
        """Return the standardiser of a modality, each present row counting once, whatever its number of steps.

        Args:
            dataset: The training rows.
            modality: Which modality.
        """
        mean = np.zeros(modality.feature_dim)
        squares = np.zeros(modality.feature_dim)
        count = 0
        for row in range(len(dataset)):
            features = dataset.features(modality.name, row)
            if features is not None:
                vector = np.atleast_2d(features).mean(axis=0, dtype=np.float64)
                count += 1
                # Welford's update: a sum of squares would lose small deviations from large means.
                difference = vector - mean
                mean += difference / count
                squares += difference * (vector - mean)
        return cls(mean, np.sqrt(squares / max(count, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise (…, D)."""
        return (features - self.mean) * self.scale


class ModalityTokens(nn.Module):
    """Tokens of several modalities in front of a text: ``W f + b + segment``, each modality its own W, b and segment.

    Args:
        modalities: In the order of the tokens.
        n_tokens: Of each modality that is a sequence; a vector is one token.
        width: Of the encoder's input embeddings.
        standardisers: By modality name, what its features pass first; nothing where there is none.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        n_tokens: Mapping[str, int],
        width: int,
        standardisers: Mapping[str, Standardiser],
    ) -> None:
        super().__init__()
        self.names = [modality.name for modality in modalities]
        self.n_tokens = dict(n_tokens)
        self.standardisers = nn.ModuleList([standardisers.get(name, nn.Identity()) for name in self.names])
        self.projections = nn.ModuleList([nn.Linear(modality.feature_dim, width) for modality in modalities])
        self.segments = nn.Embedding(len(self.names), width)
        nn.init.normal_(self.segments.weight, std=SEGMENT_INIT_STD)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Make the tokens.

        Args:
            features: By name (B, D) or (B, T, D).
            masks: By name bool (B,) or (B, T).

        Returns:
            (B, M, width), bool (B, M) where there is a token, and (M,) the position of each in its own segment.
        """
        parts, present, positions = [], [], []
        for index, name in enumerate(self.names):
            values, mask = features[name], masks[name]
            if values.dim() == 2:
                values, mask, wanted = values[:, None], mask[:, None], 1
            else:
                wanted = self.n_tokens[name]
            pooled, there = pooled_steps(values, mask, wanted)
            parts.append(self.projections[index](self.standardisers[index](pooled)) + self.segments.weight[index])
            present.append(there)
            positions.append(torch.arange(wanted, device=values.device))
        return torch.cat(parts, dim=1), torch.cat(present, dim=1), torch.cat(positions)
