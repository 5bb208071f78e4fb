"""Rows of a data set made into a batch: padding, feature arrays and the masks that say what is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.data.data_collator import pad_without_fast_tokenizer_warning

from mmadapters.data.padding import stack_features
from mmadapters.errors import ConfigurationError
from mmadapters.modality import Modality

PREFIX_STATES = "prefix_states"
"""Of a row whose text has been through the frozen layers already: what came out, (L_i, H)."""


class MultimodalCollator:
    """Pads rows to the longest of the batch and stacks features, masks and labels.

    Modalities of the rows that are not among ``modalities`` are left out, so one data set serves models with fewer.

    Args:
        tokenizer: Tokenizer of the text encoder; it knows padding token and side.
        modalities: The modalities of the model, in its order.
        pad_to_multiple_of: Pad to a multiple of this many tokens, which some hardware computes faster.

    Raises:
        ConfigurationError: If the tokenizer has no padding token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        modalities: Sequence[Modality] = (),
        pad_to_multiple_of: int | None = None,
    ) -> None:
        if tokenizer.pad_token is None:
            raise ConfigurationError(
                "The tokenizer has no padding token, so rows of different lengths make no batch. Set one, for example "
                "tokenizer.pad_token = tokenizer.eos_token."
            )
        self.tokenizer = tokenizer
        self.modalities = list(modalities)
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: B rows of a ``MultimodalDataset``.

        Returns:
            The tokenizer's outputs, int64 (B, L); with modalities ``modality_features``, float32 (B, D) or, if the
            batch has a sequence, (B, T, D) padded with zeros, and ``modality_mask``, bool (B,) or (B, T), True where
            there are features; where the rows have them ``prefix_states``, float32 (B, L, H), and ``labels``, float32
            (B, C), int64 (B,) or float32 (B,).

        Raises:
            DataError: If features do not have the width of their modality.
        """
        names = [name for name in self.tokenizer.model_input_names if name in items[0]]
        batch: dict[str, Any] = dict(
            pad_without_fast_tokenizer_warning(
                self.tokenizer,
                [{name: item[name] for name in names} for item in items],
                padding=True,
                pad_to_multiple_of=self.pad_to_multiple_of,
                return_tensors="pt",
            )
        )
        if self.modalities:
            stacked = {modality.name: stack_features(modality, items) for modality in self.modalities}
            batch["modality_features"] = {name: torch.from_numpy(values) for name, (values, _) in stacked.items()}
            batch["modality_mask"] = {name: torch.from_numpy(mask) for name, (_, mask) in stacked.items()}
        if PREFIX_STATES in items[0]:
            batch[PREFIX_STATES] = _placed(items, batch["attention_mask"])
        if "labels" in items[0]:
            batch["labels"] = _label_tensor(np.array([item["labels"] for item in items]))
        return batch


def _placed(items: Sequence[dict[str, Any]], attention_mask: torch.Tensor) -> torch.Tensor:
    """Return each row's hidden states (L_i, H) at its valid tokens, zeros at the padding."""
    placed = torch.zeros((*attention_mask.shape, items[0][PREFIX_STATES].shape[-1]))
    for row, (item, mask) in enumerate(zip(items, attention_mask.bool(), strict=True)):
        placed[row, mask] = torch.from_numpy(np.array(item[PREFIX_STATES], dtype=np.float32))
    return placed


def _label_tensor(labels: np.ndarray) -> torch.Tensor:
    """Return class indices as int64 and everything else as float32."""
    is_index = labels.ndim == 1 and labels.dtype.kind in "iub"
    return torch.from_numpy(labels.astype(np.int64 if is_index else np.float32))
