"""The study of a search in Optuna's SQLite file: opened by one process at a time, and gone on with after a kill."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.training.run_settings import differences

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

SETTINGS = "settings"
"""Study attribute: what is the same in all trials, and the space."""
OPTIONS = "options"
"""Trial attribute: every searched option's value."""
OWN = "own_settings"
"""Trial attribute: whether the values are those of the run without a search."""
OUTSIDE = "outside"
"""Trial attribute: values that the space does not have, which the sampler is not asked for."""
FOLDER = "folder"
"""Trial attribute: name of its folders; of a trial that is tried again, those of the first attempt."""
KILLED = "killed"
"""Trial attribute: in how many attempts the process died."""
INSTEAD_OF = "instead_of"
"""Trial attribute: number of the trial that was cut short, whose place this one takes."""
ERROR = "error"
"""Trial attribute: why it failed; without it, since its process was killed."""

METRICS = "metrics"
"""Trial attribute: all metrics on the validation rows where it was best."""
EPOCH = "epoch"
"""Trial attribute: when that was."""

MOST_KILLED = 2
"""A trial in which the process died this often is not tried again: it may be what kills it."""
MOST_NAMED = 8


def require_optuna() -> None:
    """Raise MissingDependencyError if Optuna is not installed."""
    try:
        import filelock  # noqa: F401
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"A search needs the package '{error.name}', which is not installed. Install it with: "
            'pip install "mmadapters[search]"'
        ) from error


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging every trial on standard error."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def opened_study(
    storage: Path, name: str, direction: str, settings: Mapping[str, Any], folder: Path
) -> Iterator[Study]:
    """Open a study, or make it, for as long as the block lasts; nobody else can meanwhile.

    Args:
        storage: The SQLite file.
        name: The study's.
        direction: ``maximize`` or ``minimize``.
        settings: Plain values that a search that goes on must have in common with the one that it goes on with.
        folder: Where the search writes.

    Raises:
        ConfigurationError: If another process has it open, the file cannot be read, or the study has finished trials of
            other settings.
    """
    import optuna

    if "?" in str(storage):
        raise ConfigurationError(f"SQLite cannot open '{storage}': the path has a question mark. Name another one.")
    with ExitStack() as stack:
        with _readable(storage):
            storage.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
        for lock in dict.fromkeys((_lock_of(storage, name), folder.resolve() / ".search.lock")):
            _hold(stack, lock, f"study '{name}' in '{storage}'")
        with _readable(storage):
            url = f"sqlite:///{storage.resolve()}"
            database = optuna.storages.RDBStorage(url)
            stack.callback(database.engine.dispose)
            stack.callback(database.remove_session)
            study = _load(database, name, direction, settings)
        yield study


def _load(database: Any, name: str, direction: str, settings: Mapping[str, Any]) -> Study:
    import optuna

    if name in optuna.get_all_study_names(database):
        study = optuna.load_study(study_name=name, storage=database)
        found = list(differences(study.user_attrs.get(SETTINGS, {}), settings))
        if not found:
            return study
        if finished_trials(study):
            more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
            raise ConfigurationError(
                f"The study '{name}' has trials with other settings, which cannot be compared with these: "
                f"{'; '.join(found[:MOST_NAMED])}{more}. Go on with the settings that it was started with, or start "
                "another one: name another study (mmadapters search --study)."
            )
        optuna.delete_study(study_name=name, storage=database)
    study = optuna.create_study(study_name=name, storage=database, direction=direction)  # type: ignore[arg-type]
    study.set_user_attr(SETTINGS, dict(settings))
    return study


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that count, in their order: completed, pruned or failed by themselves, not cut short."""
    trials = study.get_trials(deepcopy=False)
    cut_short = {trial.user_attrs.get(INSTEAD_OF) for trial in trials}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in cut_short]


def running_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that were begun and have no end."""
    import optuna

    return study.get_trials(states=(optuna.trial.TrialState.RUNNING,))


def waiting_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that will be begun next, in that order."""
    import optuna

    return study.get_trials(states=(optuna.trial.TrialState.WAITING,))


def next_attributes(study: Study) -> dict[str, Any]:
    """Return the attributes of the trial that will be begun next; none where the sampler is to propose it."""
    waiting = waiting_trials(study)
    return dict(waiting[0].user_attrs) if waiting else {}


def repeat_killed(study: Study) -> list[str]:
    """Have trials tried again that were running when their process was killed.

    The lock makes sure that no process runs one of them now.

    Returns:
        A line for a person on each.
    """
    import optuna

    lines = []
    for trial in running_trials(study):
        killed = trial.user_attrs.get(KILLED, 0) + 1
        if killed >= MOST_KILLED:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            lines.append(f"trial {trial.number}: failed, since its process was killed {killed} times")
        else:
            repeat(study, trial, killed)
            lines.append(f"trial {trial.number}: was killed, and is tried again")
    return lines


def repeat(study: Study, trial: FrozenTrial | Trial, killed: int | None = None) -> None:
    """Put another trial with the same values in the place of one that was cut short.

    Args:
        study: The study.
        trial: The trial, which is running.
        killed: In how many attempts the process died; as before where it did not.
    """
    import optuna

    if all(other.user_attrs.get(INSTEAD_OF) != trial.number for other in study.get_trials(deepcopy=False)):
        attributes = {**trial.user_attrs, INSTEAD_OF: trial.number}
        attributes[KILLED] = attributes.get(KILLED, 0) if killed is None else killed
        study.enqueue_trial(trial.params, user_attrs=attributes)
    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def sampler(seed: int, n_finished: int) -> Any:
    """Return the sampler of the next trial: what it draws follows from seed, place and the trials before.

    A search that was interrupted would else draw once more what it drew at its start.

    Args:
        seed: Of the search.
        n_finished: How many trials count so far.
    """
    import optuna

    return optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([seed, n_finished]).generate_state(1)[0]))


def check_study_name(name: str) -> None:
    """Raise ConfigurationError if a name cannot be that of a study: it is that of a folder, too."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ConfigurationError(
            f"The study's name {name!r} cannot be used. Accepted are letters, digits, '-', '_' and '.', not first."
        )


def _lock_of(storage: Path, name: str) -> Path:
    resolved = storage.resolve()
    return resolved.with_name(f".{resolved.name}.{name}.lock")


def _hold(stack: ExitStack, lock: Path, what: str) -> None:
    import filelock

    try:
        stack.enter_context(filelock.FileLock(lock, timeout=0))
    except filelock.Timeout as error:
        raise ConfigurationError(
            f"Another process is searching: {what}. Wait until it has ended, or name another study "
            "(mmadapters search --study)."
        ) from error


@contextmanager
def _readable(storage: Path) -> Iterator[None]:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise ConfigurationError(
            f"'{storage}' cannot be read as the SQLite file of a search: {reason}. Name another file "
            "(mmadapters search --storage), or one that Optuna wrote."
        ) from error
