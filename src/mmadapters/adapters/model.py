"""The PEFT tuner: puts adapters into a model and carries modality inputs to them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.context import ForwardState, GateRequest, ModalityContext, keep_context_in_checkpoints
from mmadapters.adapters.inputs import ModalityInput, check_names, drop_modalities, prepare_inputs
from mmadapters.adapters.layer import MultimodalAdapterLayer
from mmadapters.adapters.sites import SiteMap, find_sites
from mmadapters.errors import ConfigurationError, InputError, listed

FORWARD_ARGUMENTS = ("modality_features", "modality_mask", "output_gates")
"""What the tuner adds to the model's forward: features and masks by modality name, and whether gates are returned."""

ADAPTER_PARTS = ("text", "projections", "fusion", "gate", "up", "down", "layer_norm", "mmadapter_blocks")
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
      name to (B, L, p). The gate of a missing modality is 0.
    """

    prefix = "mmadapter_"
    tuner_layer_cls = MultimodalAdapterLayer
    target_module_mapping: dict[str, list[str]] = {}

    model: nn.Module
    peft_config: dict[str, MultimodalAdapterConfig]

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter to every site; see ``BaseTuner.inject_adapter``.

        Raises:
            UnsupportedBackboneError: If the model contains no known encoder.
            ConfigurationError: If paths, layers or the adapter's name cannot be used.
        """
        first = "context" not in self.__dict__
        if first:
            self.context = ModalityContext()
            self.site_maps: dict[str, SiteMap] = {}
        config = self.peft_config[adapter_name]
        _check_adapter_name(adapter_name, model)
        self.site_maps[adapter_name] = find_sites(model, config.encoder_sites, config.layers_to_transform)
        self._injecting = adapter_name
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        if first:
            self._hooks = [
                model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
                model.register_forward_hook(self._after_forward, with_kwargs=True, always_call=True),
            ]

    @property
    def site_layers(self) -> list[int]:
        """The layer of each site of the active adapter, in the order of the gates."""
        return [site.layer for site in self.site_maps[self.active_adapters[0]].sites]

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
        site_map = self.site_maps[adapter_name]
        if isinstance(target, MultimodalAdapterLayer):
            layer = target
        else:
            layer = MultimodalAdapterLayer(target, site_map.by_path[current_key], site_map.hidden_size, self.context)
            layer.train(target.training)
            layer.set_adapter(self.active_adapters)
            setattr(parent, target_name, layer)
        layer.update_layer(adapter_name, peft_config)
        weight = next((p for p in parent.parameters() if p.device.type != "meta"), None)
        adapter = layer.adapter(adapter_name)
        if weight is not None and not any(p.device.type == "meta" for p in adapter.parameters()):
            adapter.to(weight.device)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; the remaining ones and the encoder stay as they are."""
        super().delete_adapter(adapter_name)
        self.site_maps.pop(adapter_name, None)

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
        if merge:
            raise ConfigurationError(
                "Multimodal adapters cannot be merged into the encoder: what they add depends on the modalities of "
                "each example. Keep the adapter, or call unload() to get the encoder back without it."
            )
        for hook in self._hooks:
            hook.remove()
        return super()._unload_and_optionally_merge(merge, *args, **kwargs)

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return re.sub(rf"(\.{cls.prefix}[a-z]+)\.{re.escape(adapter_name)}\.", r"\1.", key)

    def _before_forward(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take our arguments out of the call and put them where the adapters look."""
        ours = {name: kwargs.pop(name) for name in FORWARD_ARGUMENTS if name in kwargs}
        self.context.state = None
        if not self._enabled:
            return args, kwargs
        output_gates = _checked_gate_request(ours.get("output_gates", False))
        text = _text_arguments(model, args, kwargs)
        state = ForwardState(output_gates=output_gates, attention_mask=text.get("attention_mask"))
        state.inputs = self._prepare(ours.get("modality_features"), ours.get("modality_mask"), text)
        if output_gates:
            self._check_gates_exist()
        if model.training and torch.is_grad_enabled():
            keep_context_in_checkpoints(model, self.context)
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
        return _with_gates(output, self._named_gates(gates) if state.output_gates == "full" else torch.stack(gates, 1))

    @property
    def _enabled(self) -> bool:
        return not next(m for m in self.model.modules() if isinstance(m, MultimodalAdapterLayer)).disable_adapters

    def _prepare(self, features: Any, masks: Any, text: Mapping[str, Any]) -> dict[str, dict[str, ModalityInput]]:
        configs = {name: self.peft_config[name] for name in self.active_adapters}
        check_names(list(dict.fromkeys(n for c in configs.values() for n in c.modality_names)), features, masks)
        prepared = {}
        for adapter_name, config in configs.items():
            if not config.modalities:
                continue
            weight = self._parameter(adapter_name)
            inputs = prepare_inputs(config.modalities, features, masks, _batch_size(text), weight.device, weight.dtype)
            if self.model.training:
                if config.modality_dropout:
                    inputs = drop_modalities(inputs, config.modality_dropout)
                inputs = {n: replace(modality, dropout=config.feature_dropout) for n, modality in inputs.items()}
            prepared[adapter_name] = inputs
        return prepared

    def _parameter(self, adapter_name: str) -> Tensor:
        path = self.site_maps[adapter_name].sites[0].path
        return cast(MultimodalAdapterLayer, self.model.get_submodule(path)).adapter(adapter_name).up.weight

    def _check_gates_exist(self) -> None:
        active = self.active_adapters
        if len(active) != 1:
            raise InputError(f"output_gates needs exactly one active adapter, active are {listed(active)}.")
        config = self.peft_config[active[0]]
        if config.fusion == "none":
            raise InputError(
                f"output_gates was set, but the adapter '{active[0]}' has fusion='none' and no gates. Leave it out, "
                "or use an adapter with modalities."
            )

    def _named_gates(self, gates: list[Tensor]) -> tuple[dict[str, Tensor], ...]:
        names = ["text", *self.peft_config[self.active_adapters[0]].modality_names]
        return tuple(dict(zip(names, site.unbind(dim=2), strict=True)) for site in gates)


def _check_adapter_name(adapter_name: str, model: nn.Module) -> None:
    """Refuse a name that is also a part of a parameter's path: PEFT filters state dictionaries by such parts."""
    parts = set(ADAPTER_PARTS)
    for name, _ in model.named_parameters():
        parts.update(re.sub(r"\.(mmadapter_[a-z]+|modules_to_save)\.[^.]+\.", r".\1.", name).split("."))
    if adapter_name in parts or "." in adapter_name:
        raise ConfigurationError(
            f"The adapter was named '{adapter_name}', which contains a '.' or is the name of a part of the model, "
            "so PEFT would mix up their weights on saving. Choose another name, for example "
            f"'{adapter_name.replace('.', '_')}_adapter'."
        )


def _checked_gate_request(value: Any) -> GateRequest:
    if value is None:
        return False
    if value not in (False, True, "full"):
        raise InputError(f"output_gates={value!r}. Accepted are False, True (means) and 'full' (every token and unit).")
    return value


def _text_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the call by name, positional ones included."""
    names = list(inspect.signature(model.forward).parameters)
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _batch_size(text: Mapping[str, Any]) -> int:
    for name in ("input_ids", "inputs_embeds"):
        if text.get(name) is not None:
            return int(text[name].shape[0])
    raise InputError("The model was called without input_ids and without inputs_embeds. Pass one of them.")


def _with_gates(output: Any, gates: Any) -> Any:
    """Return ``output`` with ``gates`` as a further entry."""
    if isinstance(output, dict):
        output["gates"] = gates
        return output
    if isinstance(output, tuple):
        return (*output, gates)
    return (output, gates)
