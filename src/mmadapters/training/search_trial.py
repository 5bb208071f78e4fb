"""One trial of a search: its settings, its training, and what it tells the study meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.adapters.sites import find_sites
from mmadapters.errors import ConfigurationError, MMAdaptersError
from mmadapters.modality import Modality
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import FitResult, ModelSettings
from mmadapters.training.search_space import OptionSpace, extremes

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True)
class RunSettings:
    """A training's settings, as keyword arguments of what they are for.

    Attributes:
        modalities: Of the data.
        model: Backbone, pooling and head.
        adapter: Options of ``MultimodalAdapterConfig``. ``fusion="none"`` reads the text alone.
        training: Options of ``MultimodalTrainingArguments``.
    """

    modalities: Sequence[Modality]
    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, values: Mapping[str, Any]) -> RunSettings:
        """Return the settings with other values of some options.

        Args:
            values: By section and field: ``adapter.dropout``, ``training.learning_rate``, ``model.head``.
        """
        parts: dict[str, dict[str, Any]] = {"adapter": {}, "training": {}, "model": {}}
        for name, value in values.items():
            section, _, option = name.partition(".")
            parts[section][option] = value
        return RunSettings(
            self.modalities,
            replace(self.model, **parts["model"]),
            {**self.adapter, **parts["adapter"]},
            {**self.training, **parts["training"]},
        )

    def adapter_config(self) -> MultimodalAdapterConfig:
        """Return the adapters' configuration.

        Raises:
            ConfigurationError: If a value cannot be used.
        """
        modalities = [] if self.adapter.get("fusion") == "none" else list(self.modalities)
        return MultimodalAdapterConfig(modalities=modalities, **self.adapter)

    def arguments(self, **own: Any) -> MultimodalTrainingArguments:
        """Return the training arguments.

        Args:
            own: Values that win over those of the settings.

        Raises:
            ConfigurationError: If a value cannot be used.
        """
        return MultimodalTrainingArguments(**{**self.training, **own})

    def value(self, name: str) -> Any:
        """Return what an option is: its given value, or its default."""
        section, _, option = name.partition(".")
        if section == "model":
            return getattr(self.model, option)
        return getattr(self.adapter_config() if section == "adapter" else self.arguments(), option)


def check_values(settings: RunSettings, space: Mapping[str, OptionSpace], encoder: nn.Module) -> None:
    """Refuse a space with values that no trial could be trained with, the other options being as given.

    Args:
        settings: Of the run without a search.
        space: What is searched.
        encoder: The backbone's.

    Raises:
        ConfigurationError: With every choice, and every end of a range, that cannot be used.
    """
    problems = []
    for name, option in space.items():
        for value in extremes(option):
            changed = settings.changed({name: value})
            try:
                config = changed.adapter_config()
                changed.arguments()
                find_sites(encoder, config.encoder_sites, config.layers_to_transform, config.sites)
            except (MMAdaptersError, TypeError) as error:
                problems.append(f"{name}={value!r}: {error}")
    if problems:
        raise ConfigurationError("The search space cannot be used:\n" + "\n".join(f"- {line}" for line in problems))


class StudyReport(TrainerCallback):
    """Tells a study of every evaluation, and ends the training where the study's pruner says so.

    Args:
        trial: The trial.
        metric: Its metric, as the Trainer logs it.
        may_prune: Whether the trial may be pruned at all.
    """

    def __init__(self, trial: Trial, metric: str, may_prune: bool) -> None:
        self.trial = trial
        self.metric = metric
        self.may_prune = may_prune
        self.began = False
        self.pruned = False
        self.n_reported = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note that the settings were accepted."""
        self.began = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report what is new; of a training that was resumed, the evaluations before that, too."""
        self.report(state.log_history)
        if self.may_prune and self.n_reported and state.global_step < state.max_steps and self.trial.should_prune():
            self.pruned = control.should_training_stop = True

    def report(self, log: Sequence[Mapping[str, Any]]) -> None:
        """Report the evaluations of a log that were not reported yet: the first one is step 1."""
        for entry in evaluations(log, self.metric)[self.n_reported :]:
            self.n_reported += 1
            self.trial.report(entry[self.metric], self.n_reported)


def evaluations(log: Sequence[Mapping[str, Any]], metric: str) -> list[Mapping[str, Any]]:
    """Return a log's evaluations after a training step that have a value of a metric."""
    return [entry for entry in log if entry.get(metric) is not None and (entry.get("epoch") or 0) > 0]


def best_evaluation(fitted: FitResult, arguments: MultimodalTrainingArguments, metric: str) -> dict[str, Any]:
    """Return the evaluation of the weights that a training ended with.

    Args:
        fitted: The training.
        arguments: Tell whether the best weights were restored, and which are the better ones.
        metric: As the Trainer logs it.

    Raises:
        ConfigurationError: If no evaluation has the metric.
    """
    found = [entry for entry in fitted.log if entry.get(metric) is not None]
    if not found:
        raise ConfigurationError(f"No evaluation gave a value of '{metric}', so that the trial cannot be compared.")
    if not arguments.load_best_model_at_end:
        return found[-1]
    # Of equal ones the first, which is the one that the Trainer keeps.
    return (max if arguments.greater_is_better else min)(found, key=lambda entry: entry[metric])
