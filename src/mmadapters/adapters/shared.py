"""What is computed once a forward pass for all sites: pooling by attention, pre-projection, shared bottlenecks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mmadapters.adapters.bottleneck import BottleneckProjection, normalise, reset_linear
from mmadapters.adapters.family import FUSIONS
from mmadapters.adapters.inputs import ModalityInput
from mmadapters.adapters.naming import modality_key
from mmadapters.modality import Modality

if TYPE_CHECKING:
    from mmadapters.adapters.config import MultimodalAdapterConfig


class AttentionPooling(nn.Module):
    """A weighted mean over the steps of a sequence: ``softmax(score(normalise(f)))`` over the valid steps.

    Args:
        feature_dim: Width D of a step.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.attention = nn.Linear(feature_dim, 1, bias=False)

    def reset_parameters(self) -> None:
        """Start as the plain mean."""
        nn.init.zeros_(self.attention.weight)

    def forward(self, steps: Tensor, step_mask: Tensor) -> Tensor:
        """Pool ``steps`` (B, T, D), valid where ``step_mask`` (B, T), to (B, D); zeros where no step is valid."""
        scores = self.attention(normalise(steps)).squeeze(-1).masked_fill(~step_mask, torch.finfo(steps.dtype).min)
        weights = torch.softmax(scores, dim=1) * step_mask
        return torch.einsum("bt,btd->bd", weights, steps)


class SharedModality(nn.Module):
    """One modality's way from its features to what the sites read.

    Args:
        modality: The modality, its pooling settled.
        config: The adapter's configuration.
    """

    def __init__(self, modality: Modality, config: MultimodalAdapterConfig) -> None:
        super().__init__()
        width = config.pre_projection_size or modality.feature_dim
        self.pool = AttentionPooling(modality.feature_dim) if modality.pooling == "attention" else None
        self.pre_projection = nn.Linear(modality.feature_dim, width) if config.pre_projection_size else None
        self.bottleneck = None
        if config.share_projections:
            self.bottleneck = BottleneckProjection(
                width, config.bottleneck_size, config.non_linearity, own_size=modality.bottleneck_size
            )

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        if self.pool is not None:
            self.pool.reset_parameters()
        if self.pre_projection is not None:
            reset_linear(self.pre_projection)
        if self.bottleneck is not None:
            self.bottleneck.reset_parameters()

    def forward(self, modality: ModalityInput) -> ModalityInput:
        """Return the modality as the sites read it; what is missing stays zero."""
        pooled, steps = modality.pooled, modality.steps
        if self.pool is not None and steps is not None and modality.step_mask is not None:
            pooled, steps = self.pool(steps, modality.step_mask), None
        if self.pre_projection is not None:
            # Features of any scale: normalised first, as the sites' own LayerNorm would.
            pooled = self.pre_projection(normalise(pooled)) * modality.present[:, None]
            if steps is not None and modality.step_mask is not None:
                steps = self.pre_projection(normalise(steps)) * modality.step_mask[..., None]
        prepared = replace(modality, pooled=pooled, steps=steps)
        if self.bottleneck is not None:
            prepared.projected = self.bottleneck.project_linearly(prepared.normalised)
        return prepared


class SharedModalities(nn.Module):
    """The shared part of one adapter: a ``SharedModality`` for each of its modalities.

    Args:
        config: The adapter's configuration.
    """

    def __init__(self, config: MultimodalAdapterConfig) -> None:
        super().__init__()
        self.reads = FUSIONS[config.fusion or "none"].reads
        self.projections = nn.ModuleDict(
            {modality_key(modality.name): SharedModality(modality, config) for modality in config.prepared_modalities}
        )

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for projection in self.projections.values():
            cast(SharedModality, projection).reset_parameters()

    def forward(self, inputs: Mapping[str, ModalityInput]) -> dict[str, ModalityInput]:
        """Return the modalities as the sites read them, by name and in their order."""
        prepared = {name: self.projections[modality_key(name)](modality) for name, modality in inputs.items()}
        for modality in prepared.values():
            # Now, and not at the first site: within gradient checkpointing it would be lost to the other sites.
            getattr(modality, self.reads)
        return prepared
