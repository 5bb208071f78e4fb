"""What goes into an exported model and what comes out, by name: the same for the exporter and for every runtime.

=============================  =======  ==========================  ====================================================
``input_ids`` and others       int64    (batch, length)             the tokenizer's outputs
``modality_features.<name>``   float32  (batch, steps_<name>, D)    a vector is a sequence of one step
``modality_mask.<name>``       bool     (batch, steps_<name>)       False at missing steps; all False: it is missing
``logits``                     float32  (batch, labels)             as ``TextClassifier`` gives them
``gates``                      float32  (batch, sites, 1 + m)       where they were exported
=============================  =======  ==========================  ====================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmadapters.errors import InputError, did_you_mean, listed
from mmadapters.modality import Modality

FEATURES, MASK = "modality_features", "modality_mask"
LOGITS, GATES = "logits", "gates"
BATCH, LENGTH = "batch", "length"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        dtype: ``int64``, ``float32`` or ``bool``.
        shape: A number for a fixed dimension, a name for one that may be of any size.
    """

    dtype: str
    shape: tuple[int | str, ...]

    @property
    def text(self) -> str:
        """For people: ``float32 (batch, steps_poster, 1280)``."""
        return f"{self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of an exported model.

    Attributes:
        text: The tokenizer's outputs that the model reads, ``input_ids`` first.
        modalities: The modalities, in the model's order.
        n_labels: Number of logits.
        n_sites: Number of sites whose gates are given, 0 where there are none.
        n_gates: Number of gates a site.
    """

    text: tuple[str, ...]
    modalities: tuple[Modality, ...]
    n_labels: int
    n_sites: int = 0
    n_gates: int = 0

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """What goes in, by name and in its order: the text, then all features, then all masks."""
        specs = {name: TensorSpec("int64", (BATCH, LENGTH)) for name in self.text}
        for modality in self.modalities:
            shape = (BATCH, f"steps_{modality.name}", modality.feature_dim)
            specs[f"{FEATURES}.{modality.name}"] = TensorSpec("float32", shape)
        for modality in self.modalities:
            specs[f"{MASK}.{modality.name}"] = TensorSpec("bool", (BATCH, f"steps_{modality.name}"))
        return specs

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """What comes out, by name and in its order."""
        specs = {LOGITS: TensorSpec("float32", (BATCH, self.n_labels))}
        if self.n_sites:
            specs[GATES] = TensorSpec("float32", (BATCH, self.n_sites, self.n_gates))
        return specs

    def feeds(
        self,
        text: Mapping[str, np.ndarray],
        features: Mapping[str, np.ndarray] | None = None,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Check what a caller passes, and return the arrays that go into the model.

        Args:
            text: The tokenizer's outputs (B, L), by name.
            features: By modality name, floats (B, D) or (B, T, D). A modality that is not there is missing in all rows.
            masks: By modality name, bool (B,) or (B, T); without one the modality is present in all rows.

        Returns:
            One array for each of ``inputs``.

        Raises:
            InputError: If a name is unknown, a shape does not fit, or a feature that counts is NaN or infinite.
        """
        features, masks = features or {}, masks or {}
        self._check_names(text, features, masks)
        arrays = {name: np.ascontiguousarray(text[name], dtype=np.int64) for name in self.text}
        shape = arrays[self.text[0]].shape
        for name, array in arrays.items():
            if array.ndim != 2 or array.shape != shape or 0 in shape:
                raise InputError(
                    f"'{name}' has the shape {array.shape}. All of {listed(self.text)} are whole numbers (rows, "
                    "tokens) of one shape, with at least one row and one token."
                )
        stepped = {m.name: _steps(m, features.get(m.name), masks.get(m.name), shape[0]) for m in self.modalities}
        arrays |= {f"{FEATURES}.{name}": values for name, (values, _) in stepped.items()}
        return arrays | {f"{MASK}.{name}": mask for name, (_, mask) in stepped.items()}

    def _check_names(self, text: Mapping[str, object], features: Mapping[str, object], masks: Mapping) -> None:
        known = [modality.name for modality in self.modalities]
        for what, given, accepted in (("text", text, self.text), (FEATURES, features, known), (MASK, masks, known)):
            for name in given:
                if name not in accepted:
                    raise InputError(
                        f"{what} has {name!r}, which the exported model does not read. Accepted are {listed(accepted)}."
                        f"{did_you_mean(str(name), accepted)}"
                    )
        absent = [name for name in self.text if name not in text]
        if absent:
            raise InputError(f"The text lacks {listed(absent)}. Pass all of {listed(self.text)}.")


def _steps(
    modality: Modality, values: np.ndarray | None, mask: np.ndarray | None, n_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return features (B, T, D), zero where they are missing, and their mask (B, T)."""
    name, width = modality.name, modality.feature_dim
    if values is None:
        return np.zeros((n_rows, 1, width), np.float32), np.zeros((n_rows, 1), bool)
    values = np.asarray(values, dtype=np.float32)
    if values.ndim not in (2, 3) or (values.shape[0], values.shape[-1]) != (n_rows, width) or 0 in values.shape:
        raise InputError(
            f"{FEATURES}['{name}'] has the shape {values.shape}. For this batch it is ({n_rows}, {width}), or "
            f"({n_rows}, steps, {width}) with at least one step."
        )
    values = values[:, None] if values.ndim == 2 else values
    mask = np.ones(values.shape[:2], bool) if mask is None else np.asarray(mask, dtype=bool)
    mask = np.repeat(mask[:, None], values.shape[1], axis=1) if mask.ndim == 1 else mask
    if mask.shape != values.shape[:2]:
        raise InputError(
            f"{MASK}['{name}'] has the shape {mask.shape}, its features {values.shape}. Pass one value a row, "
            f"({n_rows},), or one a step, {values.shape[:2]}."
        )
    values = np.where(mask[..., None], values, np.float32(0))
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    if len(wrong):
        raise InputError(
            f"{FEATURES}['{name}'] is NaN or infinite in the rows {wrong[:10].tolist()} of the batch"
            f"{' and more' if len(wrong) > 10 else ''}. Mend the features, or mark those rows as missing: "
            f"{MASK}['{name}'][i] = False."
        )
    return np.ascontiguousarray(values), np.ascontiguousarray(mask)


def missing_names(expected: Sequence[str], found: Sequence[str]) -> list[str]:
    """Return what is in one of two lists of names and not in the other, in order."""
    return [name for name in dict.fromkeys((*expected, *found)) if (name in expected) != (name in found)]
