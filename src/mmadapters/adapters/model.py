"""The PEFT tuner: puts adapters into a model and carries modality inputs to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from mmadapters.adapters.adapter import MultimodalAdapter
from mmadapters.adapters.all_sites import project_for_all_sites
from mmadapters.adapters.call import batch_shape, checked_gate_request, device_of, text_arguments, with_gates
from mmadapters.adapters.composition import ATTENTION, GATED
from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.context import (
    CONTRIBUTIONS,
    ForwardState,
    ModalityContext,
    has_reentrant_checkpoints,
    keep_context_in_checkpoints,
)
from mmadapters.adapters.heads import declare_head
from mmadapters.adapters.inputs import check_names
from mmadapters.adapters.layer import MERGING, MultimodalAdapterLayer, MultimodalTunerLayer, SharedModalityLayer
from mmadapters.adapters.prefix import STATES, FrozenPrefix
from mmadapters.adapters.preparation import BASE, FeatureBatch, prepare_adapter, rows_by_adapter
from mmadapters.adapters.sites import Site, SiteMap, chosen_layers, find_sites, unite_sites
from mmadapters.adapters.summary import AdapterSummary, summarise
from mmadapters.errors import ConfigurationError, InputError, did_you_mean, listed

FORWARD_ARGUMENTS = ("modality_features", "modality_mask", "output_gates", STATES)
"""What the tuner adds to the model's forward: features and masks by modality name, whether gates are returned, and what
a ``FrozenPrefix`` kept."""

SHARED = "multimodal_shared"
"""Attribute of the adapted model that holds what its sites share."""

ADAPTER_PARTS = ("text", "projections", "fusion", "gate", "up", "down", "layer_norm", "mmadapter_blocks", SHARED)
"""Names of an adapter's own parts, which no adapter may have."""


class MultimodalAdapterModel(BaseTuner):
    """Gated multimodal adapters in a frozen text encoder, as a PEFT tuner.

    Made by ``peft.get_peft_model(model, MultimodalAdapterConfig(…))``. The forward pass then accepts, beside the
    model's own arguments:

    - ``modality_features``: by modality name, floats (B, D), or (B, T, D) for a sequence, which is averaged over
      its valid steps;
    - ``modality_mask``: by modality name, bool (B,), or (B, T); False where the modality is missing. A modality
      without mask is present. The content of what is masked, NaN included, cannot change the output;
    - ``output_gates``: ``True`` adds ``gates`` (B, sites, 1 + m) to the output, each a mean over valid tokens and
      units, the text's gate first; ``"full"`` adds a tuple with one dictionary a site, from ``text`` and each modality
      name to (B, L, p). The gate of a missing modality is 0. Since a gate alone is no contribution,
      ``"contributions"`` adds ``gates`` (B, sites, 1 + m) with the Euclidean norm of the part of the update that
      comes from the text and from each modality, a mean over valid tokens; it works for fusions without gates, too.
    """

    prefix = "mmadapter_"
    tuner_layer_cls = MultimodalTunerLayer
    target_module_mapping: dict[str, list[str]] = {}

    model: nn.Module
    peft_config: dict[str, MultimodalAdapterConfig]

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter to every site; see ``BaseTuner.inject_adapter``.

        Raises:
            UnsupportedBackboneError: If the model contains no known encoder.
            ConfigurationError: If paths, layers, labels or the adapter's name cannot be used.
        """
        first = "context" not in self.__dict__
        config = self.peft_config[adapter_name]
        _check_adapter_name(adapter_name, model, config.modules_to_save or ())
        site_map = _site_map(model, config)
        if first:
            self.context = ModalityContext()
            self.site_maps: dict[str, SiteMap] = {}
            self.frozen_prefix: FrozenPrefix | None = None
        self.site_maps[adapter_name] = site_map
        self._injecting = adapter_name
        declare_head(model, adapter_name, config, adapter_name in self.active_adapters)
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        self.set_leave_out(config.leave_out, adapter_name)
        if first:
            self._hooks = [
                model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
                model.register_forward_hook(self._after_forward, with_kwargs=True, always_call=True),
            ]

    @property
    def site_layers(self) -> list[int]:
        """The layer of each entry of the active adapter's gates, in their order."""
        return [site.layer for site in self.gate_sites]

    @property
    def gate_sites(self) -> list[Site]:
        """The place of each entry of the active adapter's gates, in their order."""
        name = self.active_adapters[0]
        left_out = () if self.model.training else self._left_out(name)
        return [site for site in self.site_maps[name].run_sites if site.layer not in left_out]

    @property
    def gate_names(self) -> list[str]:
        """What the active adapter's gates are of, in their order; empty where its fusion has none."""
        return self.peft_config[self.active_adapters[0]].gate_names

    @property
    def contribution_names(self) -> list[str]:
        """What the active adapter's contributions are of, in their order."""
        config = self.peft_config[self.active_adapters[0]]
        return config.gate_names or ["text", *config.modality_names]

    def set_leave_out(self, layers: Sequence[int], adapter_name: str | None = None) -> None:
        """Choose the layers whose adapters are skipped in evaluation mode; it is saved with the configuration.

        Args:
            layers: Layers, counted from 0, negative numbers from the last; none for no adapter to be skipped.
            adapter_name: The adapter; without a name the active one.

        Raises:
            ConfigurationError: If there is no such layer.
        """
        name = adapter_name or self.active_adapters[0]
        site_map = self.site_maps[name]
        self.peft_config[name].leave_out = list(layers)
        left_out = chosen_layers("leave_out", list(layers), site_map.n_layers) if layers else []
        for site in site_map.sites:
            layer = self._layer(site)
            (layer.left_out.add if site.layer in left_out else layer.left_out.discard)(name)

    def adapter_summary(self, adapter_name: str | None = None) -> AdapterSummary:
        """Return sites, modalities and parameters of an adapter; printing it gives a table.

        Args:
            adapter_name: The adapter; without a name the active one.
        """
        name = adapter_name or self.active_adapters[0]
        return summarise(self.model, name, self.peft_config[name], self.site_maps[name])

    def _prepare_adapter_config(self, peft_config: PeftConfig, model_config: dict) -> PeftConfig:
        return peft_config

    def _check_target_module_exists(self, peft_config: PeftConfig, key: str) -> bool:
        return key in self.site_maps[self._injecting].by_path

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        config, site_map = self.peft_config[adapter_name], self.site_maps[adapter_name]
        if not hasattr(self.model, SHARED):
            # Not earlier: with a PEFT layer in it, PEFT would not take the encoder for one to be frozen.
            setattr(self.model, SHARED, SharedModalityLayer(self.model))
            self._shared.set_adapter(self.active_adapters)
        if adapter_name not in self._shared.mmadapter_blocks:
            self._shared.update_layer(adapter_name, config)
        site = site_map.by_path[current_key]
        if isinstance(target, MultimodalAdapterLayer):
            layer = target
        else:
            layer = MultimodalAdapterLayer(parent, target, site, site_map.hidden_size, self.context)
            layer.train(target.training)
            layer.set_adapter(self.active_adapters)
            setattr(parent, target_name, layer)
        layer.update_layer(adapter_name, config, site_map.members_at(site))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; the remaining ones and the encoder stay as they are."""
        was_active = adapter_name in self.active_adapters
        super().delete_adapter(adapter_name)
        self.site_maps.pop(adapter_name, None)
        if was_active and self.active_adapters:
            # Sites that do not have the same adapters would each choose another one.
            self.set_adapter(self.active_adapters)

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
        if merge:
            raise ConfigurationError(MERGING)
        for hook in self._hooks:
            hook.remove()
        delattr(self.model, SHARED)
        return super()._unload_and_optionally_merge(merge, *args, **kwargs)

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return re.sub(rf"(\.{cls.prefix}[a-z]+)\.{re.escape(adapter_name)}\.", r"\1.", key)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Take ``adapter_names``, one for each row of the batch, as PEFT's LoRA does; PeftModel calls it."""
        adapter_names = kwargs.get("adapter_names")
        if adapter_names is None:
            yield
            return
        _check_adapter_names(adapter_names, list(self.site_maps), self.model.training)
        handles = [
            module.register_forward_pre_hook(
                lambda _, args, kwargs: (args, {**kwargs, "adapter_names": list(adapter_names)}), with_kwargs=True
            )
            for module in self.model.modules()
            if isinstance(module, AuxiliaryTrainingWrapper)
        ]
        self.context.adapter_names = list(adapter_names)
        try:
            yield
        finally:
            self.context.adapter_names = None
            for handle in handles:
                handle.remove()

    def _before_forward(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take our arguments out of the call and put them where the adapters look."""
        ours = {name: kwargs.pop(name) for name in FORWARD_ARGUMENTS if name in kwargs}
        self.context.state = None
        if self._shared.disable_adapters:
            return args, kwargs
        text = text_arguments(model, args, kwargs)
        state = ForwardState(
            output_gates=checked_gate_request(ours.get("output_gates", False)),
            attention_mask=text.get("attention_mask"),
            prefix_states=self._checked_prefix(ours.get(STATES), text),
        )
        self._prepare(state, ours.get("modality_features"), ours.get("modality_mask"), text)
        if state.output_gates:
            self._check_gates_exist(state)
            state.gate_names = self.contribution_names if state.output_gates == CONTRIBUTIONS else self.gate_names
        if model.training and torch.is_grad_enabled():
            keep_context_in_checkpoints(model, self.context, reentrant_accepted=not self._shares_parameters)
        self.context.state = state
        return args, kwargs

    def _after_forward(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Add the gates to the output where they were asked for, and forget the inputs, also after an error."""
        state, self.context.state = self.context.state, None
        if state is None or output is None:
            return output
        gates, state.gates = state.gates, None
        if not state.output_gates or not gates:
            return output
        if state.output_gates == "full":
            named = (dict(zip(state.gate_names, site.unbind(dim=2), strict=True)) for site in gates)
            return with_gates(output, tuple(named))
        return with_gates(output, torch.stack(gates, 1))

    def _checked_prefix(self, states: Any, text: Mapping[str, Any]) -> torch.Tensor | None:
        if states is not None and self.frozen_prefix is None:
            raise InputError(f"{STATES} was given, but no FrozenPrefix is installed in the model. Install one first.")
        return (
            None
            if states is None or self.frozen_prefix is None
            else self.frozen_prefix.checked(states, batch_shape(text))
        )

    @property
    def _shared(self) -> SharedModalityLayer:
        return cast(SharedModalityLayer, getattr(self.model, SHARED))

    @property
    def _shares_parameters(self) -> bool:
        blocks = self._shared.mmadapter_blocks
        return any(p.requires_grad for n in self.active_adapters for p in blocks[n].parameters())

    def _prepare(self, state: ForwardState, features: Any, masks: Any, text: Mapping[str, Any]) -> None:
        """Fill in what the adapters of the batch read."""
        batch_size, state.length = batch_shape(text)
        mixed = self.context.adapter_names
        names = self.active_adapters
        if mixed is not None:
            state.rows = rows_by_adapter(mixed, batch_size, device_of(text))
            names = list(state.rows)
        configs = {name: self.peft_config[name] for name in names}
        check_names(list(dict.fromkeys(n for c in configs.values() for n in c.modality_names)), features, masks)
        batch = FeatureBatch(features, masks, batch_size)
        for name, config in configs.items():
            own = batch if state.rows is None else batch.select(config.modality_names, state.rows[name])
            parameter = next(self._layer(self.site_maps[name].sites[0]).adapter(name).parameters())
            state.inputs |= prepare_adapter(name, config, self._shared, own, parameter, self.model.training)
            self._project(state, name)

    def _project(self, state: ForwardState, adapter_name: str) -> None:
        """Bring the modalities of an adapter into the bottlenecks of all its sites at once."""
        inputs = state.inputs.get(adapter_name)
        at_sites = [self._layer(site) for site in self.site_maps[adapter_name].sites]
        layers = [layer for layer in at_sites if layer.has(adapter_name)]
        adapters = [layer.adapter(adapter_name) for layer in layers]
        if not inputs or not all(isinstance(adapter, MultimodalAdapter) for adapter in adapters):
            return
        if self.model.training and has_reentrant_checkpoints(self.model):
            # Each layer's backward pass would free the graph that the next one needs.
            return
        projected = project_for_all_sites(adapters, inputs)
        state.projected |= {(adapter_name, layer.site.path): z for layer, z in zip(layers, projected, strict=True)}

    def _layer(self, site: Site) -> MultimodalAdapterLayer:
        return cast(MultimodalAdapterLayer, self.model.get_submodule(site.path))

    def _left_out(self, adapter_name: str) -> set[int]:
        sites = self.site_maps[adapter_name].sites
        return {site.layer for site in sites if adapter_name in self._layer(site).left_out}

    def _check_gates_exist(self, state: ForwardState) -> None:
        active = self.active_adapters
        if len(active) != 1 or state.rows is not None:
            raise InputError(f"output_gates needs exactly one active adapter, active are {listed(active)}.")
        config = self.peft_config[active[0]]
        if not config.gate_names and state.output_gates != CONTRIBUTIONS:
            raise InputError(
                f"output_gates was set, but the adapter '{active[0]}' has fusion={config.fusion!r} and no gates. Leave "
                "it out, or use an adapter whose fusion has gates, such as 'gmu'."
            )


def _site_map(model: nn.Module, config: MultimodalAdapterConfig) -> SiteMap:
    """Return the places of an adapter; those of an AdapterFusion are where its members have theirs."""
    if not config.is_composed:
        return find_sites(model, config.encoder_sites, config.layers_to_transform, config.sites)
    members = {
        member.name: find_sites(
            model, member.config.encoder_sites, member.config.layers_to_transform, member.config.sites
        )
        for member in config.members
    }
    if config.fusion == GATED and len({site_map.sites for site_map in members.values()}) > 1:
        raise ConfigurationError(
            f"The members {listed(members)} have adapters in different places, and fusion='{GATED}' needs all of them "
            f"in each place. Use fusion='{ATTENTION}'."
        )
    return unite_sites(members)


def _check_adapter_names(adapter_names: Any, known: list[str], training: bool) -> None:
    if isinstance(adapter_names, str) or not isinstance(adapter_names, Sequence):
        raise InputError(f"adapter_names is {adapter_names!r}. It must be a list with an adapter for each row.")
    if training:
        raise InputError("adapter_names mixes adapters in one batch, which is for inference. Call model.eval() first.")
    unknown = [name for name in dict.fromkeys(adapter_names) if name not in (*known, BASE)]
    if unknown:
        raise InputError(
            f"adapter_names has {listed(unknown)}, the model has the adapters {listed(known)}; '{BASE}' is for rows "
            f"without adapter.{did_you_mean(str(unknown[0]), known)}"
        )


def _check_adapter_name(adapter_name: str, model: nn.Module, modules_to_save: Sequence[str]) -> None:
    """Refuse a name by which PEFT would mix up weights.

    PEFT filters state dictionaries by the parts of a parameter's path, and wraps what ends like a module to be saved.
    """
    parts = set(ADAPTER_PARTS)
    for name, _ in model.named_parameters():
        parts.update(re.sub(r"\.(mmadapter_[a-z]+|modules_to_save)\.[^.]+\.", r".\1.", name).split("."))
    if adapter_name in parts or "." in adapter_name or adapter_name.endswith(tuple(modules_to_save)):
        raise ConfigurationError(
            f"The adapter was named '{adapter_name}', which contains a '.', is the name of a part of the model, "
            f"or ends like one that is saved ({listed(modules_to_save) if modules_to_save else 'none'}), so PEFT "
            "would mix up their weights. Choose another name, for example "
            f"'{adapter_name.replace('.', '_')}_adapter'."
        )
