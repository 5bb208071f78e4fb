"""Late fusion of frozen features: small heads on the text's mean states and the modality vectors.

``late_gmu`` is the Gated Multimodal Unit of Arevalo et al. 2017, Gated Multimodal Units for Information Fusion
(https://arxiv.org/abs/1702.01992); ``late_concat`` a network of one hidden layer on all inputs side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GatedMultimodalUnit(nn.Module):
    """``h = Σ_i σ(W_zi x) * tanh(W_i x_i)`` with ``x`` all inputs side by side.

    Of two inputs the gates are one, as in the paper: ``h = z * h_2 + (1 - z) * h_1`` with ``z = σ(W_z x)``. An input
    of zeros adds nothing.

    Args:
        widths: Of the inputs, the text's first.
        hidden_size: Width of ``h``.
    """

    def __init__(self, widths: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        self.transforms = nn.ModuleList([nn.Linear(width, hidden_size, bias=False) for width in widths])
        self.is_bimodal = len(widths) == 2
        n_gates = 1 if self.is_bimodal else len(widths)
        self.gates = nn.ModuleList([nn.Linear(sum(widths), hidden_size, bias=False) for _ in range(n_gates)])

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Fuse inputs (B, D_i) into (B, hidden_size)."""
        joined = torch.cat(list(inputs), dim=1)
        hidden = [torch.tanh(transform(x)) for transform, x in zip(self.transforms, inputs, strict=True)]
        gates = [torch.sigmoid(gate(joined)) for gate in self.gates]
        if self.is_bimodal:
            return gates[0] * hidden[1] + (1.0 - gates[0]) * hidden[0]
        return torch.stack([gate * h for gate, h in zip(gates, hidden, strict=True)]).sum(dim=0)


class GatedHead(nn.Module):
    """``out(dropout(GMU(dropout(x_1), …)))``.

    Args:
        widths: Of the inputs, the text's first.
        hidden_size: Of the unit.
        n_outputs: Number C of logits.
        dropout: Of inputs and unit in training.
    """

    def __init__(self, widths: Sequence[int], hidden_size: int, n_outputs: int, dropout: float) -> None:
        super().__init__()
        self.unit = GatedMultimodalUnit(widths, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden_size, n_outputs)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return logits (B, C) of inputs (B, D_i)."""
        return self.out(self.dropout(self.unit([self.dropout(x) for x in inputs])))


class ConcatenatedHead(nn.Module):
    """``out(dropout(relu(dense(dropout([x_1; …])))))``.

    Args:
        widths: Of the inputs.
        hidden_size: Of the hidden layer.
        n_outputs: Number C of logits.
        dropout: Of inputs and hidden layer in training.
    """

    def __init__(self, widths: Sequence[int], hidden_size: int, n_outputs: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(sum(widths), hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden_size, n_outputs)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return logits (B, C) of inputs (B, D_i)."""
        joined = self.dropout(torch.cat(list(inputs), dim=1))
        return self.out(self.dropout(torch.relu(self.dense(joined))))
