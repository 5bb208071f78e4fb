"""Ends a training in time: so that its last evaluation, too, is over when the time is."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_EVALUATION_TO_STEP = 0.5
"""Time of a row in evaluation over that in training, before there was an evaluation."""
_RESERVE = 1.1


class TimeLimit(TrainerCallback):
    """Stops a training while there is time left to score what was learned, and for another scoring at the end.

    Args:
        deadline: On the clock of ``time.monotonic``.
        train_batch_size: Rows a step.
        validation_rows: Rows that are scored.

    Attributes:
        stopped: Whether it ended the training.
    """

    def __init__(self, deadline: float, train_batch_size: int, validation_rows: int) -> None:
        self.deadline = deadline
        self.stopped = False
        self._rows_a_step = train_batch_size
        self._validation_rows = validation_rows
        self._began = time.monotonic()
        self._steps_before = 0
        self._evaluation: float | None = None
        self._evaluation_began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock of the steps."""
        self._began = self._evaluation_began = time.monotonic()
        self._steps_before = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop where another step would leave too little time."""
        now = time.monotonic()
        a_step = (now - self._began) / max(1, state.global_step - self._steps_before)
        evaluation = self._evaluation
        if evaluation is None:
            evaluation = a_step / self._rows_a_step * self._validation_rows * _EVALUATION_TO_STEP
        # One evaluation is still to come, and thresholds are tuned on the predictions of another.
        if now + a_step + 2 * evaluation * _RESERVE >= self.deadline:
            self.stopped = True
            control.should_training_stop = True
            if args.eval_strategy == "steps":
                control.should_evaluate = True
                control.should_save = True
        self._evaluation_began = now

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Learn how long an evaluation takes, and leave its time out of that of the steps."""
        seconds = time.monotonic() - self._evaluation_began
        self._evaluation = max(seconds, self._evaluation or 0.0)
        self._began += seconds
