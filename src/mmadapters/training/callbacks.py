"""What a training run tells a person: a progress bar, and one line an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback


class QuietProgressCallback(ProgressCallback):
    """The Trainer's progress bar without the dictionaries that it prints between."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Print nothing."""


class EpochReport(TrainerCallback):
    """Tells after each evaluation how it went.

    Args:
        report: Called with one line of text.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the metric by which the best epoch is chosen, and whether it is the best so far."""
        name = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        value = (metrics or {}).get(name)
        if value is None:
            return
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        best = state.best_metric
        is_best = best is None or (value > best if args.greater_is_better else value < best)
        loss = f"training loss {losses[-1]:.4f}, " if losses else ""
        self.report(
            f"  epoch {_shown(state.epoch or 0.0)} of {_shown(args.num_train_epochs)}: {loss}validation "
            f"{name.removeprefix('eval_').replace('_', ' ')} {value:.4f}{' (best so far)' if is_best else ''}"
        )


def _shown(epochs: float) -> str:
    return f"{epochs:.0f}" if float(epochs).is_integer() else f"{epochs:.2f}"
