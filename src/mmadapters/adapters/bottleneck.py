"""The first half of an adapter: LayerNorm, down-projection and non-linearity, for text states and for modalities."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-5
VIEW_BLOCK = 2

NON_LINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "tanh": torch.tanh,
    "swish": F.silu,
    "leakyrelu": partial(F.leaky_relu, negative_slope=0.01),
}
"""Non-linearities of an adapter by name. ``gelu`` is the tanh approximation."""


class BottleneckProjection(nn.Module):
    """``act(down(LayerNorm(x)))``: the way of text states or of one modality into the bottleneck.

    Args:
        in_features: Width of the input.
        bottleneck_size: Width ``p`` of the output.
        non_linearity: A name in ``NON_LINEARITIES``.
        own_size: Width of the down-projection where it is not ``bottleneck_size``; a linear map without bias then leads
            from it to ``bottleneck_size``.
    """

    def __init__(
        self, in_features: int, bottleneck_size: int, non_linearity: str = "gelu", own_size: int | None = None
    ) -> None:
        super().__init__()
        size = own_size or bottleneck_size
        self.layer_norm = nn.LayerNorm(in_features, eps=LAYER_NORM_EPS)
        self.down = nn.Linear(in_features, size)
        self.expand = nn.Linear(size, bottleneck_size, bias=False) if size != bottleneck_size else None
        self.non_linearity = non_linearity

    def reset_parameters(self) -> None:
        """Draw the projections from N(0, 1 / in_features), so that their output has unit variance at any width."""
        for linear in (self.down, self.expand):
            if linear is not None:
                reset_linear(linear)
        self.layer_norm.reset_parameters()

    def forward(self, states: Tensor) -> Tensor:
        """Project ``states`` (..., in_features) to (..., bottleneck_size)."""
        return self._from_normalised(self.layer_norm(states))

    def project_normalised(self, normalised: Tensor) -> Tensor:
        """Project what ``normalise`` returned, (..., in_features), to (..., bottleneck_size).

        The statistics of a modality's LayerNorm do not depend on the site, so all sites share one ``normalise`` and
        each applies its own affine part here. The result is that of ``forward``.
        """
        return self._from_normalised(normalised * self.layer_norm.weight + self.layer_norm.bias)

    def project_linearly(self, normalised: Tensor) -> Tensor:
        """Project what ``normalise`` returned, (..., in_features), to (..., bottleneck_size) without non-linearity."""
        projected = self.down(normalised * self.layer_norm.weight + self.layer_norm.bias)
        return projected if self.expand is None else self.expand(projected)

    def _from_normalised(self, states: Tensor) -> Tensor:
        projected = NON_LINEARITIES[self.non_linearity](self.down(states))
        return projected if self.expand is None else self.expand(projected)


class SharedProjectionView(nn.Module):
    """One site's view of a projection that all sites share: ``act(R h)`` with a block-diagonal ``R``.

    Without it all sites would see the same few hidden units. Pairs of units that start rotated against each other, and
    whose 2 x 2 matrices learn, give each site units of its own for 2p parameters. The pairs are drawn for each site.

    Args:
        bottleneck_size: Width p.
        non_linearity: A name in ``NON_LINEARITIES``.
    """

    units: Tensor

    def __init__(self, bottleneck_size: int, non_linearity: str) -> None:
        super().__init__()
        block = math.gcd(bottleneck_size, VIEW_BLOCK)
        self.weight = nn.Parameter(torch.empty(bottleneck_size // block, block, block))
        self.register_buffer("units", torch.arange(bottleneck_size))
        self.non_linearity = non_linearity

    def reset_parameters(self) -> None:
        """Draw the units of the blocks, and a random rotation for each block."""
        for block in self.weight:
            nn.init.orthogonal_(block)
        if self.units.device.type != "meta":
            self.units = torch.randperm(len(self.units), device=self.units.device)

    def forward(self, shared: Tensor) -> Tensor:
        """Map ``shared`` (B, p), the linear projection, to (B, p)."""
        blocks = shared[:, self.units].unflatten(-1, self.weight.shape[:2])
        return NON_LINEARITIES[self.non_linearity](torch.einsum("bgi,gij->bgj", blocks, self.weight).flatten(1))


def reset_linear(linear: nn.Linear) -> None:
    """Draw a linear layer's weight from N(0, 1 / in_features); its bias, where it has one, is zero."""
    nn.init.normal_(linear.weight, std=1.0 / math.sqrt(linear.in_features))
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def normalise(features: Tensor) -> Tensor:
    """Return ``features`` (..., D) with zero mean and unit variance over the last dimension: LayerNorm without affine.

    Args:
        features: Floating-point features of one modality.
    """
    return F.layer_norm(features, features.shape[-1:], eps=LAYER_NORM_EPS)
