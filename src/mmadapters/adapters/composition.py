"""AdapterFusion: adapters that were trained apart are fused, frozen, by a small module at each site.

Pfeiffer et al. 2020 (https://arxiv.org/abs/2005.00247). In the first stage each member learns by itself; in the second
only the fusion and the head learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmadapters.adapters.adapter import norms_behind
from mmadapters.adapters.bottleneck import BottleneckProjection

QUERY_INIT_STD = 0.02
UP_INIT_STD = 0.02


class AttentionAdapterFusion(nn.Module):
    """``Σ_k a_k · value(u_k)`` with ``a = softmax_k(query(x) · key(u_k))``, for each token, over the members' updates.

    Args:
        hidden_size: Width H.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size, bias=False)

    def reset_parameters(self) -> None:
        """Start near the members' mean: values are passed on as they are, queries and keys are small."""
        for linear in (self.query, self.key):
            nn.init.normal_(linear.weight, std=QUERY_INIT_STD)
            nn.init.zeros_(linear.bias)
        nn.init.eye_(self.value.weight)

    def forward(self, hidden_states: Tensor, updates: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse.

        Args:
            hidden_states: (B, L, H).
            updates: (B, L, n, H), the members'.

        Returns:
            The update (B, L, H) and the weights (B, L, n, 1).
        """
        weights = self._weights(hidden_states, updates)
        return torch.einsum("bln,blnh->blh", weights, self.value(updates)), weights[..., None]

    def contributions(self, hidden_states: Tensor, updates: Tensor) -> Tensor:
        """Return ``‖a_k · value(u_k)‖``, (B, L, n); for the arguments see ``forward``."""
        return self._weights(hidden_states, updates) * self.value(updates).norm(dim=-1)

    def _weights(self, hidden_states: Tensor, updates: Tensor) -> Tensor:
        return torch.softmax(torch.einsum("blh,blnh->bln", self.query(hidden_states), self.key(updates)), dim=-1)


class GatedAdapterFusion(nn.Module):
    """``up(Σ_k g_k · z_k)`` with ``z_k = act(down_k(LN_k(u_k)))`` and gates that add up to one for each unit.

    With two members ``g_1 = σ(W [z_1; z_2])`` and ``g_2 = 1 - g_1``. More members share a softmax in which the last
    one's logit is 0, of which that is the case of two.

    Args:
        hidden_size: Width H.
        n_members: Number n of members.
        bottleneck_size: Width p.
        non_linearity: Of the bottlenecks.
    """

    def __init__(self, hidden_size: int, n_members: int, bottleneck_size: int, non_linearity: str = "gelu") -> None:
        super().__init__()
        self.bottleneck_size = bottleneck_size
        self.members = nn.ModuleList(
            BottleneckProjection(hidden_size, bottleneck_size, non_linearity) for _ in range(n_members)
        )
        self.gate = nn.Linear(n_members * bottleneck_size, (n_members - 1) * bottleneck_size, bias=False)
        self.up = nn.Linear(bottleneck_size, hidden_size)

    def reset_parameters(self) -> None:
        """Draw the parameters anew; the gates start near 1 / n."""
        for member in self.members:
            member.reset_parameters()  # type: ignore[operator]
        nn.init.normal_(self.gate.weight, std=QUERY_INIT_STD)
        nn.init.normal_(self.up.weight, std=UP_INIT_STD)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden_states: Tensor, updates: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse; see ``AttentionAdapterFusion.forward``. The gates are (B, L, n, p)."""
        z, gates = self._gated(updates)
        return self.up((gates * z).sum(dim=2)), gates

    def contributions(self, hidden_states: Tensor, updates: Tensor) -> Tensor:
        """Return ``‖up(g_k · z_k)‖`` without the bias, (B, L, n); for the arguments see ``forward``."""
        z, gates = self._gated(updates)
        return norms_behind(self.up, gates * z)

    def _gated(self, updates: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.stack([member(update) for member, update in zip(self.members, updates.unbind(2), strict=True)], dim=2)
        logits = self.gate(z.flatten(2)).unflatten(-1, (len(self.members) - 1, self.bottleneck_size))
        return z, torch.softmax(torch.cat([logits, torch.zeros_like(z[:, :, :1])], dim=2), dim=2)


ATTENTION, GATED = "adapter_fusion_attention", "adapter_fusion_gated"
COMPOSITIONS = (ATTENTION, GATED)
"""Values of ``fusion`` for which the configuration names members instead of modalities."""


def build_fusion(
    kind: str, hidden_size: int, members: Sequence[str], bottleneck_size: int, non_linearity: str
) -> AttentionAdapterFusion | GatedAdapterFusion:
    """Return one site's fusion of members, newly initialised.

    Args:
        kind: One of ``COMPOSITIONS``.
        hidden_size: Width H of the hidden states.
        members: The members' names.
        bottleneck_size: Width p of the gated fusion.
        non_linearity: Of the gated fusion's bottlenecks.
    """
    if kind == ATTENTION:
        fusion: AttentionAdapterFusion | GatedAdapterFusion = AttentionAdapterFusion(hidden_size)
    else:
        fusion = GatedAdapterFusion(hidden_size, len(members), bottleneck_size, non_linearity)
    fusion.reset_parameters()
    return fusion
