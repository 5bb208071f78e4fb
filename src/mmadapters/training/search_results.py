"""What a search found: its trials, the best one, and which options mattered."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mmadapters.training import search_study as studies
from mmadapters.training.search_space import OptionSpace

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

TrialState = Literal["complete", "pruned", "failed"]
FEWEST_FOR_IMPORTANCE = 8
"""Complete trials. On made-up studies with one option that matters among three, 5 named it in 17 of 20, 8 in all."""


@dataclass(frozen=True)
class SearchTrial:
    """One finished trial.

    Attributes:
        number: Its number in the study, counted from 0. Those of attempts that were cut short are left out.
        state: ``complete``; ``pruned`` for one that was ended early; ``failed`` for one that ended with an error.
        value: Of the metric on the validation rows: of a complete trial the best one, of a pruned one the last, of a
            failed one None.
        options: The value of every searched option.
        is_own: Whether these are the settings of the run without a search.
        metrics: All metrics on the validation rows where ``value`` was measured; empty unless complete.
        epoch: When that was.
        n_evaluations: How often it was evaluated.
        seconds: How long it took; of one that was cut short and gone on with, the last attempt.
        error: Why it failed.
    """

    number: int
    state: TrialState
    value: float | None
    options: Mapping[str, Any]
    is_own: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: float | None = None
    n_evaluations: int = 0
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """What is known after some trials.

    Attributes:
        study: Its name.
        metric: By which trials are compared, on the validation rows.
        greater_is_better: Whether more of it is better.
        space: What was searched.
        trials: The finished ones, in their order.
        importance: For each option its share in what the values of complete trials differ by, the largest first; empty
            where there are too few of them.
    """

    study: str
    metric: str
    greater_is_better: bool
    space: Mapping[str, OptionSpace]
    trials: Sequence[SearchTrial]
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def ranked(self) -> list[SearchTrial]:
        """The complete trials, the best first; of equal ones the earlier one."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        sign = -1.0 if self.greater_is_better else 1.0
        return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    @property
    def best(self) -> SearchTrial | None:
        """The best complete trial, or None where there is none."""
        return next(iter(self.ranked), None)

    @property
    def own(self) -> SearchTrial | None:
        """The trial with the run's own settings, or None where it has not finished."""
        return next((trial for trial in self.trials if trial.is_own), None)

    def count(self, state: TrialState) -> int:
        """Return how many trials ended in a state."""
        return sum(trial.state == state for trial in self.trials)

    def to_csv(self) -> str:
        """Return the trials as a table, one row each, the columns being the same whatever happened."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        after = ["epoch", "evaluations", "seconds", "own_settings", "error"]
        writer.writerow(["trial", "state", f"validation_{self.metric}", *self.space, *after])
        for trial in self.trials:
            options = [_cell(trial.options.get(name)) for name in self.space]
            rest = [trial.epoch, trial.n_evaluations, trial.seconds, str(trial.is_own).lower(), trial.error]
            writer.writerow([trial.number, trial.state, trial.value, *options, *rest])
        return file.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {
            "study": self.study,
            "metric": self.metric,
            "greater_is_better": self.greater_is_better,
            "space": {name: asdict(option) for name, option in self.space.items()},
            "finished_trials": len(self.trials),
            **{state: self.count(state) for state in ("complete", "pruned", "failed")},
            "best": None if self.best is None else asdict(self.best),
            "own_settings": None if self.own is None else asdict(self.own),
            "importance": dict(self.importance),
        }


def shown(value: Any) -> str:
    """Return an option's value for a person: numbers with four digits, and null, true and false as in YAML."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def result_of(study: Study, metric: str, space: Mapping[str, OptionSpace]) -> SearchResult:
    """Return what a study holds.

    Args:
        study: The study.
        metric: Its metric.
        space: What is searched.
    """
    trials = [_recorded(trial) for trial in studies.finished_trials(study)]
    importance = option_importance(study, space)
    return SearchResult(study.study_name, metric, study.direction.name == "MAXIMIZE", space, trials, importance)


def _recorded(trial: FrozenTrial) -> SearchTrial:
    attributes = trial.user_attrs
    states: dict[str, TrialState] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    state = states[trial.state.name]
    error = None
    if state == "failed":
        error = attributes.get(studies.ERROR) or "the process was killed in every attempt"
    return SearchTrial(
        trial.number,
        state,
        None if trial.value is None or math.isnan(trial.value) else trial.value,
        attributes.get(studies.OPTIONS, {}),
        bool(attributes.get(studies.OWN, False)),
        attributes.get(studies.METRICS, {}),
        attributes.get(studies.EPOCH),
        len(trial.intermediate_values),
        None if trial.duration is None else round(trial.duration.total_seconds(), 1),
        error,
    )


def option_importance(study: Study, space: Mapping[str, OptionSpace]) -> dict[str, float]:
    """Return each option's share in what the values of complete trials differ by, by fANOVA (Hutter et al. 2014).

    Args:
        study: The study.
        space: What is searched. A trial with a value outside it is left out.

    Returns:
        The largest first; nothing where there are too few trials, or all have the same value.
    """
    import optuna

    complete = [trial for trial in studies.finished_trials(study) if trial.state.name == "COMPLETE"]
    usable = [trial for trial in complete if set(trial.params) == set(space)]
    if len(usable) < FEWEST_FOR_IMPORTANCE or len({trial.value for trial in usable}) == 1:
        return {}
    inside = optuna.create_study(direction=study.direction)
    inside.add_trials(usable)
    found = optuna.importance.get_param_importances(
        inside, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    return found if all(math.isfinite(share) for share in found.values()) else {}


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple | bool) or value is None else value
