"""A comparison's folder: what its runs have in common, and what each of them gave.

``experiment.json`` and ``targets.npz`` are written when a comparison starts. A run writes ``logits.npz`` and then
``result.json``, each whole or not at all, so that a run with a result is a finished one.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mmadapters.errors import DataError
from mmadapters.evaluation.comparison import Contender, RunOutcome, Task, compare_runs
from mmadapters.files import write_bytes_atomically, write_json_atomically

EXPERIMENT_FILE = "experiment.json"
TARGETS_FILE = "targets.npz"
RESULT_FILE = "result.json"
LOGITS_FILE = "logits.npz"
FAILURE_FILE = "failure.json"
LOG_FILE = "log.txt"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        contender: Its name.
        seed: Of initialisation and order.
        folder: Of the run, relative to the comparison's.
        digest: Of everything that decides what the run gives.
    """

    contender: str
    seed: int
    folder: str
    digest: str


@dataclass(frozen=True)
class Experiment:
    """What is fixed when a comparison starts.

    Attributes:
        task: Rows and labels.
        contenders: In the order of the tables.
        runs: All of them, in the order in which they are made.
        seeds: Of the comparison.
        reference: Name of the contender that the others are compared with.
        resamples: Draws of the bootstrap.
        notes: Lines for the footer, such as what was cut or left out.
    """

    task: Task
    contenders: list[Contender]
    runs: list[PlannedRun]
    seeds: list[int]
    reference: str
    resamples: int
    notes: list[str]


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Write what is fixed when a comparison starts.

    Args:
        folder: Of the comparison.
        experiment: What to write.
    """
    content = asdict(experiment)
    targets = content["task"].pop("targets")
    _write_arrays(folder / TARGETS_FILE, targets)
    write_json_atomically(folder / EXPERIMENT_FILE, content)


def read_experiment(folder: Path) -> Experiment:
    """Read what ``write_experiment`` wrote.

    Args:
        folder: Of the comparison.

    Raises:
        DataError: If there is none, or it cannot be read.
    """
    path = folder / EXPERIMENT_FILE
    if not path.is_file():
        raise DataError(
            f"'{folder}' has no {EXPERIMENT_FILE}, so it is no folder of a comparison. Name the output_dir of a run "
            "that `mmadapters compare` was started with."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        task = Task(**content["task"], targets=_read_arrays(folder / TARGETS_FILE))
        contenders = [
            Contender(**{**entry, "modalities": tuple(entry["modalities"])}) for entry in content["contenders"]
        ]
        runs = [PlannedRun(**entry) for entry in content["runs"]]
        rest = {name: content[name] for name in ("seeds", "reference", "resamples", "notes")}
        return Experiment(task, contenders, runs, **rest)
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"'{path}' or '{TARGETS_FILE}' beside it cannot be read ({error}). Start the comparison again with its "
            "YAML; finished runs are kept."
        ) from error


def write_outcome(folder: Path, digest: str, outcome: RunOutcome, **about: Any) -> None:
    """Write what a run gave; afterwards it is a finished one.

    Args:
        folder: Of the run.
        digest: Of its settings and rows.
        outcome: What it gave.
        about: Further plain values for people.
    """
    values = {entry.name: getattr(outcome, entry.name) for entry in fields(outcome) if entry.name != "logits"}
    # Logits of a new run must never stand beside the result of an old one.
    (folder / RESULT_FILE).unlink(missing_ok=True)
    _write_arrays(folder / LOGITS_FILE, outcome.logits)
    write_json_atomically(folder / RESULT_FILE, {"digest": digest, **about, **values})
    (folder / FAILURE_FILE).unlink(missing_ok=True)


def read_outcome(folder: Path, digest: str) -> RunOutcome | None:
    """Return what a run gave, or None where no whole result with this digest is.

    Args:
        folder: Of the run.
        digest: Of the settings and rows that it is to have.
    """
    try:
        content = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        if content["digest"] != digest:
            return None
        names = [entry.name for entry in fields(RunOutcome) if entry.name != "logits"]
        return RunOutcome(_read_arrays(folder / LOGITS_FILE), **{n: content[n] for n in names if n in content})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def write_failure(folder: Path, digest: str, message: str) -> None:
    """Write why a run gave nothing.

    Args:
        folder: Of the run.
        digest: Of its settings and rows.
        message: For a person.
    """
    write_json_atomically(folder / FAILURE_FILE, {"digest": digest, "message": message})


def read_failure(folder: Path, digest: str) -> str | None:
    """Return why a run with this digest gave nothing, or None where nothing is known of it.

    Args:
        folder: Of the run.
        digest: Of its settings and rows.
    """
    try:
        content = json.loads((folder / FAILURE_FILE).read_text(encoding="utf-8"))
        return str(content["message"]) if content["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compare_folder(folder: Path, experiment: Experiment | None = None) -> dict[str, Any]:
    """Compare the finished runs of a folder; see ``compare_runs`` for what it returns, and ``notes``.

    Args:
        folder: Of the comparison.
        experiment: What is fixed; read from the folder where absent.

    Raises:
        DataError: If the folder is none of a comparison.
    """
    fixed = read_experiment(folder) if experiment is None else experiment
    outcomes: dict[str, dict[int, RunOutcome]] = {}
    failures: dict[tuple[str, int], str] = {}
    for run in fixed.runs:
        place = folder / run.folder
        outcome = read_outcome(place, run.digest)
        if outcome is not None and _fits(outcome, fixed.task):
            outcomes.setdefault(run.contender, {})[run.seed] = outcome
        elif (message := read_failure(place, run.digest)) is not None:
            failures[run.contender, run.seed] = message
    found = compare_runs(
        fixed.task,
        fixed.contenders,
        outcomes,
        seeds=fixed.seeds,
        reference=fixed.reference,
        failures=failures,
        resamples=fixed.resamples,
    )
    return {**found, "notes": list(fixed.notes)}


def _fits(outcome: RunOutcome, task: Task) -> bool:
    return all(
        split in outcome.logits and len(outcome.logits[split]) == len(targets)
        for split, targets in task.targets.items()
    )


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes_atomically(path, buffer.getvalue())


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}
