"""The adapter of one site as a plain torch module: bottlenecks, fusion, up-projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmadapters.adapters.bottleneck import BottleneckProjection
from mmadapters.adapters.fusion import ComplementaryGate, Fusion, GatedMultimodalUnit
from mmadapters.adapters.inputs import ModalityInput
from mmadapters.modality import Modality

FUSIONS: dict[str, type[Fusion] | None] = {
    "none": None,
    "complementary": ComplementaryGate,
    "gmu": GatedMultimodalUnit,
}
"""Fusions by name. ``none`` is the text-only bottleneck adapter of Houlsby et al. 2019."""


class MultimodalAdapter(nn.Module):
    """A bottleneck adapter whose bottleneck is shared by text and modalities.

    ``update = up(dropout(fusion(z_t, z_1, …, z_m)))``, to be added to the hidden states. Without modalities it is the
    adapter of Houlsby et al. 2019 (https://arxiv.org/abs/1902.00751) with a LayerNorm before the down-projection.

    Args:
        hidden_size: Width H of the hidden states.
        modalities: The modalities, in the order in which gates and weights are laid out.
        bottleneck_size: Width p of the bottleneck.
        fusion: A name in ``FUSIONS``.
        non_linearity: A name in ``NON_LINEARITIES``.
        dropout: Of the fused bottleneck in training.
    """

    def __init__(
        self,
        hidden_size: int,
        modalities: Sequence[Modality],
        bottleneck_size: int = 64,
        fusion: str = "gmu",
        non_linearity: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.modality_names = tuple(modality.name for modality in modalities)
        self.text = BottleneckProjection(hidden_size, bottleneck_size, non_linearity)
        self.projections = nn.ModuleDict(
            {
                # A prefix, as nn.ModuleDict refuses the names of its own attributes, such as "type".
                f"modality_{modality.name}": BottleneckProjection(modality.feature_dim, bottleneck_size, non_linearity)
                for modality in modalities
            }
        )
        fusion_class = FUSIONS[fusion]
        self.fusion = fusion_class(bottleneck_size, len(modalities)) if fusion_class else None
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck_size, hidden_size)

    def projection(self, modality_name: str) -> BottleneckProjection:
        """Return the way of a modality into the bottleneck."""
        return cast(BottleneckProjection, self.projections[f"modality_{modality_name}"])

    def reset_parameters(self, up_init_std: float) -> None:
        """Draw all parameters anew.

        Args:
            up_init_std: Standard deviation of the up-projection's weight. With 0 the adapter leaves the hidden states
                exactly as they are.
        """
        for part in (self.text, *map(self.projection, self.modality_names), self.fusion):
            if part is not None:
                part.reset_parameters()
        nn.init.normal_(self.up.weight, std=up_init_std)
        nn.init.zeros_(self.up.bias)

    def forward(
        self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the update.

        Args:
            hidden_states: (B, L, H).
            inputs: The batch's modalities by name.
            with_gates: Whether the gates are wanted.

        Returns:
            The update (B, L, H), and the gates (B, L, 1 + m, p) where they are wanted and the fusion has any.
        """
        fused, gates = self.text(hidden_states), None
        if self.fusion is not None:
            present = [inputs[name].present for name in self.modality_names]
            fused, gates = self.fusion(fused, self.project(inputs), present, with_gates)
        return self.up(self.dropout(fused)), gates

    def project(self, inputs: Mapping[str, ModalityInput]) -> list[Tensor]:
        """Return each modality's ``z_i`` (B, p), zero where it is missing."""
        projected = []
        for name in self.modality_names:
            z = self.projection(name).project_normalised(inputs[name].normalised)
            projected.append(torch.where(inputs[name].present[:, None], z, torch.zeros_like(z)))
        return projected
