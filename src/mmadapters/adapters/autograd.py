"""The adapters' products as autograd functions of our own, which keep and do less than autograd alone would.

Autograd alone keeps three tensors as large as the hidden states for each site: the noise of the encoder's dropout, what
the adapter's LayerNorm reads, and what it gives. ``SiteFunction`` keeps the second, the noise as one byte a number and
the down-projection's result, from which the rest follows: the gates are computed again in the backward pass, and the
gradients of the LayerNorm are taken into the small products with the down-projection. ``SiteProjections`` does the same
for a modality's way into the bottlenecks of all sites, which all read the same normalised vector.

The forward passes do what the modules do, in their order, and give their numbers; in training each draws its dropout's
noise in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmadapters.adapters.bottleneck import LAYER_NORM_EPS, NON_LINEARITIES
from mmadapters.adapters.dropout import kept_at_random

_ACT_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": lambda gradient, linear: torch.ops.aten.gelu_backward(gradient, linear, approximate="tanh"),
    "relu": lambda gradient, linear: torch.ops.aten.threshold_backward(gradient, linear, 0),
    "tanh": lambda gradient, linear: torch.ops.aten.tanh_backward(gradient, torch.tanh(linear)),
    "swish": lambda gradient, linear: torch.ops.aten.silu_backward(gradient, linear),
    "leakyrelu": lambda gradient, linear: torch.ops.aten.leaky_relu_backward(gradient, linear, 0.01, False),
}


def runs_in_full_precision(states: Tensor, weight: Tensor) -> bool:
    """Tell whether the functions here may stand for the modules: eagerly, in float32 or float64, without autocast.

    Args:
        states: What is read.
        weight: A weight that reads it.
    """
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(states.device.type):
        return False
    return states.dtype == weight.dtype and states.dtype in (torch.float32, torch.float64)


class SiteFunction(torch.autograd.Function):
    """``x + up(dropout(GMU(act(down(LayerNorm(x))), z_1, …, z_m)))``; without modalities there is no GMU.

    ``apply`` takes the hidden states (B, L, H), the projected modalities (B, m, p) and the gates' weight
    ((1 + m)p, (1 + m)p), or None for both, the modules' weights and biases, a name in ``NON_LINEARITIES``, and the
    probabilities of the bottleneck's dropout and of the encoder's dropout that comes before the adapter, 0 in
    evaluation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: Tensor,
        modalities: Tensor | None,
        norm_weight: Tensor,
        norm_bias: Tensor,
        down: Tensor,
        down_bias: Tensor,
        gate: Tensor | None,
        up: Tensor,
        up_bias: Tensor,
        non_linearity: str,
        dropout: float,
        encoder_dropout: float,
    ) -> Tensor:
        """Return the hidden states with the update, (B, L, H)."""
        width = hidden_states.shape[-1]
        states = hidden_states.reshape(-1, width)
        encoder_kept, encoder_scale = None, 1.0
        if encoder_dropout:
            encoder_kept, encoder_scale = kept_at_random(states, encoder_dropout)
            states = (states * encoder_kept).mul_(encoder_scale)
        read, mean, rstd = torch.native_layer_norm(states, (width,), norm_weight, norm_bias, LAYER_NORM_EPS)
        linear = F.linear(read, down, down_bias)
        fused, _ = _fused(NON_LINEARITIES[non_linearity](linear), modalities, gate)
        kept, scale = None, 1.0
        if dropout:
            kept, scale = kept_at_random(fused, dropout)
            fused = (fused * kept).mul_(scale)
        updated = F.linear(fused, up, up_bias).add_(states)
        weights = (norm_weight, norm_bias, down, down_bias, gate, up)
        ctx.save_for_backward(states, mean, rstd, linear, modalities, kept, encoder_kept, *weights)
        ctx.non_linearity, ctx.scale, ctx.encoder_scale = non_linearity, scale, encoder_scale
        return updated.view(hidden_states.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Return the gradients of what ``forward`` takes."""
        states, mean, rstd, linear, modalities, kept, encoder_kept, *weights = ctx.saved_tensors
        norm_weight, norm_bias, down, down_bias, gate, up = weights
        of_output = gradient.reshape(-1, gradient.shape[-1])
        text = NON_LINEARITIES[ctx.non_linearity](linear)
        fused, gates = _fused(text, modalities, gate)
        of_fused = of_output @ up
        if kept is not None:
            fused = (fused * kept).mul_(ctx.scale)
            of_fused.mul_(kept).mul_(ctx.scale)
        of_modalities = of_gate = None
        of_text = of_fused
        if modalities is not None:
            assert gate is not None
            assert gates is not None
            of_text, of_modalities, of_gate = _gmu_gradients(of_fused, text, modalities, gate, gates)
        of_linear = _ACT_GRADIENTS[ctx.non_linearity](of_text, linear)
        of_offset = of_linear.sum(dim=0)
        # LayerNorm's result without affine part is (states - mean) * rstd; only its products are ever needed.
        scaled = of_linear * rstd
        with_normalised = scaled.t() @ states
        with_normalised -= scaled.t() @ mean
        of_states = None
        if ctx.needs_input_grad[0]:
            effective = down * norm_weight
            offset = torch.addmv(down_bias, down, norm_bias)
            slope = (of_linear * (linear - offset)).mean(dim=1, keepdim=True) * (len(down) / states.shape[1])
            slope *= rstd.square()
            centred = effective - effective.mean(dim=1, keepdim=True)
            scale = ctx.encoder_scale
            of_states = torch.addmm(
                of_output,
                torch.cat([scaled, slope * mean], dim=1),
                torch.cat([centred, torch.ones_like(centred[:1])]),
                beta=scale,
                alpha=scale,
            )
            of_states.addcmul_(states, slope, value=-scale)
            if encoder_kept is not None:
                of_states *= encoder_kept
            of_states = of_states.view(gradient.shape)
        return (
            of_states,
            of_modalities,
            (with_normalised * down).sum(dim=0),
            of_offset @ down,
            torch.addcmul(with_normalised * norm_weight, of_offset[:, None], norm_bias),
            of_offset,
            of_gate,
            of_output.t() @ fused,
            of_output.sum(dim=0),
            None,
            None,
            None,
        )


class SiteProjections(torch.autograd.Function):
    """``down_s(normalised · weight_s + bias_s)`` for S sites: one modality's way into all their bottlenecks.

    ``apply`` takes the modality's vectors (B, D) under a LayerNorm without affine part, and for each site the affine
    part's weight and bias (D,) and the down-projection's weight (size, D) and bias (size,). It returns (S, B, size).
    """

    @staticmethod
    def forward(ctx: Any, normalised: Tensor, *parameters: Tensor) -> Tensor:
        """Return the projections, (S, B, size)."""
        ctx.save_for_backward(normalised, *parameters)
        sites = _by_four(parameters)
        return torch.stack([F.linear(normalised * w + b, down, offset) for w, b, down, offset in sites])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Return the gradients of what ``forward`` takes."""
        normalised, *parameters = ctx.saved_tensors
        of_normalised = torch.zeros_like(normalised) if ctx.needs_input_grad[0] else None
        gradients: list[Tensor] = []
        for (weight, bias, down, _), of_linear in zip(_by_four(parameters), gradient.unbind(0), strict=True):
            of_offset = of_linear.sum(dim=0)
            with_normalised = of_linear.t() @ normalised
            of_weight = (with_normalised * down).sum(dim=0)
            of_down = with_normalised.mul_(weight).addr_(of_offset, bias)
            gradients += [of_weight, of_offset @ down, of_down, of_offset]
            if of_normalised is not None:
                of_normalised.addcmul_(of_linear @ down, weight)
        return of_normalised, *gradients


def _by_four(parameters: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    return list(zip(*(parameters[place::4] for place in range(4)), strict=True))


def _fused(text: Tensor, modalities: Tensor | None, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return text in the bottleneck (N, p) and modalities (B, m, p) fused (N, p), and the gates (B, L, 1 + m, p)."""
    if modalities is None or gate is None:
        return text, None
    batch_size, count, size = modalities.shape
    gates = _gates(text, modalities, gate)
    fused = gates[:, :, 0] * text.view(batch_size, -1, size)
    for place in range(count):
        fused.addcmul_(gates[:, :, 1 + place], modalities[:, None, place])
    return fused.view(-1, size), gates


def _gates(text: Tensor, modalities: Tensor, gate: Tensor) -> Tensor:
    """Return the gates (B, L, 1 + m, p) of text in the bottleneck (N, p) and modalities (B, m, p)."""
    batch_size, count, size = modalities.shape
    from_text, from_modalities = gate.split([size, count * size], dim=1)
    logits = F.linear(text.view(batch_size, -1, size), from_text)
    logits = logits.add_(F.linear(modalities.flatten(1), from_modalities)[:, None])
    return logits.sigmoid_().unflatten(-1, (1 + count, size))


def _gmu_gradients(
    of_fused: Tensor, text: Tensor, modalities: Tensor, gate: Tensor, gates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the text in the bottleneck (N, p), the modalities (B, m, p) and the gates' weight."""
    batch_size, count, size = modalities.shape
    of_units = of_fused.view(batch_size, -1, 1, size)
    weighted = gates * of_units
    of_text = weighted[:, :, 0].reshape(-1, size)
    of_modalities = weighted[:, :, 1:].sum(dim=1)
    of_logits = torch.addcmul(weighted, weighted, gates, value=-1.0)
    of_logits[:, :, 0] *= text.view(batch_size, -1, size)
    of_logits[:, :, 1:] *= modalities[:, None]
    by_example = of_logits.sum(dim=1).flatten(1)
    by_token = of_logits.view(len(text), -1)
    from_text, from_modalities = gate.split([size, count * size], dim=1)
    of_text = torch.addmm(of_text, by_token, from_text)
    of_modalities = of_modalities + (by_example @ from_modalities).view_as(modalities)
    of_gate = torch.cat([by_token.t() @ text, by_example.t() @ modalities.flatten(1)], dim=1)
    return of_text, of_modalities, of_gate
