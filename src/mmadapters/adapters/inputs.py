"""From what a caller passes (features and masks by modality name) to what the adapters of one forward pass read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmadapters.adapters.bottleneck import normalise
from mmadapters.adapters.dropout import dropped
from mmadapters.errors import InputError, did_you_mean, listed
from mmadapters.modality import Modality


@dataclass
class ModalityInput:
    """One modality of one batch, as every site reads it.

    Attributes:
        pooled: (B, D) features, a sequence averaged over its valid steps; zeros where the modality is missing.
        present: (B,) bool, False where it is missing.
        steps: (B, T, D), zeros at invalid steps, where the adapter reads the sequence itself.
        step_mask: (B, T) bool, the valid steps, where there are ``steps``.
        projected: (B, p), the linear projection into the bottleneck, where all sites share one.
        dropout: Dropout of what the sites read; 0 in evaluation.
    """

    pooled: Tensor
    present: Tensor
    steps: Tensor | None = None
    step_mask: Tensor | None = None
    projected: Tensor | None = None
    dropout: float = 0.0
    # What was computed once for all sites; functools.cached_property has a lock, which torch.compile cannot trace.
    _computed: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def normalised(self) -> Tensor:
        """``pooled`` (B, D) under a LayerNorm without affine part and dropout, computed once for all sites."""
        if "normalised" not in self._computed:
            self._computed["normalised"] = self._dropped(normalise(self.pooled))
        return self._computed["normalised"]

    @property
    def raw(self) -> Tensor:
        """``pooled`` (B, D) under dropout alone, computed once for all sites."""
        if "raw" not in self._computed:
            self._computed["raw"] = self._dropped(self.pooled)
        return self._computed["raw"]

    @property
    def raw_steps(self) -> tuple[Tensor, Tensor]:
        """``steps`` (B, T, D) under dropout and ``step_mask`` (B, T); without a sequence its one vector."""
        if self.steps is None or self.step_mask is None:
            return self.raw[:, None], self.present[:, None]
        if "steps" not in self._computed:
            self._computed["steps"] = self._dropped(self.steps)
        return self._computed["steps"], self.step_mask

    def _dropped(self, values: Tensor) -> Tensor:
        return dropped(values, self.dropout)


def prepare_inputs(
    modalities: Sequence[Modality],
    features: Mapping[str, Tensor] | None,
    masks: Mapping[str, Tensor] | None,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, ModalityInput]:
    """Check and pool the features of a batch.

    Args:
        modalities: The modalities of one adapter, in their order.
        features: By modality name, floats (B, D) or (B, T, D).
        masks: By modality name, True where the modality is present: bool (B,), or (B, T) for the valid steps of a
            sequence. A modality without mask is present in every example.
        batch_size: Number of examples B.
        device: Where the adapter's parameters are.
        dtype: Floating-point type in which the features are to be.

    Returns:
        By modality name, in the order of ``modalities``. Content of missing examples and of invalid steps, NaN
        included, has no influence.

    Raises:
        InputError: If a required modality is absent, a shape does not fit, or a present feature is NaN or infinite.
    """
    features, masks = features or {}, masks or {}
    prepared = {}
    for modality in modalities:
        mask = _checked_mask(modality, masks.get(modality.name), batch_size, device)
        values = features.get(modality.name)
        if values is None:
            _check_may_be_absent(modality, mask, given=features)
            values = torch.zeros(batch_size, modality.feature_dim, device=device, dtype=dtype)
            mask = torch.zeros(batch_size, dtype=torch.bool, device=device)
        else:
            values = _checked_features(modality, values, batch_size).to(device)
        prepared[modality.name] = _pool(modality, values, mask, dtype)
    return prepared


def check_names(known: Sequence[str], features: object, masks: object) -> None:
    """Refuse features and masks that are no mapping or that name an unknown modality.

    Args:
        known: Names of the modalities of the active adapters.
        features: What the caller passed as ``modality_features``.
        masks: What the caller passed as ``modality_mask``.

    Raises:
        InputError: If one of them is no mapping, or has a key that no active adapter has.
    """
    for argument, given in (("modality_features", features), ("modality_mask", masks)):
        if given is None:
            continue
        if not isinstance(given, Mapping):
            raise InputError(
                f"{argument} is a {type(given).__name__}. It must be a dictionary from modality name to tensor, with "
                f"the names {listed(known)}."
            )
        for name in given:
            if name not in known:
                raise InputError(
                    f"{argument} has the key {name!r}, which is no modality of the active adapter. Its modalities are "
                    f"{listed(known)}.{did_you_mean(str(name), known)}"
                )


def draw_kept(inputs: Mapping[str, ModalityInput], probability: float) -> dict[str, Tensor]:
    """Draw, for each modality and example independently, whether it is kept (modality dropout).

    Args:
        inputs: What ``prepare_inputs`` returned.
        probability: Of dropping one modality of one example.

    Returns:
        By modality name, bool (B,).
    """
    return {
        name: torch.rand(modality.present.shape, device=modality.present.device) >= probability
        for name, modality in inputs.items()
    }


def drop_modalities(
    inputs: Mapping[str, ModalityInput], kept_by_name: Mapping[str, Tensor]
) -> dict[str, ModalityInput]:
    """Return ``inputs`` with modalities made missing in the examples in which they are not kept.

    Args:
        inputs: What ``prepare_inputs`` returned.
        kept_by_name: What ``draw_kept`` returned for the same modalities.
    """
    dropped = {}
    for name, modality in inputs.items():
        kept = kept_by_name[name]
        present = modality.present & kept
        steps, step_mask = modality.steps, modality.step_mask
        if steps is not None and step_mask is not None:
            steps, step_mask = steps * kept[:, None, None], step_mask & kept[:, None]
        dropped[name] = ModalityInput(modality.pooled * present[:, None], present, steps, step_mask)
    return dropped


def _check_may_be_absent(modality: Modality, mask: Tensor | None, given: Mapping[str, Tensor]) -> None:
    masked_out = mask is not None and (torch.compiler.is_compiling() or not bool(mask.any()))
    if modality.required and not masked_out:
        raise InputError(
            f"modality_features has no '{modality.name}' (given: {listed(given)}). Pass a tensor (B, "
            f"{modality.feature_dim}) or (B, T, {modality.feature_dim}); where the whole batch lacks it, pass "
            f"modality_mask['{modality.name}'] = torch.zeros(B, dtype=torch.bool), or declare the modality with "
            "required=False."
        )


def _checked_mask(modality: Modality, mask: Tensor | None, batch_size: int, device: torch.device) -> Tensor | None:
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() not in (1, 2) or mask.shape[0] != batch_size:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"modality_mask['{modality.name}'] is {shape}. It must be a bool tensor ({batch_size},), True where the "
            f"modality is present, or ({batch_size}, T), True at the valid steps of a sequence."
        )
    return mask.to(device=device, dtype=torch.bool)


def _checked_features(modality: Modality, values: Tensor, batch_size: int) -> Tensor:
    width = modality.feature_dim
    if not isinstance(values, Tensor):
        raise InputError(
            f"modality_features['{modality.name}'] is a {type(values).__name__}. It must be a float tensor "
            f"(B, {width}) or (B, T, {width}); torch.as_tensor makes one of an array."
        )
    if values.dim() not in (2, 3) or values.shape[-1] != width:
        raise InputError(
            f"modality_features['{modality.name}'] has the shape {tuple(values.shape)}. The adapter was made for "
            f"(B, {width}) or (B, T, {width}): pass features of that width, or make an adapter with "
            f"Modality('{modality.name}', {values.shape[-1] if values.dim() else 1})."
        )
    if values.shape[0] != batch_size:
        raise InputError(
            f"modality_features['{modality.name}'] has {values.shape[0]} examples, the text has {batch_size}. Both "
            "must describe the same examples in the same order."
        )
    return values


def _pool(modality: Modality, values: Tensor, mask: Tensor | None, dtype: torch.dtype) -> ModalityInput:
    """Return the features, zero where missing: the mean over steps, and the steps where the adapter reads them."""
    keep_steps = modality.pooling in ("attention", "none")
    if values.dim() == 2:
        if mask is not None and mask.dim() == 2:
            raise InputError(
                f"modality_mask['{modality.name}'] has the shape {tuple(mask.shape)} and names steps, but the "
                f"features {tuple(values.shape)} are one vector per example. Pass a mask ({values.shape[0]},)."
            )
        present = mask if mask is not None else values.new_ones(values.shape[0], dtype=torch.bool)
        pooled = values.to(dtype).masked_fill(~present[:, None], 0.0)
        steps, step_mask = pooled[:, None], present[:, None]
    else:
        step_mask = _step_mask(modality, values, mask)
        present = step_mask.any(dim=1)
        steps = values.to(dtype).masked_fill(~step_mask[..., None], 0.0)
        pooled = steps.sum(dim=1) / step_mask.sum(dim=1, keepdim=True).clamp(min=1)
    _check_finite(modality, pooled)
    return ModalityInput(pooled, present, *((steps, step_mask) if keep_steps else (None, None)))


def _step_mask(modality: Modality, values: Tensor, mask: Tensor | None) -> Tensor:
    batch_size, n_steps = values.shape[:2]
    if mask is None:
        return values.new_ones(batch_size, n_steps, dtype=torch.bool)
    if mask.dim() == 1:
        return mask[:, None].expand(batch_size, n_steps)
    if mask.shape[1] != n_steps:
        raise InputError(
            f"modality_mask['{modality.name}'] names {mask.shape[1]} steps, the features {tuple(values.shape)} have "
            f"{n_steps}. Pass a mask ({batch_size}, {n_steps})."
        )
    return mask


def _check_finite(modality: Modality, pooled: Tensor) -> None:
    """Refuse NaN and infinite values of present examples; a compiled or exported graph cannot look at values."""
    if torch.compiler.is_compiling():
        return
    finite = torch.isfinite(pooled).all(dim=1)
    if not bool(finite.all()):
        rows = (~finite).nonzero().flatten().tolist()
        raise InputError(
            f"modality_features['{modality.name}'] is NaN or infinite in the examples {rows[:10]} of the batch"
            f"{' and more' if len(rows) > 10 else ''}. Mend the features, or mark those examples as missing: "
            f"modality_mask['{modality.name}'][i] = False."
        )
