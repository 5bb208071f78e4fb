"""SIGTERM and SIGINT in a training: the step is finished, a checkpoint made, and the training ends."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from mmadapters.errors import TrainingInterrupted
from mmadapters.training.checkpoints import folder_of
from mmadapters.training.saving import CheckpointSchedule

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class InterruptibleTraining(CheckpointSchedule):
    """The schedule of checkpoints, and within its context what happens on a signal.

    The first signal ends the training after a checkpoint; a second one does at once what it always did. Signals reach
    the main thread only; in another one nothing is changed.

    Args:
        every: As ``CheckpointSchedule``.
    """

    def __init__(self, every: int | None = None) -> None:
        super().__init__(every)
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._stopping = False

    def __enter__(self) -> InterruptibleTraining:
        """Watch for signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Watch no longer."""
        self._restore()

    def wanted(self, state: TrainerState) -> bool:
        """Return whether a checkpoint is due, by its schedule or since a signal came to any of the processes."""
        self._stopping = self.agreed()
        return self._stopping or super().wanted(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End the training where the checkpoint was made for that.

        Raises:
            TrainingInterrupted: Then.
        """
        if self._stopping:
            raise self.error(args, state)

    def error(self, args: TrainingArguments, state: TrainerState) -> TrainingInterrupted:
        """Return the exception that says where the training stands."""
        name = signal.Signals(self.received or signal.SIGTERM)
        return TrainingInterrupted(
            f"stopped by {name.name} after step {state.global_step} of {state.max_steps}; the checkpoint is "
            f"'{folder_of(Path(args.output_dir), state.global_step)}'. The same run with resume=True (mmadapters train "
            "--resume) goes on from there.",
            int(name),
        )

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def agreed(self) -> bool:
        """Return whether any process received a signal; all stop after the same step."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.received is not None
        on_gpu = torch.distributed.get_backend() == "nccl"
        number = torch.tensor(self.received or 0, device="cuda" if on_gpu else "cpu")
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
        self.received = int(number) or None
        return self.received is not None
