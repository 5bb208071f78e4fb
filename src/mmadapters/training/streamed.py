"""Trains on streamed rows: their loader, and what cannot be done with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from accelerate.data_loader import prepare_data_loader  # type: ignore[import-untyped]
from torch.utils.data import DataLoader
from transformers.trainer_utils import seed_worker

from mmadapters.data.stream_batches import StreamedBatches
from mmadapters.data.streaming import StreamedDataset, check_workers
from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    from mmadapters.training.trainer import MultimodalAdapterTrainer

BY_LENGTH, RANDOM = "group_by_length", "random"


def streamed_loader(trainer: MultimodalAdapterTrainer, rows: StreamedDataset, options: Mapping[str, Any]) -> DataLoader:
    """Return the loader of streamed training rows, each process's own share of every batch.

    Args:
        trainer: Its arguments say how batches are made.
        rows: The training rows.
        options: Workers, pinned memory and the like, with the collator.

    Raises:
        ConfigurationError: If an argument cannot be used with streamed rows, or as ``StreamedBatches``.
    """
    args = trainer.args
    check_sampling(args.train_sampling_strategy)
    check_workers(rows, args.dataloader_num_workers)
    by_steps = args.max_steps > 0
    batches = StreamedBatches(
        rows,
        trainer._train_batch_size,
        args.seed if args.data_seed is None else args.data_seed,
        max_tokens=args.max_tokens_per_batch,
        by_length=args.train_sampling_strategy == BY_LENGTH,
        pad_to_multiple_of=getattr(trainer.data_collator, "pad_to_multiple_of", None),
        processes=args.world_size,
        process=args.process_index,
        drop_last=args.dataloader_drop_last,
        epochs=args.max_steps if by_steps else math.ceil(args.num_train_epochs),
        most_batches=args.max_steps * args.gradient_accumulation_steps if by_steps else None,
    )
    loader = DataLoader(
        batches,
        batch_size=None,
        worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
        **{**options, "collate_fn": partial(_collate, options["collate_fn"])},
    )
    return prepare_data_loader(
        loader,
        device=trainer.accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        # Else the first process would read for all.
        dispatch_batches=False,
    )


def skip_unread(epoch: Mapping[str, Any], ignore_data_skip: bool) -> None:
    """Have a resumed epoch begin in the middle without reading what is before; other loaders are left as they are.

    The Trainer goes through a loader to its place and drops what comes before it; of streamed rows that is nothing.

    Args:
        epoch: What the Trainer runs an epoch with.
        ignore_data_skip: The training argument.
    """
    batches = epoch["train_dataloader"].dataset
    if isinstance(batches, StreamedBatches):
        resumed = epoch["resume_from_checkpoint"] is not None and epoch["epoch"] == epoch["epochs_trained"]
        batches.skipped = epoch["steps_trained_in_current_epoch"] if resumed and not ignore_data_skip else 0


def check_sampling(strategy: str) -> None:
    """Refuse a ``train_sampling_strategy`` that streamed rows cannot be taken by.

    Raises:
        ConfigurationError: Then.
    """
    if strategy not in (BY_LENGTH, RANDOM):
        raise ConfigurationError(
            f"train_sampling_strategy={strategy!r} cannot be used with streamed rows. Accepted are '{BY_LENGTH}' and "
            f"'{RANDOM}'."
        )


def check_streamed(train: Any, validation: Any, has_prefix_cache: bool) -> None:
    """Refuse what streamed rows cannot be used with.

    Args:
        train: The training rows.
        validation: The validation rows, or None.
        has_prefix_cache: Whether hidden states are to be kept on disk.

    Raises:
        ConfigurationError: If validation rows are streamed, or hidden states of streamed rows are to be kept.
    """
    if isinstance(validation, StreamedDataset):
        raise ConfigurationError(
            "Validation rows were given as a StreamedDataset. They are scored after every epoch, and their outputs are "
            "held together: read them into memory, preprocessor.transform(read_rows(…)), and fewer of them if they do "
            "not fit."
        )
    if has_prefix_cache and isinstance(train, StreamedDataset):
        raise ConfigurationError(
            f"The prefix cache was asked for with streamed rows. It keeps the hidden states of all {len(train)} "
            "training rows, whose texts it needs at once. Train without it (prefix_cache.enabled: false), or read the "
            "rows into memory (data.streaming: false)."
        )


def _collate(collator: Any, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch, or nothing for one that was not read."""
    return collator(items) if items else {}
