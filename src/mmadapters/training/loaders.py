"""The Trainer's data loaders: rows of similar length together in training, the longest first in evaluation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate.data_loader import prepare_data_loader  # type: ignore[import-untyped]
from torch.utils.data import DataLoader, Sampler
from transformers import EvalPrediction
from transformers.trainer_utils import seed_worker

from mmadapters.data.batching import TrainingBatches, inference_batches, longest_first, padded_lengths
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError
from mmadapters.evaluation.predictions import in_row_order
from mmadapters.training.streamed import BY_LENGTH, RANDOM, streamed_loader

if TYPE_CHECKING:
    from mmadapters.training.trainer import MultimodalAdapterTrainer


class RowsInOrder(Sampler[int]):
    """Rows in a given order.

    Args:
        order: (N,) each row once.
    """

    def __init__(self, order: np.ndarray) -> None:
        self.order = order

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.order)

    def __iter__(self) -> Any:
        """Yield the rows."""
        return iter(self.order.tolist())


def row_lengths(trainer: MultimodalAdapterTrainer, dataset: Any) -> np.ndarray | None:
    """Return how many tokens each row has in a batch, or None where the data set does not say.

    Args:
        trainer: Its collator may pad to a multiple.
        dataset: A ``MultimodalDataset``, or another with ``lengths``.

    Raises:
        ConfigurationError: If the data set does not say and there is a token budget.
    """
    lengths = getattr(dataset, "lengths", None)
    if lengths is not None:
        return padded_lengths(lengths, getattr(trainer.data_collator, "pad_to_multiple_of", None))
    if trainer.args.max_tokens_per_batch is not None:
        raise ConfigurationError(
            f"max_tokens_per_batch needs a data set with the number of tokens of each row in `lengths`; a "
            f"{type(dataset).__name__} was given. Use a MultimodalDataset, or leave the budget out."
        )
    return None


def training_loader(trainer: MultimodalAdapterTrainer) -> DataLoader | None:
    """Return the loader of the training rows, or None where the Trainer's own is to be used.

    Each process reads its own share of every batch, so none is cut or repeated to make them even.

    Args:
        trainer: With a training set.

    Raises:
        ConfigurationError: As ``TrainingBatches`` and ``streamed_loader``.
    """
    args = trainer.args
    if isinstance(trainer.train_dataset, StreamedDataset):
        return streamed_loader(trainer, trainer.train_dataset, _options(trainer))
    lengths = row_lengths(trainer, trainer.train_dataset)
    if lengths is None or args.train_sampling_strategy not in (BY_LENGTH, RANDOM):
        return None
    batches = TrainingBatches(
        lengths,
        trainer._train_batch_size,
        args.seed if args.data_seed is None else args.data_seed,
        max_tokens=args.max_tokens_per_batch,
        by_length=args.train_sampling_strategy == BY_LENGTH,
        processes=args.world_size,
        process=args.process_index,
        drop_last=args.dataloader_drop_last,
    )
    loader = DataLoader(
        trainer.train_dataset,
        batch_sampler=batches,
        worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
        **_options(trainer),
    )
    return prepare_data_loader(
        loader, device=trainer.accelerator.device, num_processes=1, process_index=0, put_on_device=True
    )


def budgeted_evaluation_loader(trainer: MultimodalAdapterTrainer, dataset: Any) -> DataLoader:
    """Return a loader of rows to evaluate within the token budget, the longest first.

    Args:
        trainer: With a token budget. Of several processes each takes the same number of rows a batch, as their results
            are put together.
        dataset: The rows.

    Raises:
        ConfigurationError: If a row alone has more tokens than the budget.
    """
    lengths = row_lengths(trainer, dataset)
    assert lengths is not None
    budget = trainer.args.max_tokens_per_batch
    batches = inference_batches(lengths, trainer.args.eval_batch_size, budget)
    if trainer.args.world_size > 1:
        loader = DataLoader(
            dataset,
            batch_size=len(batches[0]),
            sampler=RowsInOrder(longest_first(lengths)),
            **_options(trainer),
        )
        return trainer.accelerator.prepare(loader)
    loader = DataLoader(dataset, batch_sampler=[rows.tolist() for rows in batches], **_options(trainer))
    return prepare_data_loader(
        loader, device=trainer.accelerator.device, num_processes=1, process_index=0, put_on_device=True
    )


def restored_order(prediction: EvalPrediction, order: np.ndarray) -> EvalPrediction:
    """Return what was predicted of rows in another order, in the order of the rows.

    Args:
        prediction: Of the rows in ``order``.
        order: (N,) each row once.
    """
    return EvalPrediction(
        predictions=_restored(prediction.predictions, order),
        label_ids=_restored(prediction.label_ids, order),
        inputs=_restored(prediction.inputs, order),
        losses=_restored(prediction.losses, order),
    )


def _restored(values: Any, order: np.ndarray) -> Any:
    if isinstance(values, dict):
        return {name: _restored(value, order) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_restored(value, order) for value in values)
    return in_row_order(values, order) if isinstance(values, np.ndarray) and len(values) == len(order) else values


def _options(trainer: MultimodalAdapterTrainer) -> dict[str, Any]:
    args = trainer.args
    return {
        "collate_fn": trainer.data_collator,
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory,
        "persistent_workers": args.dataloader_persistent_workers,
        "prefetch_factor": args.dataloader_prefetch_factor,
    }
