"""The multimodal adaptation gate (MAG): modalities shift the hidden states, by no more than a bounded amount."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmadapters.adapters.adapter import SiteAdapter
from mmadapters.adapters.bottleneck import LAYER_NORM_EPS, reset_linear
from mmadapters.adapters.inputs import ModalityInput
from mmadapters.adapters.naming import modality_key
from mmadapters.modality import Modality

MAG_BETA = 1e-3
MAG_EPS = 1e-6


class Shift(nn.Module):
    """One modality's ``relu(gate([f; x])) · shift(f)``.

    Args:
        feature_dim: Width D of the features.
        hidden_size: Width H of the hidden states.
    """

    def __init__(self, feature_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.gate = nn.Linear(feature_dim + hidden_size, hidden_size)
        self.shift = nn.Linear(feature_dim, hidden_size)

    def forward(self, hidden_states: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shift of ``hidden_states`` (B, L, H) by ``features`` (B, D), and its gate, both (B, L, H)."""
        from_features, from_text = self.gate.weight.split([self.feature_dim, hidden_states.shape[-1]], dim=1)
        per_example = F.linear(features, from_features, self.gate.bias)[:, None]
        gate = F.relu(F.linear(hidden_states, from_text) + per_example)
        return gate * self.shift(features)[:, None], gate


class MultimodalAdaptationGate(SiteAdapter):
    """``y = LN(x + α·h)`` with ``h = Σ_i relu(gate_i([f_i; x])) · shift_i(f_i)``, after Rahman et al. 2020.

    ``α = min(1, β‖x‖₂ / (‖h‖₂ + ε))`` keeps the shift small against the hidden states
    (https://arxiv.org/abs/1908.05787). Modalities add up; an example without any modality is left as it is. It has
    no bottleneck: its parameters grow with the widths of features and encoder. As gates it reports the units of
    ``relu(gate_i(…))``, which are not bounded by 1, and 1 for the text.

    Args:
        hidden_size: Width H of the hidden states.
        modalities: The modalities.
        pre_projection_size: Width to which all modalities were projected before, or None.
        beta: β.
    """

    def __init__(
        self,
        hidden_size: int,
        modalities: Sequence[Modality],
        pre_projection_size: int | None = None,
        beta: float = MAG_BETA,
    ) -> None:
        super().__init__(modalities)
        self.projections = nn.ModuleDict(
            {
                modality_key(modality.name): Shift(pre_projection_size or modality.feature_dim, hidden_size)
                for modality in modalities
            }
        )
        self.layer_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.beta = beta

    def reset_parameters(self, up_init_std: float) -> None:
        """Draw all parameters anew; there is no up-projection, so ``up_init_std`` has no part in it."""
        for shift in self.projections.values():
            reset_linear(cast(Shift, shift).gate)
            reset_linear(cast(Shift, shift).shift)
        self.layer_norm.reset_parameters()

    def forward(
        self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the update ``y - x``; see ``SiteAdapter.forward``. The gates are (B, L, 1 + m, H)."""
        moved, gates = self._moved(hidden_states, inputs)
        shift = torch.stack(moved).sum(dim=0)
        shifted = self.layer_norm(hidden_states + self._bound(hidden_states, shift) * shift)
        present = torch.stack([inputs[name].present for name in self.modality_names], dim=1)
        update = torch.where(present.any(dim=1)[:, None, None], shifted - hidden_states, 0.0)
        return update, torch.stack([torch.ones_like(hidden_states), *gates], dim=-2) if with_gates else None

    def contributions(self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput]) -> Tensor:
        """Return ``α ‖relu(gate_i(…)) · shift_i(f_i)‖``, before the LayerNorm; the text brings no shift."""
        moved, _ = self._moved(hidden_states, inputs)
        bound = self._bound(hidden_states, torch.stack(moved).sum(dim=0))
        norms = bound * torch.stack(moved, dim=2).norm(dim=-1)
        return torch.cat([torch.zeros_like(bound), norms], dim=-1)

    def _moved(self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput]) -> tuple[list[Tensor], list[Tensor]]:
        """Return each modality's shift and gate, both (B, L, H), zero where it is missing."""
        moved, gates = [], []
        for name in self.modality_names:
            shift, gate = self.projections[modality_key(name)](hidden_states, inputs[name].raw)
            present = inputs[name].present[:, None, None]
            moved.append(shift * present)
            gates.append(gate * present)
        return moved, gates

    def _bound(self, hidden_states: Tensor, shift: Tensor) -> Tensor:
        """Return α (B, L, 1). A shift of zero counts as one of length 1."""
        # The gradient of a norm at zero is NaN times zero: ones take its place before the norm is taken.
        is_zero = (shift == 0).all(dim=-1, keepdim=True)
        length = torch.where(is_zero, torch.ones_like(shift), shift).norm(dim=-1, keepdim=True)
        length = torch.where(is_zero, torch.ones_like(length), length)
        ratio = self.beta * hidden_states.norm(dim=-1, keepdim=True) / (length + MAG_EPS)
        return ratio.clamp(max=1.0)
