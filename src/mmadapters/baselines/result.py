"""What every method gives, and how it is called: the same for all, so that they can stand in one table."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.errors import DataError, listed


@dataclass(frozen=True)
class MethodResult:
    """What one method gave in one run.

    Attributes:
        logits: By split, all but ``train``: (N, C), for regression (N,), in the order of the rows.
        trainable_parameters: Of linear models the number of coefficients and intercepts that were fitted.
        parameters: Of the whole model, frozen ones too.
        file_bytes: Of what has to be kept for the task: adapters and head, or the full model where all of it learns.
        seconds: Of the training, its evaluations included, and of reading texts with a frozen encoder.
        log: The Trainer's log, or one entry an epoch; empty where there are no epochs.
        settings: What was chosen on the validation rows.
        explanation: What the model looked at in the test rows, as ``summarise_explanation`` tells it; None of methods
            that cannot tell, and without test rows.
    """

    logits: dict[str, np.ndarray]
    trainable_parameters: int
    parameters: int
    file_bytes: int
    seconds: float
    log: list[dict[str, Any]]
    settings: dict[str, Any]
    explanation: dict[str, Any] | None = None


class Method(Protocol):
    """A way to train and predict.

    Attributes:
        name: As in ``METHODS``.
    """

    name: str

    def run(
        self,
        preprocessor: Preprocessor,
        data: Mapping[str, MultimodalDataset],
        *,
        seed: int,
        folder: Path,
        report: Callable[[str], None] | None = None,
    ) -> MethodResult:
        """Train on ``train``, choose on ``validation``, predict all splits but ``train``.

        Args:
            preprocessor: Made the data.
            data: ``train``, ``validation`` and, to predict only, any others, with the modalities that are to be read.
            seed: Of initialisation and order.
            folder: For files of this run alone; nothing large is left in it.
            report: Called with a line for a person.

        Raises:
            DataError: If there are no labels, or no training or validation rows.
        """
        ...


def check_splits(preprocessor: Preprocessor, data: Mapping[str, MultimodalDataset]) -> str:
    """Refuse data that cannot be trained on, and return the problem type.

    Args:
        preprocessor: Made the data.
        data: The rows by split.

    Raises:
        DataError: If there are no labels, or no training or validation rows.
    """
    missing = [split for split in ("train", "validation") if split not in data or not len(data[split])]
    if missing:
        raise DataError(
            f"A method needs rows to learn from and rows to choose on; the data has none for {listed(missing)}. Its "
            f"splits are {listed(data)}."
        )
    if preprocessor.labels is None or any(data[split].labels is None for split in ("train", "validation")):
        raise DataError("A method needs labels. Give a schema with a label column, and rows that have it.")
    return str(preprocessor.labels.problem_type)


def label_names(preprocessor: Preprocessor) -> list[str]:
    """Return the label names in the order of the logits; none for a regression."""
    return [] if preprocessor.labels is None else [str(label) for label in preprocessor.labels.classes]


def predicted_splits(data: Mapping[str, MultimodalDataset]) -> list[str]:
    """Return the splits that are predicted: all but ``train``."""
    return [split for split in data if split != "train"]


def as_rows(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Return logits (N, C), those of a regression as (N,).

    Args:
        logits: (N, C); for a regression (N, 1).
        problem_type: Of the task.
    """
    return logits[:, 0] if problem_type == "regression" and logits.ndim == 2 else logits


@contextmanager
def scratch_folder(folder: Path, name: str) -> Iterator[Path]:
    """Yield a new, empty folder inside a run's folder; it is removed afterwards, whatever happens.

    Args:
        folder: Of the run.
        name: Of the new one; what a killed run left under it is removed.
    """
    scratch = folder / name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def saved_bytes(tensors: Mapping[str, Tensor], folder: Path) -> int:
    """Return how many bytes tensors take as a safetensors file, by writing one and removing it.

    Args:
        tensors: By name.
        folder: Of the run.
    """
    with scratch_folder(folder, "saved") as scratch:
        path = scratch / "model.safetensors"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, str(path))
        return path.stat().st_size


def count_parameters(model: torch.nn.Module, trainable_only: bool = False) -> int:
    """Return the number of a model's parameters, or of those that learn."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)
