"""Dropout whose noise is drawn fast on the CPU, where drawing takes most of its time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DRAWN_BITS = 16
"""Random bits that decide on one number of a dropout on the CPU."""


def kept_at_random(like: Tensor, probability: float) -> tuple[Tensor, float]:
    """Draw which numbers a dropout keeps.

    On the CPU the drawing is most of a dropout's time, so each 64 bits of the generator decide on four numbers, and the
    probability is rounded to a multiple of 2⁻¹⁶.

    Args:
        like: A tensor of the shape, on the device.
        probability: Of a number being dropped, above 0 and below 1.

    Returns:
        A bool tensor of that shape, and what the kept numbers are multiplied by, so that their mean stays.
    """
    if like.device.type != "cpu":
        kept = torch.empty(like.shape, dtype=torch.bool, device=like.device).bernoulli_(1.0 - probability)
        return kept, 1.0 / (1.0 - probability)
    values = 2**DRAWN_BITS
    count = min(max(round((1.0 - probability) * values), 1), values - 1)
    drawn = torch.empty(-(-like.numel() * DRAWN_BITS // 64), dtype=torch.int64).random_(-(2**63), None)
    numbers = drawn.view(torch.int16)[: like.numel()].view(like.shape)
    return numbers < count - values // 2, values / count


def dropped(values: Tensor, probability: float) -> Tensor:
    """Return ``values`` under a dropout.

    Args:
        values: Of any shape.
        probability: At least 0 and below 1.
    """
    if not probability:
        return values
    if torch.compiler.is_compiling():
        return F.dropout(values, probability)
    kept, scale = kept_at_random(values, probability)
    return values * kept * scale
