"""Starts a training, or goes on with one that was killed or interrupted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]

from mmadapters.errors import ConfigurationError
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.checkpoints import check_nothing_unfinished, newest_usable, remove_all
from mmadapters.training.interruption import InterruptibleTraining
from mmadapters.training.run_settings import check_same_settings
from mmadapters.training.trainer import MultimodalAdapterTrainer


def check_may_start(arguments: MultimodalTrainingArguments, resume: bool) -> None:
    """Refuse a start that would lose the work of an unfinished run, and a resumption without a place for checkpoints.

    Args:
        arguments: The training arguments.
        resume: Whether the run goes on with one that is there.

    Raises:
        ConfigurationError: In both cases.
    """
    if resume and arguments.needs_output_dir:
        raise ConfigurationError("resume=True needs the output_dir in which the checkpoints of the run are.")
    if not resume and not arguments.needs_output_dir:
        check_nothing_unfinished(Path(str(arguments.output_dir)))


def train_on(trainer: MultimodalAdapterTrainer, resume: bool, report: Callable[[str], None] | None = None) -> None:
    """Train to the end, from the newest checkpoint or from the start.

    Args:
        trainer: With its ``run_settings``.
        resume: Whether to go on from a checkpoint.
        report: Called with a line for a person.

    Raises:
        ConfigurationError: If the checkpoint is of a run with other settings.
        TrainingInterrupted: If a signal ended the training.
    """
    args = trainer.args
    checkpoints = Path(str(args.output_dir))
    checkpoint = newest_usable(checkpoints, report) if resume else None
    if checkpoint is not None:
        check_same_settings(checkpoint.settings, trainer.run_settings, str(checkpoint.folder))
    if resume and report is not None:
        report(
            f"  going on after step {checkpoint.step}" if checkpoint else "  no checkpoint to go on from: a new start"
        )
    trainer.resumed_from = checkpoint
    if trainer.average is not None and checkpoint is not None:
        trainer.average.resumed_from = checkpoint.folder
    trainer.accelerator.wait_for_everyone()
    if args.should_save:
        remove_all(checkpoints, newer_than=-1 if checkpoint is None else checkpoint.step)
    trainer.accelerator.wait_for_everyone()
    interruptible = InterruptibleTraining(args.checkpoint_steps)
    trainer.add_callback(interruptible)
    try:
        with nullcontext() if args.needs_output_dir else interruptible:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.folder))
    except ConfigurationError:
        # A training that diverged would do so again.
        if args.should_save:
            remove_all(checkpoints)
        raise
    # The temporary folder of the first process has the best weights of all.
    trainer.accelerator.wait_for_everyone()
    if interruptible.agreed():
        raise interruptible.error(args, trainer.state)


def of_first_process(path: str) -> str:
    """Return the path that the first of several processes was given."""
    shared = [path]
    broadcast_object_list(shared)
    return shared[0]
