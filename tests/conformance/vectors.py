"""Reads conformance files and lays their weights out as the library's modules have them.

A file holds tensors `weights.*`, `inputs.*` and `outputs.*`. Sizes are read from the tensors, so that the same tests
run on any folder with the same file names: `MMADAPTERS_CONFORMANCE=<folder> pytest tests/conformance`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(os.environ.get("MMADAPTERS_CONFORMANCE") or Path(__file__).parent / "data")
TOLERANCE = 1e-5
ORDER = ("image", "video", "metadata")
"""The modalities in the order of concatenation; the text comes before them."""


class Vectors:
    """One conformance file: `weights`, `inputs` and `outputs` by name without the group's prefix."""

    def __init__(self, name: str) -> None:
        groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, tensor in load_file(FOLDER / f"{name}.safetensors").items():
            group, _, rest = key.partition(".")
            groups[group][rest] = tensor
        self.weights, self.inputs, self.outputs = groups["weights"], groups["inputs"], groups["outputs"]

    @property
    def modalities(self) -> list[str]:
        """The modalities that the file has inputs for, in the order of concatenation."""
        return [name for name in ORDER if name in self.inputs]


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name starts with `prefix` and a dot, without it."""
    return {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}


def adapter_state(weights: dict[str, Tensor], modalities: list[str]) -> dict[str, Tensor]:
    """Rename one adapter's weights to those of `MultimodalAdapter`."""
    state = {key: value for key, value in weights.items() if key.startswith(("text.", "up."))}
    for name in modalities:
        state |= {f"projections.{name}_modality.{key}": value for key, value in below(weights, name).items()}
    if "gate.weight" in weights:
        state["fusion.gate.weight"] = weights["gate.weight"]
    elif "gate.text.weight" in weights:
        state["fusion.gate.weight"] = torch.cat([weights[f"gate.{name}.weight"] for name in ("text", *modalities)])
    return state


def projected_state(weights: dict[str, Tensor], modality: str, parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Rename the weights of an adapter of one modality, whose parts in the file carry no modality's name."""
    own = {f"projections.{modality}_modality.{key}": w for key, w in weights.items() if key.startswith(parts)}
    return own | {key: weight for key, weight in weights.items() if not key.startswith(parts)}


def gated_state(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a gated fusion's weights to those of `GatedAdapterFusion`."""
    names = {"first.": "members.0.", "second.": "members.1."}
    return {
        next((new + key.removeprefix(old) for old, new in names.items() if key.startswith(old)), key): weight
        for key, weight in weights.items()
    }


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Compare within the tolerance of the conformance files."""
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=TOLERANCE)
