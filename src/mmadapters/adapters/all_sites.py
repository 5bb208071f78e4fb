"""Each modality's way into the bottlenecks of all sites at once: few large operations instead of many small ones.

What a site reads of a modality does not depend on the text, so it is known before the encoder runs. Only the products
with the sites' own down-projections stay apart, since stacking their weights would cost as much as it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from mmadapters.adapters.adapter import MultimodalAdapter
from mmadapters.adapters.autograd import SiteProjections, runs_in_full_precision
from mmadapters.adapters.bottleneck import NON_LINEARITIES, BottleneckProjection, SharedProjectionView
from mmadapters.adapters.inputs import ModalityInput


def project_for_all_sites(adapters: Sequence[MultimodalAdapter], inputs: Mapping[str, ModalityInput]) -> list[Tensor]:
    """Return what ``MultimodalAdapter.project`` returns, for several sites of one adapter.

    Args:
        adapters: At S sites, all of one configuration.
        inputs: The batch's modalities by name.

    Returns:
        For each site (B, m, p): each modality's ``z_i``, zero where it is missing.
    """
    by_modality = [_by_site([adapter.projection(name) for adapter in adapters], inputs[name]) for name in inputs]
    return list(torch.stack(by_modality, dim=2).unbind(0))


def _by_site(projections: Sequence[BottleneckProjection | SharedProjectionView], modality: ModalityInput) -> Tensor:
    """Return one modality's ``z_i`` at all sites, (S, B, p)."""
    first = projections[0]
    if isinstance(first, SharedProjectionView):
        linear = _viewed(cast(Sequence[SharedProjectionView], projections), cast(Tensor, modality.projected))
        expansions = None
    else:
        own = cast(Sequence[BottleneckProjection], projections)
        linear = _down(own, modality.normalised)
        expansions = [projection.expand for projection in own] if first.expand is not None else None
    activated = NON_LINEARITIES[first.non_linearity](linear)
    # Expansions have no bias, so what is zero stays zero.
    by_site = torch.where(modality.present[:, None], activated, torch.zeros_like(activated))
    if expansions is None:
        return by_site
    return torch.stack([expand(z) for expand, z in zip(expansions, by_site, strict=True) if expand is not None])


def _down(projections: Sequence[BottleneckProjection], normalised: Tensor) -> Tensor:
    """Return the down-projections (S, B, size) of ``normalised`` (B, D), each site with its own affine part."""
    if runs_in_full_precision(normalised, projections[0].down.weight):
        of_sites = [(of_site.layer_norm, of_site.down) for of_site in projections]
        return SiteProjections.apply(
            normalised,
            *(values for norm, down in of_sites for values in (norm.weight, norm.bias, down.weight, down.bias)),
        )
    weight = torch.stack([projection.layer_norm.weight for projection in projections])[:, None]
    bias = torch.stack([projection.layer_norm.bias for projection in projections])[:, None]
    read = (normalised * weight + bias).unbind(0)
    return torch.stack(
        [F.linear(x, of_site.down.weight, of_site.down.bias) for x, of_site in zip(read, projections, strict=True)]
    )


def _viewed(views: Sequence[SharedProjectionView], shared: Tensor) -> Tensor:
    """Return the sites' views (S, B, p) of ``shared`` (B, p), before the non-linearity."""
    units = torch.stack([view.units for view in views])
    weight = torch.stack([view.weight for view in views])
    blocks = shared[:, units].unflatten(-1, weight.shape[1:3])
    return torch.einsum("bsgi,sgij->sbgj", blocks, weight).flatten(2)
