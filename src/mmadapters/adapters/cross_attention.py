"""Cross-attention over unpooled sequences: the text looks at the frames of a video or the regions of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmadapters.adapters.adapter import SiteAdapter, norms_behind
from mmadapters.adapters.bottleneck import reset_linear
from mmadapters.adapters.inputs import ModalityInput
from mmadapters.adapters.naming import modality_key
from mmadapters.modality import Modality


class KeyValue(nn.Module):
    """One modality's keys and values.

    Args:
        feature_dim: Width D of a step.
        bottleneck_size: Width p of keys and values.
    """

    def __init__(self, feature_dim: int, bottleneck_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(feature_dim, bottleneck_size)
        self.value = nn.Linear(feature_dim, bottleneck_size, bias=False)

    def forward(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``steps`` (B, T, D) to keys and values (B, T, p)."""
        return self.key(steps), self.value(steps)


class CrossAttentionAdapter(SiteAdapter):
    """``up(dropout(softmax(q · key(f)ᵀ) value(f)))`` with ``q = query(x) · p^-½``, over all steps of all modalities.

    Several modalities have keys and values of their own and share one softmax. An example without any valid step gets
    no update. As gates it reports the share of attention that each modality's steps get, and 1 for the text, which the
    skip connection passes on as it is.

    Args:
        hidden_size: Width H of the hidden states.
        modalities: The modalities; a vector is a sequence of one step.
        bottleneck_size: Width p of queries, keys and values.
        dropout: Of the attended values in training.
        pre_projection_size: Width to which all modalities were projected before, or None.
    """

    def __init__(
        self,
        hidden_size: int,
        modalities: Sequence[Modality],
        bottleneck_size: int = 64,
        dropout: float = 0.0,
        pre_projection_size: int | None = None,
    ) -> None:
        super().__init__(modalities)
        self.query = nn.Linear(hidden_size, bottleneck_size)
        self.projections = nn.ModuleDict(
            {
                modality_key(modality.name): KeyValue(pre_projection_size or modality.feature_dim, bottleneck_size)
                for modality in modalities
            }
        )
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck_size, hidden_size)
        self.scale = 1.0 / math.sqrt(bottleneck_size)

    def reset_parameters(self, up_init_std: float) -> None:
        """Draw all parameters anew; see ``SiteAdapter.reset_parameters``."""
        reset_linear(self.query)
        for projection in self.projections.values():
            reset_linear(cast(KeyValue, projection).key)
            reset_linear(cast(KeyValue, projection).value)
        nn.init.normal_(self.up.weight, std=up_init_std)
        nn.init.zeros_(self.up.bias)

    def forward(
        self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the update; see ``SiteAdapter.forward``. The gates are (B, L, 1 + m, 1)."""
        weights, values, valid, lengths = self._attended(hidden_states, inputs)
        update = self.up(self.dropout(weights @ values)) * valid.any(dim=-1, keepdim=True)
        if not with_gates:
            return update, None
        shares = [part.sum(dim=-1) for part in weights.split(lengths, dim=-1)]
        return update, torch.stack([torch.ones_like(shares[0]), *shares], dim=-1)[..., None]

    def contributions(self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput]) -> Tensor:
        """Return the norms of what each modality's steps bring; the text brings nothing into this update."""
        weights, values, _, lengths = self._attended(hidden_states, inputs)
        parts = [w @ v for w, v in zip(weights.split(lengths, dim=-1), values.split(lengths, dim=1), strict=True)]
        norms = norms_behind(self.up, torch.stack(parts, dim=2))
        return torch.cat([torch.zeros_like(norms[..., :1]), norms], dim=-1)

    def _attended(
        self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput]
    ) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """Return weights (B, L, T), values (B, T, p), valid steps (B, 1, T), and each modality's number of steps."""
        steps, masks = zip(*(inputs[name].raw_steps for name in self.modality_names), strict=True)
        parts = [self.projections[modality_key(n)](s) for n, s in zip(self.modality_names, steps, strict=True)]
        keys, values = (torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True))
        valid = torch.cat(masks, dim=1)[:, None]
        scores = (self.query(hidden_states) * self.scale) @ keys.transpose(1, 2)
        # The lowest finite number, so that a row without valid steps has no NaN; its weights are zeroed.
        weights = torch.softmax(scores.masked_fill(~valid, torch.finfo(scores.dtype).min), dim=-1) * valid
        return weights, values, valid, [step.shape[1] for step in steps]
