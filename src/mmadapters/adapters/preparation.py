"""From the arguments of a forward pass to what the adapters read: checked, masked, dropped, and shared once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.inputs import ModalityInput, draw_kept, drop_modalities, prepare_inputs
from mmadapters.adapters.layer import SharedModalityLayer
from mmadapters.adapters.shared import SharedModalities
from mmadapters.errors import InputError, listed


@dataclass(frozen=True)
class FeatureBatch:
    """What a caller passed.

    Attributes:
        features: ``modality_features``, or None.
        masks: ``modality_mask``, or None.
        batch_size: Number of examples B.
    """

    features: Mapping[str, Any] | None
    masks: Mapping[str, Any] | None
    batch_size: int

    def select(self, names: Sequence[str], rows: Tensor) -> FeatureBatch:
        """Return some rows of some modalities.

        Args:
            names: The modalities.
            rows: Indices (R,) of the rows.
        """
        return FeatureBatch(
            self._selected("modality_features", self.features, names, rows),
            self._selected("modality_mask", self.masks, names, rows),
            len(rows),
        )

    def _selected(
        self, argument: str, tensors: Mapping[str, Any] | None, names: Sequence[str], rows: Tensor
    ) -> dict[str, Tensor]:
        selected = {}
        for name, tensor in (tensors or {}).items():
            if name not in names or tensor is None:
                continue
            if not isinstance(tensor, Tensor) or tensor.dim() == 0 or tensor.shape[0] != self.batch_size:
                given = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
                raise InputError(
                    f"{argument}['{name}'] is of {given}. In a batch of several adapters it is a tensor with a row "
                    f"for each of the {self.batch_size} examples; rows of adapters without that modality are not read."
                )
            selected[name] = tensor[rows.to(tensor.device)]
        return selected


def prepare_adapter(
    adapter_name: str,
    config: MultimodalAdapterConfig,
    shared: SharedModalityLayer,
    batch: FeatureBatch,
    parameter: Tensor,
    training: bool,
) -> dict[str, dict[str, ModalityInput]]:
    """Prepare what one adapter reads.

    Args:
        adapter_name: Its name.
        config: Its configuration.
        shared: The parts that are computed once for all sites.
        batch: What the caller passed.
        parameter: Any parameter of the adapter, for its device and floating-point type.
        training: Whether modalities and features are dropped.

    Returns:
        The modalities by name, under the adapter's name; for an AdapterFusion under ``adapter.member`` for each member.
    """
    parts: dict[str, tuple[MultimodalAdapterConfig, Any]] = {adapter_name: (config, None)}
    if config.is_composed:
        members = shared.members(adapter_name)
        parts = {f"{adapter_name}.{m.name}": (m.config, members[m.name]) for m in config.members}
    kept: dict[str, Tensor] = {}
    prepared = {}
    for key, (part, block) in parts.items():
        if not part.modalities:
            continue
        inputs = prepare_inputs(
            part.prepared_modalities,
            batch.features,
            batch.masks,
            batch.batch_size,
            parameter.device,
            parameter.dtype,
        )
        if training and config.modality_dropout:
            # A modality that two members read is dropped for both.
            kept |= draw_kept({n: m for n, m in inputs.items() if n not in kept}, config.modality_dropout)
            inputs = drop_modalities(inputs, kept)
        if training and not config.is_composed:
            inputs = {name: replace(modality, dropout=config.feature_dropout) for name, modality in inputs.items()}
        share: SharedModalities = block if block is not None else shared.shared(adapter_name)
        prepared[key] = share(inputs)
    return prepared


def rows_by_adapter(adapter_names: Sequence[str], batch_size: int, device: torch.device) -> dict[str, Tensor]:
    """Return the indices of each adapter's rows; ``__base__`` rows get no adapter.

    Args:
        adapter_names: The adapter of each row.
        batch_size: Number of rows.
        device: Where the indices are to be.

    Raises:
        InputError: If there are not as many names as rows.
    """
    if len(adapter_names) != batch_size:
        raise InputError(
            f"adapter_names names {len(adapter_names)} adapters, the batch has {batch_size} rows. Name one for each "
            f"row: {listed(dict.fromkeys(adapter_names))}."
        )
    return {
        name: torch.tensor([row for row, of_row in enumerate(adapter_names) if of_row == name], device=device)
        for name in dict.fromkeys(adapter_names)
        if name != BASE
    }


BASE = "__base__"
"""PEFT's name for a row without adapter."""
