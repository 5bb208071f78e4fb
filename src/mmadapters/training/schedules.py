"""The course of the learning rate: what the Trainer leaves open of its schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import SchedulerType

from mmadapters.errors import ConfigurationError

if TYPE_CHECKING:
    from mmadapters.training.arguments import MultimodalTrainingArguments

PLATEAU_DEFAULTS = {"factor": 0.5, "patience": 2}
"""Of the original Moviescope experiments: half after the third evaluation in a row without a better metric."""


def schedule_options(args: MultimodalTrainingArguments) -> dict[str, Any]:
    """Return the keyword arguments of the schedule.

    ``reduce_lr_on_plateau`` looks at ``metric_for_best_model`` in its direction, which the Trainer would leave at
    "lower is better"; see ``PLATEAU_DEFAULTS`` for the rest.

    Args:
        args: After ``for_run``.

    Raises:
        ConfigurationError: If the schedule looks at a metric that nothing computes, or in the wrong direction.
    """
    given: dict[str, Any] = dict(args.lr_scheduler_kwargs or {})
    if args.lr_scheduler_type != SchedulerType.REDUCE_ON_PLATEAU:
        return given
    if args.eval_strategy == "no":
        raise ConfigurationError(
            "lr_scheduler_type=reduce_lr_on_plateau lowers the learning rate by the validation metric, and there are "
            "no validation rows. Give some, or choose another schedule, such as cosine."
        )
    mode = "max" if args.greater_is_better else "min"
    if given.get("mode", mode) != mode:
        raise ConfigurationError(
            f"lr_scheduler_kwargs has mode={given['mode']!r}, but of {args.metric_for_best_model} "
            f"{'more' if args.greater_is_better else 'less'} is better: mode={mode!r}. Leave it out."
        )
    return {**PLATEAU_DEFAULTS, **given, "mode": mode}
