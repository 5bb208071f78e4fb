"""The adapter of one site as a plain torch module: bottlenecks, fusion, up-projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmadapters.adapters.autograd import SiteFunction, runs_in_full_precision
from mmadapters.adapters.bottleneck import BottleneckProjection, SharedProjectionView
from mmadapters.adapters.fusion import Fusion, GatedMultimodalUnit
from mmadapters.adapters.inputs import ModalityInput
from mmadapters.adapters.naming import modality_key
from mmadapters.modality import Modality


class SiteAdapter(nn.Module):
    """What sits at one site and computes an update of the hidden states.

    Args:
        modalities: The modalities, in the order in which gates and weights are laid out.
    """

    def __init__(self, modalities: Sequence[Modality]) -> None:
        super().__init__()
        self.modality_names = tuple(modality.name for modality in modalities)

    def reset_parameters(self, up_init_std: float) -> None:
        """Draw all parameters anew.

        Args:
            up_init_std: Standard deviation of the up-projection's weight. With 0 the adapter leaves the hidden states
                exactly as they are.
        """
        raise NotImplementedError

    def forward(
        self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the update.

        Args:
            hidden_states: (B, L, H).
            inputs: The batch's modalities by name.
            with_gates: Whether the gates are wanted.

        Returns:
            The update (B, L, H), and the gates (B, L, 1 + m, units) where they are wanted and the fusion has any.
        """
        raise NotImplementedError

    def contributions(self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput]) -> Tensor:
        """Return how long a part of the update comes from the text and from each modality.

        Args:
            hidden_states: (B, L, H).
            inputs: The batch's modalities by name.

        Returns:
            Euclidean norms (B, L, 1 + m), the text's first; 0 where a modality is missing. What belongs to none, such
            as a bias, is in none of them.
        """
        raise NotImplementedError


class MultimodalAdapter(SiteAdapter):
    """A bottleneck adapter whose bottleneck is shared by text and modalities.

    ``update = up(dropout(fusion(z_t, z_1, …, z_m)))``, to be added to the hidden states. Without modalities it is the
    adapter of Houlsby et al. 2019 (https://arxiv.org/abs/1902.00751) with a LayerNorm before the down-projection.

    Args:
        hidden_size: Width H of the hidden states.
        modalities: The modalities, in the order in which gates and weights are laid out.
        bottleneck_size: Width p of the bottleneck.
        fusion: How text and modalities are fused; None for the text alone.
        non_linearity: A name in ``NON_LINEARITIES``.
        dropout: Of the fused bottleneck in training.
        shared_projections: Whether the modalities' linear projections are computed once for all sites, outside of this
            module, which then has a view of each.
        pre_projection_size: Width to which all modalities were projected before, or None.
    """

    def __init__(
        self,
        hidden_size: int,
        modalities: Sequence[Modality],
        bottleneck_size: int = 64,
        fusion: type[Fusion] | None = None,
        non_linearity: str = "gelu",
        dropout: float = 0.0,
        shared_projections: bool = False,
        pre_projection_size: int | None = None,
    ) -> None:
        super().__init__(modalities)
        self.text = BottleneckProjection(hidden_size, bottleneck_size, non_linearity)
        self.projections = nn.ModuleDict(
            {
                modality_key(modality.name): SharedProjectionView(bottleneck_size, non_linearity)
                if shared_projections
                else BottleneckProjection(
                    pre_projection_size or modality.feature_dim,
                    bottleneck_size,
                    non_linearity,
                    own_size=modality.bottleneck_size,
                )
                for modality in modalities
            }
        )
        self.fusion = fusion(bottleneck_size, len(modalities)) if fusion else None
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck_size, hidden_size)

    def projection(self, modality_name: str) -> BottleneckProjection | SharedProjectionView:
        """Return the way of a modality into the bottleneck: the site's own, or its view of the shared one."""
        return cast(BottleneckProjection | SharedProjectionView, self.projections[modality_key(modality_name)])

    def reset_parameters(self, up_init_std: float) -> None:
        """Draw all parameters anew; see ``SiteAdapter.reset_parameters``."""
        for part in (self.text, *self.projections.values(), self.fusion):
            if part is not None:
                cast(BottleneckProjection | Fusion, part).reset_parameters()
        nn.init.normal_(self.up.weight, std=up_init_std)
        nn.init.zeros_(self.up.bias)

    def forward(
        self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the update; see ``SiteAdapter.forward``. The gates are (B, L, 1 + m, p)."""
        return self.update(hidden_states, self.project(inputs), inputs, with_gates)

    def update(
        self,
        hidden_states: Tensor,
        projected: Tensor | None,
        inputs: Mapping[str, ModalityInput],
        with_gates: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the update from modalities that are in the bottleneck already.

        Args:
            hidden_states: (B, L, H).
            projected: What ``project`` returned.
            inputs: The batch's modalities by name.
            with_gates: Whether the gates are wanted.
        """
        fused, gates = self.text(hidden_states), None
        if self.fusion is not None and projected is not None:
            present = [inputs[name].present for name in self.modality_names]
            fused, gates = self.fusion(fused, projected.unbind(1), present, with_gates)
        return self.up(self.dropout(fused)), gates

    def contributions(self, hidden_states: Tensor, inputs: Mapping[str, ModalityInput]) -> Tensor:
        """Return ``‖up · part_k‖``; see ``SiteAdapter.contributions``."""
        text, projected = self.text(hidden_states), self.project(inputs)
        parts = text[:, :, None]
        if self.fusion is not None and projected is not None:
            present = [inputs[name].present for name in self.modality_names]
            parts = self.fusion.parts(text, projected.unbind(1), present)
        return norms_behind(self.up, parts)

    def runs_as_one(self, hidden_states: Tensor) -> bool:
        """Tell whether ``updated`` may take the place of ``update``.

        It may with a GMU or the text alone, in float32 or float64, where nothing watches the modules inside.

        Args:
            hidden_states: (B, L, H).
        """
        return (
            runs_in_full_precision(hidden_states, self.up.weight)
            and (self.fusion is None or type(self.fusion) is GatedMultimodalUnit)
            and not any(is_watched(module) for module in self.modules())
        )

    def updated(self, hidden_states: Tensor, projected: Tensor | None, encoder_dropout: float = 0.0) -> Tensor:
        """Return the hidden states plus the update (B, L, H), in one step that keeps less for the backward pass.

        Args:
            hidden_states: (B, L, H), for which ``runs_as_one``.
            projected: What ``project`` returned.
            encoder_dropout: Probability of a dropout of the hidden states that comes first.
        """
        text, up = self.text, self.up
        return SiteFunction.apply(
            hidden_states,
            projected,
            text.layer_norm.weight,
            text.layer_norm.bias,
            text.down.weight,
            text.down.bias,
            self.fusion.gate.weight if isinstance(self.fusion, GatedMultimodalUnit) else None,
            up.weight,
            up.bias,
            text.non_linearity,
            self.dropout.p if self.dropout.training else 0.0,
            encoder_dropout,
        )

    def project(self, inputs: Mapping[str, ModalityInput]) -> Tensor | None:
        """Return each modality's ``z_i``, zero where it is missing: (B, m, p), or None without modalities."""
        projected = []
        for name in self.modality_names:
            modality, projection = inputs[name], self.projection(name)
            if isinstance(projection, BottleneckProjection):
                z = projection.project_normalised(modality.normalised)
            else:
                z = projection(modality.projected)
            projected.append(torch.where(modality.present[:, None], z, torch.zeros_like(z)))
        return torch.stack(projected, dim=1) if projected else None


def norms_behind(up: nn.Linear, parts: Tensor) -> Tensor:
    """Return ``‖up(part) - bias‖`` over the last dimension, without making the products.

    Args:
        up: A linear layer from p.
        parts: (..., p).

    Returns:
        (...).
    """
    gram = up.weight.t() @ up.weight
    return ((parts @ gram) * parts).sum(dim=-1).clamp(min=0.0).sqrt()


def is_watched(module: nn.Module) -> bool:
    """Tell whether a module has hooks, which would not be called if its work were done elsewhere."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
