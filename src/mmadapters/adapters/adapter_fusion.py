"""The second stage of AdapterFusion: adapters that were trained apart become members of one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from mmadapters.adapters.composition import ATTENTION
from mmadapters.adapters.config import AdapterMember, MultimodalAdapterConfig
from mmadapters.adapters.layer import MultimodalTunerLayer
from mmadapters.adapters.model import MultimodalAdapterModel
from mmadapters.errors import ConfigurationError, did_you_mean, listed


def add_adapter_fusion(
    model: PeftModel,
    adapter_name: str,
    members: Sequence[str],
    *,
    fusion: str = ATTENTION,
    start_from: str | None = None,
    **options: Any,
) -> None:
    """Add an adapter that fuses others, which stay as they are, and make it the active one.

    Its members are frozen copies: only the fusion and a new head learn, and saving it saves the members with it, so
    that it loads without them. Pfeiffer et al. 2020 (https://arxiv.org/abs/2005.00247).

    Args:
        model: A PEFT model with the members loaded.
        adapter_name: Name of the new adapter.
        members: Names of at least two adapters of the model. ``"fused.poster"`` names the member ``poster`` of the
            AdapterFusion ``fused``.
        fusion: ``adapter_fusion_attention`` or ``adapter_fusion_gated``.
        start_from: An AdapterFusion of the model whose fusion weights the new one starts from, for a member that joins
            later; both use attention, whose weights do not depend on the number of members.
        options: Further options of ``MultimodalAdapterConfig``, such as ``modality_dropout``, ``bottleneck_size`` (of
            the gated fusion), ``labels`` or ``modules_to_save``.

    Raises:
        ConfigurationError: If an adapter does not exist or cannot be a member, or the options cannot be used.
    """
    tuner = model.base_model
    if not isinstance(tuner, MultimodalAdapterModel):
        raise ConfigurationError(
            f"add_adapter_fusion was given a {type(tuner).__name__}. It needs a PEFT model with multimodal adapters."
        )
    found = [_member(tuner, name) for name in members]
    config = MultimodalAdapterConfig(
        fusion=fusion, members=found, task_type=model.peft_config[model.active_adapters[0]].task_type, **options
    )
    source = None if start_from is None else _fusion_to_start_from(tuner, start_from, fusion)
    model.add_adapter(adapter_name, config)
    for layer in tuner.model.modules():
        if isinstance(layer, MultimodalTunerLayer):
            _copy_members(layer, adapter_name, members)
            if source is not None and adapter_name in layer.mmadapter_blocks and source in layer.mmadapter_blocks:
                _copy(layer.mmadapter_blocks[source], layer.mmadapter_blocks[adapter_name])
    model.set_adapter(adapter_name)


def _member(tuner: MultimodalAdapterModel, name: str) -> AdapterMember:
    owner, _, member_name = name.partition(".")
    config = tuner.peft_config.get(owner)
    if config is None:
        raise ConfigurationError(
            f"There is no adapter '{owner}'. Load it first: model.load_adapter(folder, adapter_name='{owner}'). The "
            f"model has {listed(tuner.peft_config)}.{did_you_mean(owner, list(tuner.peft_config))}"
        )
    if not member_name:
        return AdapterMember(name, _as_trained(config))
    for member in config.members:
        if member.name == member_name:
            return member
    raise ConfigurationError(
        f"The adapter '{owner}' has no member '{member_name}'. Its members are "
        f"{listed(member.name for member in config.members) if config.members else 'none'}."
    )


def _as_trained(config: MultimodalAdapterConfig) -> MultimodalAdapterConfig:
    """Return a member's configuration without what belongs to its own head and place on disk."""
    member = copy.deepcopy(config)
    member.labels = member.problem_type = member.modules_to_save = None
    member.base_model_name_or_path = None
    member.inference_mode = True
    return member


def _fusion_to_start_from(tuner: MultimodalAdapterModel, name: str, fusion: str) -> str:
    config = tuner.peft_config.get(name)
    if config is None or config.fusion != ATTENTION or fusion != ATTENTION:
        raise ConfigurationError(
            f"start_from='{name}' with fusion='{fusion}' cannot be used: both must be AdapterFusions of the model with "
            f"fusion='{ATTENTION}'."
        )
    return name


def _copy_members(layer: MultimodalTunerLayer, adapter_name: str, sources: Sequence[str]) -> None:
    own = layer.members(adapter_name)
    for source in sources:
        owner, _, member_name = source.partition(".")
        target = own.get(member_name or owner)
        if target is not None:
            origin = layer.members(owner)[member_name] if member_name else layer.mmadapter_blocks[owner]
            _copy(origin, target)


def _copy(origin: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        target.load_state_dict(origin.state_dict())
