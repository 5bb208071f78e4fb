"""Searches options of adapters and training with Optuna, by a metric on the validation rows.

A search is a study in a SQLite file: one that was interrupted or killed goes on when it is started again. Its first
trial has the settings of the run without a search, so that what it finds is not worse on the validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mmadapters.adapters.sites import find_sites
from mmadapters.backbones import load_encoder
from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError, did_you_mean, listed
from mmadapters.training import search_study as studies
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings
from mmadapters.training.prefix_cache import PrefixCacheOptions
from mmadapters.training.run_settings import run_settings
from mmadapters.training.search_loop import RunningSearch, SearchedRows, SearchLimits
from mmadapters.training.search_results import SearchResult, SearchTrial
from mmadapters.training.search_space import Choices, OptionSpace, Range, encoded, full_space
from mmadapters.training.search_trial import RunSettings, check_values

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

__all__ = ["Choices", "Range", "SearchOptions", "SearchResult", "SearchTrial", "search"]

Pruner = Literal["median", "hyperband", "none"]
STORAGE_FILE = "study.db"

UNPRUNED_TRIALS = 5
UNPRUNED_EVALUATIONS = 1
"""The median says little of fewer trials, and a first evaluation, in the warm-up, little of a trial."""


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        folder: Where the study, the table of trials and the checkpoints of the running trial go.
        trials: How many trials the study is to have in the end; those that are there count.
        timeout: Seconds after which no other trial is started.
        study: Name of the study.
        storage: The SQLite file; without it ``study.db`` in the folder. It may hold several studies.
        pruner: Which trials are ended early: ``median`` (worse than half of the trials at the same evaluation),
            ``hyperband``, or ``none``.
        default_space: Whether the default space is searched beside the options that are named.

    Raises:
        ConfigurationError: If a value cannot be used.
    """

    folder: Path
    trials: int = 20
    timeout: float | None = None
    study: str = "search"
    storage: Path | None = None
    pruner: Pruner = "median"
    default_space: bool = True

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigurationError(f"trials={self.trials} cannot be used. Give at least 1.")
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigurationError(f"timeout={self.timeout} cannot be used. Give seconds above 0.")
        if self.pruner not in get_args(Pruner):
            near = did_you_mean(str(self.pruner), get_args(Pruner))
            raise ConfigurationError(
                f"pruner={self.pruner!r} is unknown.{near} Accepted are {listed(get_args(Pruner))}."
            )
        studies.check_study_name(self.study)


def search(
    preprocessor: Preprocessor,
    train: MultimodalDataset | StreamedDataset,
    validation: MultimodalDataset | None,
    *,
    options: SearchOptions,
    settings: ModelSettings | None = None,
    adapter: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    space: Mapping[str, OptionSpace] | None = None,
    prefix_cache: PrefixCacheOptions | None = None,
    report: Callable[[str], None] | None = None,
    after_trial: Callable[[SearchResult], None] | None = None,
) -> SearchResult:
    """Train again and again with other options, and return what gave the best metric on the validation rows.

    What ``adapter`` and ``training`` give a value stays as it is, unless ``space`` names it. The first trial has the
    settings without a search; after it a TPE sampler chooses, by the seed of the training. Trials that diverge or run
    out of memory are recorded as failed. The same call goes on with a search that was cut short, also in the middle of
    a trial, and proposes the trials that it would have proposed.

    Args:
        preprocessor: Fitted on the training rows.
        train: The training rows, in memory or streamed.
        validation: The rows by which trials are compared.
        options: How to search.
        settings: Backbone, pooling and head.
        adapter: Options of ``MultimodalAdapterConfig`` but its modalities, which are the preprocessor's.
        training: Options of ``MultimodalTrainingArguments``.
        space: By section and field (``adapter.dropout``, ``training.learning_rate``, ``model.head``) what to search.
        prefix_cache: As in ``fit``.
        report: Called with a line for a person.
        after_trial: Called after every trial with all that is known, and once at the start where there are trials.

    Raises:
        ConfigurationError: If there are no validation rows, the space or a setting cannot be used, the study has trials
            of other settings or is open in another process, or all trials failed.
        MissingDependencyError: If Optuna is not installed.
        TrainingInterrupted: If a signal ended it; it can be gone on with.
    """
    studies.require_optuna()
    own = RunSettings(preprocessor.modalities, settings or ModelSettings(), adapter or {}, training or {})
    arguments = own.arguments()
    if validation is None:
        raise ConfigurationError(
            "A search compares trials on validation rows, and there are none. Give some (in a run file "
            "data.validation, or data.split: {validation: 0.1})."
        )
    if preprocessor.labels is None:
        raise ConfigurationError("The preprocessor was fitted without a label column, so there is nothing to train on.")
    arguments.for_run(str(preprocessor.labels.problem_type), has_validation=True)
    _check_arguments(arguments)
    config = own.adapter_config()
    encoder = load_encoder(own.model.backbone)
    n_layers = find_sites(encoder, config.encoder_sites).n_layers
    fixed = {"adapter": own.adapter, "training": own.training}
    searched = full_space(space or {}, fixed, preprocessor.modalities, n_layers, options.default_space)
    check_values(own, searched, encoder)
    del encoder
    labels = [str(label) for label in preprocessor.labels.classes]
    same = run_settings(own.model, config, arguments, train, validation, labels)
    same["space"] = {name: {key: encoded(value) for key, value in asdict(o).items()} for name, o in searched.items()}
    same["prefix_cache"] = None if prefix_cache is None else prefix_cache.dtype
    storage = options.storage or options.folder / STORAGE_FILE
    direction = "maximize" if arguments.greater_is_better else "minimize"
    rows = SearchedRows(preprocessor, train, validation)
    with studies.quiet_optuna(), studies.opened_study(storage, options.study, direction, same, options.folder) as study:
        study.pruner = _pruner(options.pruner, arguments)
        limits = SearchLimits(options.folder, options.trials, options.timeout)
        run = RunningSearch(study, own, arguments, searched, rows, limits, prefix_cache, report, after_trial)
        return run.run()


def _check_arguments(arguments: MultimodalTrainingArguments) -> None:
    if arguments.world_size > 1:
        raise ConfigurationError(
            f"A search runs in one process, and this is one of {arguments.world_size}. Start it without torchrun."
        )
    if arguments.eval_strategy == "no":
        raise ConfigurationError(
            "eval_strategy='no' leaves a search without anything to compare trials by. Take it out: the default "
            "evaluates after every epoch."
        )


def _pruner(name: Pruner, arguments: MultimodalTrainingArguments) -> BasePruner:
    from optuna import pruners

    if name == "none":
        return pruners.NopPruner()
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_EVALUATIONS + 1)
    by_epoch = arguments.eval_strategy == "epoch" and arguments.max_steps <= 0
    return pruners.HyperbandPruner(max_resource=math.ceil(arguments.num_train_epochs) if by_epoch else "auto")
