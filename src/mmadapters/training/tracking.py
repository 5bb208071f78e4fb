"""Experiment trackers: which may be named in ``report_to``, and TensorBoard's files in a folder of our choice."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK, TensorBoardCallback

from mmadapters.errors import ConfigurationError, MissingDependencyError, did_you_mean, listed

if TYPE_CHECKING:
    from mmadapters.training.trainer import MultimodalAdapterTrainer

TENSORBOARD = "tensorboard"
LOGGING_DIR_VARIABLE = "TENSORBOARD_LOGGING_DIR"
"""The Trainer's: it names the folder where no argument does."""

REQUIREMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    TENSORBOARD: (("tensorboard", "tensorboardX"), '"mmadapters[tracking]"'),
    "wandb": (("wandb",), "wandb"),
    "mlflow": (("mlflow",), "mlflow"),
    "comet_ml": (("comet_ml",), "comet-ml"),
    "neptune": (("neptune",), "neptune"),
    "clearml": (("clearml",), "clearml"),
    "codecarbon": (("codecarbon",), "codecarbon"),
    "dvclive": (("dvclive",), "dvclive"),
    "swanlab": (("swanlab",), "swanlab"),
    "trackio": (("trackio",), "trackio"),
}
"""Of a tracker the modules of which one has to be there, and what pip installs. Of others the Trainer says it."""


def checked_trackers(names: Iterable[str | None] | str | None) -> list[str]:
    """Return the names of trackers, each of which can be used.

    Args:
        names: As ``TrainingArguments`` has them: a list, or one name.

    Raises:
        ConfigurationError: If the Trainer does not know a name.
        MissingDependencyError: If a tracker's package is not installed.
    """
    named = [name for name in ([names] if isinstance(names, str) else names or []) if name is not None]
    for name in named:
        if name not in INTEGRATION_TO_CALLBACK:
            accepted = ["none", "all", *INTEGRATION_TO_CALLBACK]
            raise ConfigurationError(
                f"report_to={name!r} is unknown.{did_you_mean(name, accepted)} Accepted are {listed(accepted)}."
            )
        modules, package = REQUIREMENTS.get(name, ((), ""))
        if modules and not any(importlib.util.find_spec(module) for module in modules):
            raise MissingDependencyError(
                f"report_to={name!r} needs the package '{modules[0]}', which is not installed. Install it with: "
                f"pip install {package}"
            )
    return named


def end_tracker_runs() -> None:
    """End what a tracker keeps open for the life of a process, so that the next training has a run of its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish()


class TensorBoardLogs(TensorBoardCallback):
    """The Trainer's callback, with the run's settings beside the Trainer's, and one training a folder.

    A training that is resumed hides what was logged after its checkpoint, and a new one hides what was logged in its
    folder before, so that curves do not go back.

    Args:
        trainer: Whose training it is; its ``logging_dir`` names the folder.
    """

    tb_writer: Any
    logging_dir: str | None

    def __init__(self, trainer: MultimodalAdapterTrainer) -> None:
        super().__init__()
        self.trainer = trainer
        self.logging_dir = trainer.args.logging_dir or self.logging_dir
        self._purge_step: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the files, and write down what is trained: rows, backbone, adapters, training arguments."""
        checkpoint = self.trainer.resumed_from
        self._purge_step = 0 if checkpoint is None else checkpoint.step + 1
        super().on_train_begin(args, state, control, **kwargs)
        if self.tb_writer is not None and self.trainer.run_settings:
            text = json.dumps(self.trainer.run_settings, indent=2, ensure_ascii=False)
            self.tb_writer.add_text("run_settings", "\n".join(f"    {line}" for line in text.splitlines()))
            self.tb_writer.flush()

    def close(self) -> None:
        """Close the files where the training ended without doing so."""
        if self.tb_writer is not None:
            self.tb_writer.close()
            self.tb_writer = None

    def _init_summary_writer(self, args: TrainingArguments) -> None:
        self.tb_writer = self._SummaryWriter(log_dir=self.logging_dir, purge_step=self._purge_step)
        self._purge_step = None


def use_tensorboard_logs(trainer: MultimodalAdapterTrainer) -> TensorBoardLogs | None:
    """Put ``TensorBoardLogs`` in the place of the Trainer's own callback, where TensorBoard is reported to.

    Args:
        trainer: With its callbacks.

    Raises:
        ConfigurationError: If there is no place for the files that stays.
    """
    args = trainer.args
    if TENSORBOARD not in (args.report_to or []):
        return None
    if args.logging_dir is None and args.needs_output_dir and LOGGING_DIR_VARIABLE not in os.environ:
        raise ConfigurationError(
            "report_to='tensorboard' needs a folder for its files: give logging_dir, or an output_dir."
        )
    trainer.remove_callback(TensorBoardCallback)
    logs = TensorBoardLogs(trainer)
    trainer.add_callback(logs)
    return logs
