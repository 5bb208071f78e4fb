"""Where the adapters' updates come from in one row, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmadapters.plots.explanation import heat
from mmadapters.plots.picture import Picture
from mmadapters.plots.style import new_figure, picture_of, short, style

TALLEST_ROW, LOWEST_ROW = 0.32, 0.22
"""Inches of a layer: of few, and of many."""
FEW_LAYERS = 12


def draw_layer_shares(
    names: Sequence[str], layers: Sequence[int], shares: np.ndarray, present: Sequence[bool]
) -> Picture:
    """Draw the share of each source in the updates of each layer of one row.

    Args:
        names: The K sources.
        layers: The indices of the layers.
        shares: (layers, K).
        present: By source whether the row has it; the others stay empty.
    """
    shown = np.where(np.asarray(present, dtype=bool)[None, :], shares, np.nan)
    height = TALLEST_ROW if len(layers) <= FEW_LAYERS else LOWEST_ROW
    with style("layer-shares"):
        # Narrow, so that it is readable on a telephone.
        figure, (axes,) = new_figure(0.9 + 0.62 * max(len(names), 3), 1.3 + height * len(layers))
        heat(axes, shown, 0.0, 1.0)
        axes.set_xticks(range(len(names)), [short(name, 18) for name in names], rotation=40, ha="right")
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
        axes.set_ylabel("layer")
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        for row, column in np.argwhere(np.isnan(shown)):
            axes.text(column, row, "–", ha="center", va="center", color="#555555", fontsize=8)
        absent = [name for name, has in zip(names, present, strict=True) if not has]
        missing = f" The row has no {', '.join(absent)}." if absent else ""
        largest = [names[place] for place in np.nanargmax(shown, axis=1)]
        told = ", ".join(f"{layer}: {name}" for layer, name in zip(layers, largest, strict=True))
        return picture_of(
            figure,
            "layer-shares",
            "Where each layer's update comes from",
            f"The largest share by layer – {told}.{missing}",
        )
