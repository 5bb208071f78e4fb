"""The fusions by name: which module sits at a site, and what it can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmadapters.adapters.adaptation_gate import MultimodalAdaptationGate
from mmadapters.adapters.adapter import MultimodalAdapter, SiteAdapter
from mmadapters.adapters.cross_attention import CrossAttentionAdapter
from mmadapters.adapters.fusion import (
    ComplementaryGate,
    ConcatFusion,
    Fusion,
    GatedMultimodalUnit,
    SoftmaxGatedMultimodalUnit,
    SumFusion,
)

if TYPE_CHECKING:
    from mmadapters.adapters.config import MultimodalAdapterConfig


@dataclass(frozen=True)
class FusionFamily:
    """What the configuration must know of a fusion.

    Attributes:
        fusion: The fusion inside the bottleneck, or None for the text alone and for adapters of another form.
        reads: What the sites read of a modality: its ``normalised`` or ``raw`` vector, or its ``raw_steps``.
        has_gates: Whether ``output_gates`` gives something.
        n_modalities: The only accepted number of modalities, or None for one or more.
    """

    fusion: type[Fusion] | None = None
    reads: Literal["normalised", "raw", "raw_steps"] = "normalised"
    has_gates: bool = True
    n_modalities: int | None = None

    @property
    def has_bottleneck(self) -> bool:
        """Whether modalities pass a bottleneck of LayerNorm and down-projection."""
        return self.reads == "normalised"


FUSIONS: dict[str, FusionFamily] = {
    "none": FusionFamily(None, has_gates=False, n_modalities=0),
    "complementary": FusionFamily(ComplementaryGate, n_modalities=1),
    "gmu": FusionFamily(GatedMultimodalUnit),
    "softmax_gmu": FusionFamily(SoftmaxGatedMultimodalUnit),
    "sum": FusionFamily(SumFusion, has_gates=False),
    "concat": FusionFamily(ConcatFusion, has_gates=False),
    "cross_attention": FusionFamily(reads="raw_steps"),
    "mag": FusionFamily(reads="raw"),
}
"""Fusions by name. ``none`` is the text-only bottleneck adapter of Houlsby et al. 2019."""


def build_adapter(config: MultimodalAdapterConfig, hidden_size: int) -> SiteAdapter:
    """Return one site's adapter, not yet initialised.

    Args:
        config: The adapter's configuration.
        hidden_size: Width H of the hidden states.
    """
    modalities = config.modalities
    if config.fusion == "cross_attention":
        return CrossAttentionAdapter(
            hidden_size, modalities, config.bottleneck_size, config.dropout, config.pre_projection_size
        )
    if config.fusion == "mag":
        return MultimodalAdaptationGate(hidden_size, modalities, config.pre_projection_size)
    return MultimodalAdapter(
        hidden_size,
        modalities,
        config.bottleneck_size,
        FUSIONS[config.fusion or "none"].fusion,
        config.non_linearity,
        config.dropout,
        config.share_projections,
        config.pre_projection_size,
    )
