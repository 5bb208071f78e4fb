"""The loop of a search: asks the study for a trial, trains it, tells the study, writes down what is known."""

from __future__ import annotations

import gc
import math
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmadapters.data.dataset import MultimodalDataset
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.streaming import StreamedDataset
from mmadapters.errors import ConfigurationError, MMAdaptersError, TrainingInterrupted
from mmadapters.files import write_json_atomically, write_text_atomically
from mmadapters.training import search_study as studies
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import fit
from mmadapters.training.prefix_cache import PrefixCacheOptions
from mmadapters.training.search_results import SearchResult, result_of, shown
from mmadapters.training.search_space import OptionSpace, contains, decoded, distribution, encoded
from mmadapters.training.search_trial import RunSettings, StudyReport, best_evaluation
from mmadapters.training.tracking import end_tracker_runs

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

TRIALS_FILE = "trials.csv"
RESULT_FILE = "search.json"
CHECKPOINTS = "checkpoints"
LOGS = "logs"
TIMED = ("runtime", "per_second", "preparation_time")
"""Ends of the names of what an evaluation logs beside metrics."""


@dataclass(frozen=True)
class SearchedRows:
    """What all trials read.

    Attributes:
        preprocessor: Fitted on the training rows.
        train: The training rows.
        validation: The rows by which trials are compared.
    """

    preprocessor: Preprocessor
    train: MultimodalDataset | StreamedDataset
    validation: MultimodalDataset


@dataclass(frozen=True)
class SearchLimits:
    """When a search ends, and where it writes.

    Attributes:
        folder: Where it writes.
        trials: How many trials the study is to have in the end.
        timeout: Seconds after which no other trial is started, or None.
    """

    folder: Path
    trials: int
    timeout: float | None = None


@dataclass
class RunningSearch:
    """A search whose study is open.

    Attributes:
        study: The study, with its pruner.
        own: The settings of the run without a search.
        arguments: Its training arguments, settled for the data.
        space: What is searched.
        rows: What all trials read.
        limits: When it ends, and where it writes.
        prefix_cache: As in ``fit``.
        report: Called with a line for a person.
        after_trial: Called with what is known, after every trial.
    """

    study: Study
    own: RunSettings
    arguments: MultimodalTrainingArguments
    space: Mapping[str, OptionSpace]
    rows: SearchedRows
    limits: SearchLimits
    prefix_cache: PrefixCacheOptions | None
    report: Callable[[str], None] | None
    after_trial: Callable[[SearchResult], None] | None

    def run(self) -> SearchResult:
        """Try until there are enough trials or the time is over."""
        deadline = math.inf if self.limits.timeout is None else time.monotonic() + self.limits.timeout
        for line in studies.repeat_killed(self.study):
            self._tell(line)
        self._remove_leftovers()
        self._enqueue_own()
        try:
            if self.n_finished:
                self._tell(f"going on with the study '{self.study.study_name}', finished trials: {self.n_finished}")
                self._write()
            while (n := self.n_finished) < self.limits.trials and (not n or time.monotonic() < deadline):
                self._try_once()
                self._write()
        except KeyboardInterrupt as stop:
            number = getattr(stop, "signal_number", signal.SIGINT)
            raise TrainingInterrupted(
                f"stopped by {signal.Signals(number).name} after {self.n_finished} of {self.limits.trials} "
                f"trials, which are kept in '{self.limits.folder}'. The same command goes on with them.",
                int(number),
            ) from stop
        finally:
            for trial in studies.running_trials(self.study):
                studies.repeat(self.study, trial)
        return self._checked(self.result)

    @property
    def result(self) -> SearchResult:
        """What is known."""
        return result_of(self.study, self.metric, self.space)

    @property
    def n_finished(self) -> int:
        """How many trials count."""
        return len(studies.finished_trials(self.study))

    @property
    def metric(self) -> str:
        """The metric's name without the Trainer's prefix."""
        return str(self.arguments.metric_for_best_model).removeprefix("eval_")

    def _enqueue_own(self) -> None:
        """Have the run's own settings tried first."""
        if any(trial.user_attrs.get(studies.OWN) for trial in self.study.get_trials(deepcopy=False)):
            return
        values = {name: self.own.value(name) for name in self.space}
        inside = {name: value for name, value in values.items() if contains(name, self.space[name], value)}
        outside = {name: value for name, value in values.items() if name not in inside}
        self.study.enqueue_trial(
            {name: encoded(value) for name, value in inside.items()},
            user_attrs={studies.OWN: True, studies.OUTSIDE: outside},
        )

    def _try_once(self) -> None:
        """Ask for a trial, train it, and tell how it ended."""
        from optuna.trial import TrialState

        n_finished = self.n_finished
        self.study.sampler = studies.sampler(self.arguments.seed, n_finished)
        outside = studies.next_attributes(self.study).get(studies.OUTSIDE, {})
        asked = {name: option for name, option in self.space.items() if name not in outside}
        trial = self.study.ask({name: distribution(name, option) for name, option in asked.items()})
        chosen = {name: decoded(option, trial.params[name]) for name, option in asked.items()}
        values = {name: outside[name] if name in outside else chosen[name] for name in self.space}
        trial.set_user_attr(studies.OPTIONS, values)
        if studies.FOLDER not in trial.user_attrs:
            trial.set_user_attr(studies.FOLDER, f"trial-{trial.number:04d}")
        is_own = bool(trial.user_attrs.get(studies.OWN))
        self._tell(f"trial {trial.number}, {n_finished + 1} of {self.limits.trials}: {described(values, is_own)}")
        callback = StudyReport(trial, f"eval_{self.metric}", may_prune=not is_own)
        try:
            found = self._train(trial, values, callback)
        except Exception as error:
            if is_own and not callback.began and isinstance(error, MMAdaptersError):
                # No trial would do better: it is the run that cannot be trained.
                raise
            trial.set_user_attr(studies.ERROR, f"{type(error).__name__}: {error}")
            self.study.tell(trial, state=TrialState.FAIL)
            self._tell(f"  failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        else:
            trial.set_user_attr(studies.EPOCH, found.get("epoch"))
            if callback.pruned:
                self.study.tell(trial, state=TrialState.PRUNED)
                self._tell(f"  pruned after {callback.n_reported} evaluations")
            else:
                metrics = {
                    name.removeprefix("eval_"): value for name, value in found.items() if name.startswith("eval_")
                }
                trial.set_user_attr(studies.METRICS, _without_times(metrics))
                self.study.tell(trial, found[f"eval_{self.metric}"])
                self._tell_value(trial, found)
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        shutil.rmtree(self.limits.folder / CHECKPOINTS, ignore_errors=True)

    def _train(self, trial: Trial, values: Mapping[str, Any], callback: StudyReport) -> dict[str, Any]:
        """Train, from the checkpoint of an attempt that was cut short if there is one; return the best evaluation."""
        run = self.own.changed(values)
        name = trial.user_attrs[studies.FOLDER]
        checkpoints = self._checkpoints(trial)
        logs = Path(run.training.get("logging_dir") or self.limits.folder / LOGS) / name
        arguments = run.arguments(output_dir=str(checkpoints), logging_dir=str(logs))
        if arguments.report_to and arguments.run_name is None:
            arguments.run_name = f"{self.study.study_name}-{name}"
        end_tracker_runs()
        fitted = fit(
            self.rows.preprocessor,
            self.rows.train,
            self.rows.validation,
            settings=run.model,
            adapter=run.adapter_config(),
            arguments=arguments,
            callbacks=[callback],
            resume=checkpoints.is_dir(),
            prefix_cache=self.prefix_cache,
        )
        callback.report(fitted.log)
        return best_evaluation(fitted, self.arguments, f"eval_{self.metric}")

    def _checkpoints(self, trial: Trial) -> Path:
        return self.limits.folder / CHECKPOINTS / str(trial.user_attrs[studies.FOLDER])

    def _remove_leftovers(self) -> None:
        """Remove the checkpoints of trials that will not be gone on with."""
        kept = {trial.user_attrs.get(studies.FOLDER) for trial in studies.waiting_trials(self.study)}
        for folder in (self.limits.folder / CHECKPOINTS).glob("trial-*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _write(self) -> None:
        """Write what is known, and hand it on."""
        result = self.result
        write_text_atomically(self.limits.folder / TRIALS_FILE, result.to_csv())
        write_json_atomically(self.limits.folder / RESULT_FILE, result.to_dict())
        if self.after_trial is not None:
            self.after_trial(result)

    def _checked(self, result: SearchResult) -> SearchResult:
        if result.best is None:
            errors = [trial.error for trial in result.trials if trial.error is not None]
            raise ConfigurationError(
                f"None of the {len(result.trials)} trials was trained to its end; {len(errors)} failed, the last one "
                f"with: {errors[-1] if errors else None}. See '{self.limits.folder / TRIALS_FILE}'."
            )
        return result

    def _tell(self, line: str) -> None:
        if self.report is not None:
            self.report(line)

    def _tell_value(self, trial: Trial, found: Mapping[str, Any]) -> None:
        best = self.result.best
        is_best = best is not None and best.number == trial.number
        self._tell(
            f"  {self.metric.replace('_', ' ')} {found[f'eval_{self.metric}']:.4f} on the validation rows in epoch "
            f"{found.get('epoch') or 0:g}{' (best so far)' if is_best else ''}"
        )


def described(values: Mapping[str, Any], is_own: bool) -> str:
    """Return a trial's options as a line for a person.

    Args:
        values: By section and field.
        is_own: Whether they are the run's own.
    """
    listing = ", ".join(f"{name.partition('.')[2]} {shown(value)}" for name, value in values.items())
    return f"{'the settings without a search: ' if is_own else ''}{listing}"


def _without_times(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if not name.endswith(TIMED)}
