"""What methods on frozen features read: pooled texts of a frozen encoder, and modality vectors, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader

from mmadapters.backbones import load_encoder
from mmadapters.data.batching import inference_batches
from mmadapters.data.collator import MultimodalCollator
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.evaluator import to_device
from mmadapters.evaluation.predictions import in_row_order
from mmadapters.modality import TEXT

SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class FrozenFeatures:
    """The inputs of one split, standardised by the training rows.

    Attributes:
        values: By name, ``text`` first: float32 (N, D), zeros in rows that lack the modality.
        present: By name: bool (N,), whether a row has it.
    """

    values: dict[str, np.ndarray]
    present: dict[str, np.ndarray]

    def joined(self, indicators: tuple[str, ...] = ()) -> np.ndarray:
        """Return all inputs side by side, float32 (N, ΣD), and behind them 0 or 1 for whether some are there.

        Args:
            indicators: Names of the inputs that get such a column.
        """
        columns = [self.present[name][:, None].astype(np.float32) for name in indicators]
        return np.concatenate([*self.values.values(), *columns], axis=1)


@dataclass(frozen=True)
class FrozenInputs:
    """The inputs of all splits.

    Attributes:
        splits: By split.
        encoder_parameters: Number of the frozen encoder's parameters, 0 where the text is not read.
        statistics_size: Numbers that have to be kept to standardise new rows.
    """

    splits: dict[str, FrozenFeatures]
    encoder_parameters: int
    statistics_size: int

    @property
    def sometimes_missing(self) -> tuple[str, ...]:
        """Names of the inputs that some training rows lack and others have."""
        present = self.splits["train"].present
        return tuple(name for name, rows in present.items() if rows.any() and not rows.all())

    @property
    def widths(self) -> dict[str, int]:
        """Width D of each input, in their order."""
        return {name: values.shape[1] for name, values in self.splits["train"].values.items()}


def frozen_inputs(
    backbone: str,
    preprocessor: Preprocessor,
    data: Mapping[str, MultimodalDataset],
    *,
    text: bool = True,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> FrozenInputs:
    """Return what methods on frozen features read, standardised by what the training rows have.

    Args:
        backbone: The frozen encoder.
        preprocessor: Gives tokenizer and modalities.
        data: The rows by split, ``train`` among them.
        text: Whether the text is read; else the modalities alone.
        batch_size: Texts a batch.
        device: Where the encoder runs.

    Raises:
        ConfigurationError: If there is nothing to read.
    """
    if not text and not preprocessor.modalities:
        raise ConfigurationError(
            "text: false leaves nothing to read, since the run has no modalities. Leave it out, or name modalities."
        )
    raw: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {split: {} for split in data}
    parameters = 0
    if text:
        encoder = load_encoder(backbone).to(device)
        parameters = sum(parameter.numel() for parameter in encoder.parameters())
        collator = MultimodalCollator(preprocessor.tokenizer)
        # Rows from which modalities were taken away have the texts of the whole ones.
        states: dict[str, np.ndarray] = {}
        for split, rows in data.items():
            texts = rows.token_digest()
            if texts not in states:
                states[texts] = mean_states(encoder, rows, collator, batch_size)
            raw[split][TEXT] = states[texts], np.ones(len(rows), dtype=bool)
    for split, rows in data.items():
        for modality in preprocessor.modalities:
            raw[split][modality.name] = row_vectors(rows, modality.name, modality.feature_dim)
    scales = {name: _scale(values[present]) for name, (values, present) in raw["train"].items()}
    splits = {
        split: FrozenFeatures(
            {name: _standardised(*parts, *scales[name]) for name, parts in of_split.items()},
            {name: present for name, (_, present) in of_split.items()},
        )
        for split, of_split in raw.items()
    }
    return FrozenInputs(splits, parameters, 2 * sum(len(mean) for mean, _ in scales.values()))


def mean_states(
    encoder: torch.nn.Module, dataset: MultimodalDataset, collator: MultimodalCollator, batch_size: int = 64
) -> np.ndarray:
    """Return the mean of a frozen encoder's last hidden states over valid tokens, float32 (N, H).

    Args:
        encoder: A transformers encoder.
        dataset: N rows; only their tokens are read.
        collator: Without modalities.
        batch_size: Texts a batch; texts of like length share one.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    batches = inference_batches(dataset.lengths, batch_size, None)
    tokens = [dataset.tokens(row) for row in range(len(dataset))]
    loader: DataLoader = DataLoader(
        tokens,  # type: ignore[arg-type]
        batch_sampler=[rows.tolist() for rows in batches],
        collate_fn=collator,
    )
    means = []
    with torch.inference_mode():
        for batch in loader:
            moved = to_device(batch, device)
            states = encoder(**moved).last_hidden_state
            weights = moved["attention_mask"][..., None].to(states.dtype)
            means.append(((states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)).float().cpu().numpy())
    return in_row_order(np.concatenate(means), np.concatenate(batches))


def row_vectors(dataset: MultimodalDataset, name: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a modality of all rows as one vector each, a sequence averaged, and which rows have it.

    Args:
        dataset: N rows.
        name: Of the modality.
        width: Of its features.

    Returns:
        Float32 (N, width), zeros where it is missing, and bool (N,).
    """
    vectors = np.zeros((len(dataset), width), dtype=np.float32)
    present = np.zeros(len(dataset), dtype=bool)
    for row in range(len(dataset)):
        features = dataset.features(name, row)
        if features is not None:
            vectors[row] = np.atleast_2d(features).mean(axis=0)
            present[row] = True
    return vectors, present


def _scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(values):
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    deviation = values.std(axis=0, dtype=np.float64)
    return values.mean(axis=0, dtype=np.float64), np.where(deviation > SMALLEST_DEVIATION, deviation, 1.0)


def _standardised(values: np.ndarray, present: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    standardised = (values - mean) / deviation
    standardised[~present] = 0.0
    return standardised.astype(np.float32)
