"""The PEFT layer: a module of the encoder together with the adapters that sit behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from mmadapters.adapters.adapter import MultimodalAdapter
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.context import ForwardState, ModalityContext
from mmadapters.adapters.sites import Site
from mmadapters.errors import InputError, listed


class MultimodalAdapterLayer(nn.Module, BaseTunerLayer):
    """Runs the module that it wraps and adds the active adapters' updates to its output.

    The wrapped module is the parameter-free dropout behind an attention or feed-forward output where the encoder has
    one, so the adapter sits exactly before Add&LayerNorm and the names of the encoder's own weights do not change.

    Args:
        base_layer: The module to wrap.
        site: Where it is.
        hidden_size: Width H of its output.
        context: The model's context, from which adapters read their modalities.
    """

    adapter_layer_names = ("mmadapter_blocks",)

    # Of PEFT's BaseTunerLayer.
    active_adapters: list[str]
    disable_adapters: bool
    set_adapter: Callable[..., None]

    def __init__(self, base_layer: nn.Module, site: Site, hidden_size: int, context: ModalityContext) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.site = site
        self.hidden_size = hidden_size
        self.context = context
        self.mmadapter_blocks = nn.ModuleDict()

    def update_layer(self, adapter_name: str, config: MultimodalAdapterConfig) -> None:
        """Add an adapter of that name, newly initialised unless the configuration is for inference only."""
        adapter = MultimodalAdapter(
            self.hidden_size,
            config.modalities,
            bottleneck_size=config.bottleneck_size,
            fusion=config.fusion or "none",
            non_linearity=config.non_linearity,
            dropout=config.dropout,
        )
        adapter.reset_parameters(config.up_init_std)
        self.mmadapter_blocks[adapter_name] = adapter
        self.set_adapter(self.active_adapters)

    def adapter(self, adapter_name: str) -> MultimodalAdapter:
        """Return the adapter of that name at this site."""
        return cast(MultimodalAdapter, self.mmadapter_blocks[adapter_name])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the base module's output, (B, L, H), plus the sum of the active adapters' updates."""
        hidden_states = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return hidden_states
        active = [name for name in self.active_adapters if name in self.mmadapter_blocks]
        updates = [self._update(hidden_states, name) for name in active]
        for update in updates:
            hidden_states = hidden_states + update
        return hidden_states

    def _update(self, hidden_states: Tensor, adapter_name: str) -> Tensor:
        adapter = self.adapter(adapter_name)
        state = self.context.state
        if state is None:
            if adapter.modality_names:
                raise InputError(
                    f"An adapter with the modalities {listed(adapter.modality_names)} was run outside of its model's "
                    "forward pass, so it has no features. Call the model itself, not the encoder inside it, with "
                    "modality_features and modality_mask."
                )
            state = ForwardState(gates=None)
        dtype = adapter.up.weight.dtype
        collecting = bool(state.output_gates) and state.gates is not None
        update, gates = adapter(hidden_states.to(dtype), state.inputs.get(adapter_name, {}), collecting)
        if collecting and state.gates is not None and gates is not None:
            state.gates.append(gates if state.output_gates == "full" else _mean_gates(gates, state.attention_mask))
        return update.to(hidden_states.dtype)


def _mean_gates(gates: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the mean of gates (B, L, 1 + m, p) over units and valid tokens: (B, 1 + m)."""
    by_token = gates.mean(dim=-1)
    if attention_mask is None:
        return by_token.mean(dim=1)
    weights = attention_mask.to(by_token.dtype)[..., None]
    return (by_token * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=torch.finfo(weights.dtype).tiny)
