"""What an adapter is made of: sites, modalities, parameters by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.layer import MultimodalTunerLayer
from mmadapters.adapters.naming import name_of
from mmadapters.adapters.sites import SiteMap
from mmadapters.modality import Modality


@dataclass(frozen=True)
class AdapterSummary:
    """What an adapter is made of.

    Attributes:
        adapter: Its name.
        fusion: How text and modalities, or members, are fused.
        modalities: What it reads beside the text, in its order.
        members: Names of the members of an AdapterFusion.
        sites: Number of places in the encoder.
        layers: The layers that have adapters.
        parameters: Number of parameters by part: the text's bottleneck, each modality at all sites, what the sites
            share, the fusion, the frozen members, the head.
        backbone: Number of parameters of the frozen model, its own head not counted.
        bytes: Size of the adapter's weights, the head included.
    """

    adapter: str
    fusion: str
    modalities: list[Modality]
    members: list[str]
    sites: int
    layers: list[int]
    parameters: dict[str, int]
    backbone: int
    bytes: int

    @property
    def adapters(self) -> int:
        """Number of parameters of the adapters: everything but the head and frozen members."""
        return sum(n for part, n in self.parameters.items() if part not in ("head", "members, frozen"))

    @property
    def share(self) -> float:
        """The adapters' parameters as a share of the backbone's."""
        return self.adapters / self.backbone

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "adapter": self.adapter,
            "fusion": self.fusion,
            "modalities": {modality.name: modality.feature_dim for modality in self.modalities},
            "members": self.members,
            "sites": self.sites,
            "layers": self.layers,
            "parameters": self.parameters,
            "adapters": self.adapters,
            "backbone": self.backbone,
            "share_of_backbone": self.share,
            "bytes": self.bytes,
        }

    def __str__(self) -> str:
        read = ", ".join(f"{modality.name} ({modality.feature_dim})" for modality in self.modalities) or "text only"
        width = max(len(part) for part in (*self.parameters, "backbone, frozen"))
        lines = [
            f"adapter '{self.adapter}': {self.fusion}, {self.sites} sites in layers {_ranges(self.layers)}",
            f"reads: {read}",
            *([f"members: {', '.join(self.members)}"] if self.members else []),
            *(f"  {part:<{width}}  {n:>12,}  {n / self.backbone:>7.2%}" for part, n in self.parameters.items()),
            f"  {'backbone, frozen':<{width}}  {self.backbone:>12,}",
            f"adapters: {self.adapters:,} parameters, {self.share:.2%} of the backbone; {self.bytes / 1e6:.1f} MB "
            "with the head",
        ]
        return "\n".join(lines)


def summarise(
    model: nn.Module, adapter_name: str, config: MultimodalAdapterConfig, site_map: SiteMap
) -> AdapterSummary:
    """Count what an adapter has in a model.

    Args:
        model: The adapted model.
        adapter_name: The adapter.
        config: Its configuration.
        site_map: Its places.
    """
    parts: dict[str, list[Tensor]] = {}
    head: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, MultimodalTunerLayer):
            for path, parameter in _own(module, adapter_name):
                parts.setdefault(_part(path, module), []).append(parameter)
        elif isinstance(module, AuxiliaryTrainingWrapper) and adapter_name in getattr(module, "modules_to_save", {}):
            head += list(module.modules_to_save[adapter_name].parameters())
    if head:
        parts["head"] = head
    return AdapterSummary(
        adapter=adapter_name,
        fusion=str(config.fusion),
        modalities=list(config.modalities),
        members=[member.name for member in config.members],
        sites=len(site_map.sites),
        layers=sorted({site.layer for site in site_map.sites}),
        parameters={part: sum(t.numel() for t in tensors) for part, tensors in parts.items()},
        backbone=_backbone_parameters(model),
        bytes=sum(t.numel() * t.element_size() for tensors in parts.values() for t in tensors),
    )


def _own(layer: MultimodalTunerLayer, adapter_name: str) -> Iterable[tuple[str, Tensor]]:
    for container in ("mmadapter_blocks", "mmadapter_members"):
        blocks = getattr(layer, container)
        if adapter_name in blocks:
            for path, parameter in blocks[adapter_name].named_parameters():
                yield f"{container}.{path}", parameter


def _part(path: str, layer: MultimodalTunerLayer) -> str:
    """Return the part of an adapter that a parameter belongs to, by its path within the layer."""
    container, _, rest = path.partition(".")
    if container == "mmadapter_members":
        return "members, frozen"
    first, _, rest = rest.partition(".")
    if first == "projections":
        name = name_of(rest.partition(".")[0])
        return f"{name}, at each site" if hasattr(layer, "base_layer") else f"{name}, shared by all sites"
    return "text bottleneck" if first in ("text", "up") else "fusion"


def _backbone_parameters(model: nn.Module) -> int:
    """Return the number of the encoder's own parameters: neither of any PEFT layer, nor of a head."""
    others: set[int] = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            base = getattr(module, "base_layer", None)
            kept = set() if base is None else {id(p) for p in base.parameters()}
            others |= {id(p) for p in module.parameters()} - kept
        elif isinstance(module, AuxiliaryTrainingWrapper):
            others |= {id(p) for p in module.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in others)


def _ranges(layers: list[int]) -> str:
    whole = len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if whole else ", ".join(map(str, layers))
