"""The PEFT layers: a module of the encoder with the adapters behind it, and the part that all sites share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from mmadapters.adapters.adapter import MultimodalAdapter, SiteAdapter, is_watched
from mmadapters.adapters.composition import build_fusion
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.context import CONTRIBUTIONS, ForwardState, ModalityContext
from mmadapters.adapters.family import build_adapter
from mmadapters.adapters.naming import member_key, name_of
from mmadapters.adapters.shared import SharedModalities
from mmadapters.adapters.sites import Site
from mmadapters.errors import ConfigurationError, InputError, listed

MERGING = (
    "Multimodal adapters cannot be merged into the encoder: what they add depends on the modalities of each example. "
    "Keep the adapter, or call unload() to get the encoder back without it."
)


class MultimodalTunerLayer(nn.Module, BaseTunerLayer):
    """What the layers have in common: blocks by adapter name, and the frozen members of an AdapterFusion.

    Args:
        parent: The module that this layer becomes a part of; new adapters move to the device of its parameters.
    """

    adapter_layer_names = ("mmadapter_blocks", "mmadapter_members")

    # Of PEFT's BaseTunerLayer.
    active_adapters: list[str]
    disable_adapters: bool
    parent: nn.Module
    set_adapter: Callable[..., None]

    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        # Past nn.Module, which would take the parent for a part of this layer.
        self.__dict__["parent"] = parent
        self.mmadapter_blocks = nn.ModuleDict()
        self.mmadapter_members = nn.ModuleDict()
        self.frozen_peft_weight_names: dict[str, tuple[str, ...]] = {}

    def add_block(self, adapter_name: str, block: nn.Module, members: Mapping[str, nn.Module] | None = None) -> None:
        """Add what an adapter has here.

        Args:
            adapter_name: Its name.
            block: What it trains here.
            members: For an AdapterFusion: what its members have here, frozen.
        """
        self.mmadapter_blocks[adapter_name] = block
        if members is not None:
            self.mmadapter_members[adapter_name] = nn.ModuleDict({member_key(n): m for n, m in members.items()})
            self.frozen_peft_weight_names[adapter_name] = ("mmadapter_members",)
        self.set_adapter(self.active_adapters)
        self._move_adapter_to_device_of_base_layer(adapter_name)

    def members(self, adapter_name: str) -> dict[str, nn.Module]:
        """Return the members of an AdapterFusion that are here, by name; none for another adapter."""
        if adapter_name not in self.mmadapter_members:
            return {}
        members = cast(nn.ModuleDict, self.mmadapter_members[adapter_name])
        return {name_of(key): member for key, member in members.items()}

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: what an adapter adds depends on each example."""
        raise ConfigurationError(MERGING)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """Move an adapter to where the encoder is, in its own precision; PEFT calls it after loading."""
        own = (p.device for name, p in self.parent.named_parameters() if "mmadapter_" not in name)
        target = device or next((place for place in own if place.type != "meta"), None)
        for container in (self.mmadapter_blocks, self.mmadapter_members):
            if target is not None and adapter_name in container:
                block = container[adapter_name]
                if not any(p.device.type == "meta" for p in block.parameters()):
                    block.to(target)


class SharedModalityLayer(MultimodalTunerLayer):
    """What adapters compute once a forward pass for all their sites; it sits at the root of the model."""

    def update_layer(self, adapter_name: str, config: MultimodalAdapterConfig) -> None:
        """Add the shared part of an adapter; without a need for one it has no parameters."""
        if not config.is_composed:
            self.add_block(adapter_name, _new_shared(config))
            return
        members = {member.name: _new_shared(member.config) for member in config.members}
        self.add_block(adapter_name, nn.ModuleDict(), members)

    def shared(self, adapter_name: str) -> SharedModalities:
        """Return the shared part of an adapter."""
        return cast(SharedModalities, self.mmadapter_blocks[adapter_name])


class MultimodalAdapterLayer(MultimodalTunerLayer):
    """Runs the module that it wraps and adds the active adapters' updates to its output.

    The wrapped module is the parameter-free dropout behind an attention or feed-forward output where the encoder has
    one, so the adapter sits exactly before Add&LayerNorm and the names of the encoder's own weights do not change.

    Args:
        parent: The module whose part ``base_layer`` is.
        base_layer: The module to wrap.
        site: Where it is.
        hidden_size: Width H of its output.
        context: The model's context, from which adapters read their modalities.
    """

    def __init__(
        self, parent: nn.Module, base_layer: nn.Module, site: Site, hidden_size: int, context: ModalityContext
    ) -> None:
        super().__init__(parent)
        self.base_layer = base_layer
        self.site = site
        self.hidden_size = hidden_size
        self.context = context
        self.left_out: set[str] = set()

    def update_layer(self, adapter_name: str, config: MultimodalAdapterConfig, members: list[str]) -> None:
        """Add an adapter of that name, newly initialised.

        Args:
            adapter_name: Its name.
            config: Its configuration.
            members: For an AdapterFusion: the members that have an adapter at this site.
        """
        if not config.is_composed:
            adapter = build_adapter(config, self.hidden_size)
            adapter.reset_parameters(config.up_init_std)
            self.add_block(adapter_name, adapter)
            return
        # A frozen member is as it is in evaluation, while the fusion learns.
        frozen = {m.name: replace(m.config, dropout=0.0) for m in config.members if m.name in members}
        self.add_block(
            adapter_name,
            build_fusion(str(config.fusion), self.hidden_size, members, config.bottleneck_size, config.non_linearity),
            {name: build_adapter(member, self.hidden_size) for name, member in frozen.items()},
        )

    def adapter(self, adapter_name: str) -> Any:
        """Return what an adapter has at this site: a ``SiteAdapter``, or the fusion of its members."""
        return self.mmadapter_blocks[adapter_name]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the base module's output, (B, L, H), plus the sum of the active adapters' updates."""
        state = self.context.state
        if self.disable_adapters:
            return self.base_layer(*args, **kwargs)
        if state is not None and state.rows is not None:
            return self._mixed(self.base_layer(*args, **kwargs), state, state.rows)
        here = [name for name in self.active_adapters if self.has(name)]
        # Taken into the adapter's step, the encoder's dropout keeps a byte a number for the backward pass and not four.
        rate = _rate(self.base_layer, args) if not kwargs and len(here) == 1 else None
        hidden_states = self.base_layer(*args, **kwargs) if rate is None else args[0]
        updated = self._updated(hidden_states, here[0], state, rate or 0.0) if len(here) == 1 else None
        if updated is not None:
            return updated
        if rate is not None:
            hidden_states = self.base_layer(hidden_states)
        updates = [self._update(hidden_states, name) for name in here]
        for update in updates:
            hidden_states = hidden_states + update
        return hidden_states

    def _updated(
        self, hidden_states: Tensor, adapter_name: str, state: ForwardState | None, encoder_dropout: float
    ) -> Tensor | None:
        """Return the hidden states with the adapter's update in one step, or None where that cannot be done."""
        block = self.adapter(adapter_name)
        if not isinstance(block, MultimodalAdapter) or (state is not None and state.output_gates):
            return None
        projected = None if state is None else state.projected.get((adapter_name, self.site.path))
        if (projected is None and block.modality_names) or not block.runs_as_one(hidden_states):
            return None
        return block.updated(hidden_states, projected, encoder_dropout)

    def has(self, adapter_name: str) -> bool:
        """Tell whether an adapter updates the hidden states here, as long as adapters are not disabled."""
        return adapter_name in self.mmadapter_blocks and (self.training or adapter_name not in self.left_out)

    def _mixed(self, hidden_states: Tensor, state: ForwardState, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the hidden states where each adapter has updated its own rows of the batch."""
        for adapter_name, indices in rows.items():
            if self.has(adapter_name):
                update = self._update(hidden_states[indices], adapter_name)
                hidden_states = hidden_states.index_add(0, indices, update)
        return hidden_states

    def _update(self, hidden_states: Tensor, adapter_name: str) -> Tensor:
        state = self.context.state
        if state is None:
            self._check_needs_no_features(adapter_name)
            state = ForwardState(gates=None)
        block, members = self.adapter(adapter_name), self.members(adapter_name)
        states = hidden_states.to(next(block.parameters()).dtype)
        collecting = bool(state.output_gates) and state.gates is not None
        if members:
            parts = [
                cast(SiteAdapter, member)(states, state.inputs.get(f"{adapter_name}.{name}", {}))[0]
                for name, member in members.items()
            ]
            stacked = torch.stack(parts, dim=2)
            update, gates = block(states, stacked)
            if state.output_gates == CONTRIBUTIONS:
                gates = block.contributions(states, stacked)[..., None]
            gates = _at_members(gates, list(members), state.gate_names)
        else:
            inputs = state.inputs.get(adapter_name, {})
            projected = state.projected.get((adapter_name, self.site.path))
            if projected is None:
                update, gates = block(states, inputs, collecting)
            else:
                update, gates = block.update(states, projected, inputs, collecting)
            if state.output_gates == CONTRIBUTIONS:
                gates = block.contributions(states, inputs)[..., None]
        if collecting and state.gates is not None and gates is not None:
            mask = _fitting(state.attention_mask, gates)
            state.gates.append(gates[:, : state.length] if state.output_gates == "full" else _mean_gates(gates, mask))
        return update.to(hidden_states.dtype)

    def _check_needs_no_features(self, adapter_name: str) -> None:
        parts = self.members(adapter_name).values() or [self.adapter(adapter_name)]
        names = [name for part in parts for name in cast(SiteAdapter, part).modality_names]
        if names:
            raise InputError(
                f"An adapter with the modalities {listed(names)} was run outside of its model's forward pass, so it "
                "has no features. Call the model itself, not the encoder inside it, with modality_features and "
                "modality_mask."
            )


def _new_shared(config: MultimodalAdapterConfig) -> SharedModalities:
    shared = SharedModalities(config)
    shared.reset_parameters()
    return shared


def _rate(module: nn.Module, args: tuple[Any, ...]) -> float | None:
    """Return the probability of a plain dropout at work on the CPU, where it is no single operation; or None."""
    if type(module) is not nn.Dropout or is_watched(module) or module.inplace or len(args) != 1:
        return None
    if args[0].device.type != "cpu":
        return None
    return module.p if module.training and 0.0 < module.p < 1.0 else None


def _at_members(gates: Tensor, present: list[str], names: list[str]) -> Tensor:
    """Return the gates (B, L, n, units) of the members at one site as those of all members, zero for the others."""
    if not names or present == names:
        return gates
    zero = torch.zeros_like(gates[:, :, 0])
    return torch.stack([gates[:, :, present.index(n)] if n in present else zero for n in names], dim=2)


def _fitting(attention_mask: Tensor | None, gates: Tensor) -> Tensor | None:
    """Return the mask at the length of the gates: an encoder may have padded its input further."""
    if attention_mask is None or attention_mask.shape[1] == gates.shape[1]:
        return attention_mask
    return F.pad(attention_mask, (0, gates.shape[1] - attention_mask.shape[1]))


def _mean_gates(gates: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the mean of gates (B, L, 1 + m, units) over units and valid tokens: (B, 1 + m)."""
    by_token = gates.mean(dim=-1)
    if attention_mask is None:
        return by_token.mean(dim=1)
    weights = attention_mask.to(by_token.dtype)[..., None]
    return (by_token * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=torch.finfo(weights.dtype).tiny)
