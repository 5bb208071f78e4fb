"""How text and modalities are fused inside the bottleneck: one small class per fusion, all with one signature.

Notation: ``z_t`` (B, L, p) are the projected text states, ``z_i`` (B, p) the projected modality i, zero where it is
missing. Modality vectors are never repeated over tokens: a gate's weight is split into the part that reads text and
the part that reads modalities, and the latter is evaluated once per example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GATE_INIT_STD = 0.02


class Fusion(nn.Module):
    """Fuse text and modalities in the bottleneck.

    Args:
        bottleneck_size: Width ``p``.
        n_modalities: Number m of modalities.
    """

    def __init__(self, bottleneck_size: int, n_modalities: int) -> None:
        super().__init__()
        self.bottleneck_size = bottleneck_size
        self.n_modalities = n_modalities

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""

    def forward(
        self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse.

        Args:
            text: (B, L, p) projected text states.
            modalities: m tensors (B, p), zero where the modality is missing.
            present: m bool tensors (B,), False where the modality is missing.
            with_gates: Whether the gates are wanted.

        Returns:
            The fused states (B, L, p), and None or the gates (B, L, 1 + m, p): the text's, then the modalities' in
            their order, zero where a modality is missing.
        """
        raise NotImplementedError

    def parts(self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
        """Return what text and modalities each bring into the fused states.

        Args:
            text: As ``forward`` takes it.
            modalities: As ``forward`` takes them.
            present: As ``forward`` takes them.

        Returns:
            (B, L, 1 + m, p), zero where a modality is missing. Its sum over the third dimension is what ``forward``
            gives, but for a bias that belongs to none.
        """
        raise NotImplementedError


class GatedMultimodalUnit(Fusion):
    """``Σ_k g_k · z_k`` with ``g_k = σ(W_k [z_t; z_1; …; z_m])``, without bias and not normalised.

    A Gated Multimodal Unit (Arevalo et al. 2017, https://arxiv.org/abs/1702.01992) over any number of modalities, as
    the adapters use it: the gates read the projected features.
    """

    def __init__(self, bottleneck_size: int, n_modalities: int) -> None:
        super().__init__(bottleneck_size, n_modalities)
        width = (1 + n_modalities) * bottleneck_size
        self.gate = nn.Linear(width, width, bias=False)

    def reset_parameters(self) -> None:
        """Draw the gates' weights from N(0, 0.02²), so that every gate starts near one half."""
        nn.init.normal_(self.gate.weight, std=GATE_INIT_STD)

    def forward(
        self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse; see ``Fusion.forward``."""
        from_text, from_modalities = self.gate.weight.split(
            [self.bottleneck_size, self.n_modalities * self.bottleneck_size], dim=1
        )
        logits = F.linear(text, from_text) + F.linear(torch.cat(list(modalities), dim=-1), from_modalities)[:, None]
        gates = self._gates(logits.unflatten(-1, (1 + self.n_modalities, self.bottleneck_size)), present)
        # Taken apart at once: the gradient of each part alone would be as large as that of all. Not by unbind, of which
        # torch.compile makes a wrong gradient on the CPU (torch 2.13).
        of_text, *of_modalities = gates.flatten(-2).split(self.bottleneck_size, dim=-1)
        fused = of_text * text
        for gate, modality in zip(of_modalities, modalities, strict=True):
            fused = torch.addcmul(fused, gate, modality[:, None])
        return fused, _zero_where_missing(gates, present) if with_gates else None

    def parts(self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
        """Return ``g_k · z_k``; see ``Fusion.parts``."""
        _, gates = self(text, modalities, present, with_gates=True)
        return gates * _side_by_side(text, modalities)

    def _gates(self, logits: Tensor, present: Sequence[Tensor]) -> Tensor:
        """Return the gates for ``logits`` (B, L, 1 + m, p)."""
        return torch.sigmoid(logits)


class ComplementaryGate(Fusion):
    """``g · z_t + (1 - g) · z_1`` with ``g = σ(W [z_t; z_1])``, for one modality; ``g = 1`` where it is missing."""

    def __init__(self, bottleneck_size: int, n_modalities: int = 1) -> None:
        super().__init__(bottleneck_size, n_modalities)
        self.gate = nn.Linear(2 * bottleneck_size, bottleneck_size, bias=False)

    def reset_parameters(self) -> None:
        """Draw the gate's weight from N(0, 0.02²), so that it starts near one half."""
        nn.init.normal_(self.gate.weight, std=GATE_INIT_STD)

    def forward(
        self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse; see ``Fusion.forward``. The two gates of a token add up to one."""
        (modality,), (is_present,) = modalities, present
        from_text, from_modality = self.gate.weight.split(self.bottleneck_size, dim=1)
        logits = F.linear(text, from_text) + F.linear(modality, from_modality)[:, None]
        gate = torch.sigmoid(logits).masked_fill(~is_present[:, None, None], 1.0)
        modality = modality[:, None]
        fused = torch.addcmul(modality, gate, text - modality)
        return fused, torch.stack([gate, 1.0 - gate], dim=-2) if with_gates else None

    def parts(self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
        """Return ``g · z_t`` and ``(1 - g) · z_1``; see ``Fusion.parts``."""
        _, gates = self(text, modalities, present, with_gates=True)
        return gates * _side_by_side(text, modalities)


class SoftmaxGatedMultimodalUnit(GatedMultimodalUnit):
    """A GMU whose gates are normalised: for each unit they add up to one over the text and the present modalities."""

    def _gates(self, logits: Tensor, present: Sequence[Tensor]) -> Tensor:
        applies = _applies(present)[:, None, :, None]
        return torch.softmax(logits.masked_fill(~applies, -torch.inf), dim=-2)


class SumFusion(Fusion):
    """``z_t + Σ_i z_i``: no gates, for ablations."""

    def forward(
        self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse; see ``Fusion.forward``. There are no gates."""
        return text + torch.stack(list(modalities)).sum(dim=0)[:, None], None

    def parts(self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
        """Return ``z_k``; see ``Fusion.parts``."""
        return _side_by_side(text, modalities)


class ConcatFusion(Fusion):
    """``W [z_t; z_1; …; z_m] + b``: no gates, for ablations."""

    def __init__(self, bottleneck_size: int, n_modalities: int) -> None:
        super().__init__(bottleneck_size, n_modalities)
        self.mix = nn.Linear((1 + n_modalities) * bottleneck_size, bottleneck_size)

    def reset_parameters(self) -> None:
        """Draw the weight so that the result has about the variance of the text alone; the bias is zero."""
        nn.init.normal_(self.mix.weight, std=1.0 / math.sqrt(self.mix.in_features))
        nn.init.zeros_(self.mix.bias)

    def forward(
        self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor], with_gates: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse; see ``Fusion.forward``. There are no gates."""
        from_text, from_modalities = self.mix.weight.split(
            [self.bottleneck_size, self.n_modalities * self.bottleneck_size], dim=1
        )
        per_example = F.linear(torch.cat(list(modalities), dim=-1), from_modalities, self.mix.bias)
        return F.linear(text, from_text) + per_example[:, None], None

    def parts(self, text: Tensor, modalities: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
        """Return ``W_k z_k``, without the bias; see ``Fusion.parts``."""
        weights = self.mix.weight.split(self.bottleneck_size, dim=1)
        mixed = [F.linear(z, weight) for z, weight in zip((text, *modalities), weights, strict=True)]
        return _side_by_side(mixed[0], mixed[1:])


def _side_by_side(text: Tensor, modalities: Sequence[Tensor]) -> Tensor:
    """Return text (B, L, p) and modalities (B, p) as one tensor (B, L, 1 + m, p)."""
    return torch.stack([text, *(z[:, None].expand_as(text) for z in modalities)], dim=2)


def _applies(present: Sequence[Tensor]) -> Tensor:
    """Return (B, 1 + m) bool: the text always applies, a modality where it is present."""
    return torch.stack([torch.ones_like(present[0]), *present], dim=1)


def _zero_where_missing(gates: Tensor, present: Sequence[Tensor]) -> Tensor:
    """Return the gates (B, L, 1 + m, p) with zeros for missing modalities, whose ``z`` is zero anyway."""
    return gates * _applies(present)[:, None, :, None]
