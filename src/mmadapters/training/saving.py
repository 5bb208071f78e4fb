"""Saves a training so that it goes on, bit for bit, as if it had never been interrupted."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from mmadapters.files import write_json_atomically
from mmadapters.training.checkpoints import Checkpoint, folder_of, publish, remove_old, staging_folder

if TYPE_CHECKING:
    from mmadapters.training.trainer import MultimodalAdapterTrainer

STATE_FILE = "trainer_state.json"


def save_checkpoint(trainer: MultimodalAdapterTrainer, checkpoints: Path) -> None:
    """Write a checkpoint: weights, optimiser, schedule, random numbers, the Trainer's state and the running loss.

    Args:
        trainer: In its training.
        checkpoints: The folder of the checkpoints.
    """
    args, state = trainer.args, trainer.state
    trainer.store_flos()
    folder, staging = folder_of(checkpoints, state.global_step), staging_folder(checkpoints, state.global_step)
    if args.should_save:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    trainer.accelerator.wait_for_everyone()
    if state.best_global_step is not None:
        best = folder_of(checkpoints, state.best_global_step)
        if best == folder or best.is_dir():
            state.best_model_checkpoint = str(best)
    trainer.save_model(str(staging), _internal_call=True)
    if not args.save_only_model:
        trainer._save_optimizer_and_scheduler(str(staging))
        trainer._save_scaler(str(staging))
        trainer._save_rng_state(str(staging))
        write_json_atomically(staging / _loss_file(args.process_index), _running_loss(trainer))
    if args.should_save:
        state.stateful_callbacks = _callback_states(trainer)
        state.save_to_json(str(staging / STATE_FILE))
    trainer.accelerator.wait_for_everyone()
    if args.should_save:
        is_best = state.best_model_checkpoint is not None and Path(state.best_model_checkpoint).parent == checkpoints
        checkpoint = Checkpoint(
            folder,
            state.global_step,
            state.best_global_step if is_best else None,
            trainer.control.should_training_stop,
            round(time.perf_counter() - trainer.began, 3),
            trainer.run_settings,
        )
        publish(staging, checkpoint)
        remove_old(checkpoints, args.save_total_limit)
    trainer.accelerator.wait_for_everyone()


class ContinuedTraining(TrainerCallback):
    """Takes up what a checkpoint holds beside the Trainer's own state, and starts the clock.

    Args:
        trainer: Whose training it is.
    """

    def __init__(self, trainer: MultimodalAdapterTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the running loss, the callbacks and the place of the best checkpoint."""
        trainer = self.trainer
        checkpoint = trainer.resumed_from
        trainer.began = time.perf_counter() - (0.0 if checkpoint is None else checkpoint.seconds)
        if checkpoint is None:
            return
        if checkpoint.best_step is not None:
            # The folder may have been moved since.
            state.best_model_checkpoint = str(folder_of(checkpoint.folder.parent, checkpoint.best_step))
        loss = checkpoint.folder / _loss_file(args.process_index)
        if loss.is_file():
            _restore_running_loss(trainer, json.loads(loss.read_text(encoding="utf-8")))
        _restore_callbacks(trainer, state.stateful_callbacks or {})


class CheckpointSchedule(TrainerCallback):
    """Decides after which steps a checkpoint is made beside those of ``save_strategy``.

    One that is due at the last step of an epoch waits for what belongs to the epoch's end: log and evaluation.

    Args:
        every: A checkpoint every so many steps; None makes none.
    """

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.due = False

    def wanted(self, state: TrainerState) -> bool:
        """Return whether a checkpoint is due after the step that has just ended."""
        return self.every is not None and state.global_step % self.every == 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Have a checkpoint made now, or at the epoch's end."""
        due = self.wanted(state) or control.should_save
        ends_epoch = float(state.epoch or 0).is_integer() or control.should_training_stop
        control.should_save = due and not ends_epoch
        self.due = due and ends_epoch

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Have the checkpoint made that was due."""
        control.should_save = control.should_save or self.due
        self.due = False


def _loss_file(process: int) -> str:
    return f"running_loss_{process}.json"


def _running_loss(trainer: MultimodalAdapterTrainer) -> dict[str, Any]:
    """Return the sums that the Trainer logs means of; where it keeps none of them, nothing."""
    since = getattr(trainer, "_tr_loss", None)
    if since is None:
        return {}
    return {
        "since_last_log": [float(value).hex() for value in since.reshape(-1).tolist()],
        "before": float(trainer._total_loss_scalar).hex(),
        "step_of_last_log": trainer._globalstep_last_logged,
    }


def _restore_running_loss(trainer: MultimodalAdapterTrainer, saved: dict[str, Any]) -> None:
    since = getattr(trainer, "_tr_loss", None)
    if not saved or since is None:
        return
    values = [float.fromhex(value) for value in saved["since_last_log"]]
    since.copy_(torch.tensor(values, dtype=since.dtype).reshape(since.shape))
    trainer._total_loss_scalar = float.fromhex(saved["before"])
    trainer._globalstep_last_logged = saved["step_of_last_log"]


def _exportable(trainer: MultimodalAdapterTrainer) -> dict[str, list[Any]]:
    named: dict[str, list[Any]] = {}
    for callback in [*trainer.callback_handler.callbacks, trainer.control]:
        if isinstance(callback, ExportableState):
            named.setdefault(type(callback).__name__, []).append(callback)
    return named


def _callback_states(trainer: MultimodalAdapterTrainer) -> dict[str, Any]:
    states = {name: [callback.state() for callback in callbacks] for name, callbacks in _exportable(trainer).items()}
    return {name: saved[0] if len(saved) == 1 else saved for name, saved in states.items()}


def _restore_callbacks(trainer: MultimodalAdapterTrainer, states: dict[str, Any]) -> None:
    """Give callbacks the attributes that they had; the Trainer's flags belong to a step and are left out."""
    for name, callbacks in _exportable(trainer).items():
        saved = states.get(name, [])
        for callback, state in zip(callbacks, saved if isinstance(saved, list) else [saved], strict=False):
            for attribute, value in state["attributes"].items():
                setattr(callback, attribute, value)
