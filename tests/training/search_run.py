"""A small search for the tests, also in a process of its own that kills itself.

``python search_run.py <backbone> <folder> <trial> <evaluation>`` searches and is killed in that trial after that
evaluation.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training_run import rows

from mmadapters.backbones import load_tokenizer
from mmadapters.data.preprocessor import Preprocessor
from mmadapters.data.schema import DatasetSchema, VectorColumn
from mmadapters.training.fit import ModelSettings
from mmadapters.training.search import Range, SearchOptions, SearchResult, search
from mmadapters.training.search_trial import StudyReport

ADAPTER = {"bottleneck_size": 8}
TRAINING = {
    "learning_rate": 3e-2,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "disable_tqdm": True,
    "use_cpu": True,
    "seed": 3,
}
SPACE = {"adapter.dropout": Range(0, 0.5, step=0.05), "training.learning_rate": Range(1e-3, 1e-1, log=True)}


def prepared(backbone: Path) -> tuple[Preprocessor, Any, Any]:
    """The preprocessor, training rows and validation rows of all searches here."""
    frame = rows(40, seed=0)
    schema = DatasetSchema(text="plot", label="labels", modalities=(VectorColumn("poster", "vector"),))
    preprocessor = Preprocessor.fit(frame, schema, load_tokenizer(str(backbone)))
    return preprocessor, preprocessor.transform(frame), preprocessor.transform(rows(20, seed=1))


def run_search(
    backbone: Path,
    folder: Path,
    *,
    trials: int = 3,
    space: Mapping[str, Any] | None = None,
    adapter: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    report: Callable[[str], None] | None = None,
    validation: Any = "prepared",
    **more: Any,
) -> SearchResult:
    options = {name: more.pop(name) for name in ("pruner", "timeout", "study", "storage") if name in more}
    preprocessor, train, dev = prepared(backbone)
    return search(
        preprocessor,
        train,
        dev if validation == "prepared" else validation,
        options=SearchOptions(folder, trials, default_space=False, **options),
        settings=ModelSettings(backbone=str(backbone)),
        adapter=ADAPTER if adapter is None else adapter,
        training={**TRAINING, **(training or {})},
        space=SPACE if space is None else space,
        report=report,
        **more,
    )


def without_clock(result: SearchResult) -> list[tuple]:
    """The trials without numbers, which count attempts, and seconds."""
    return [
        (trial.state, trial.value, dict(trial.options), trial.is_own, dict(trial.metrics), trial.epoch, trial.error)
        for trial in result.trials
    ]


class InTrial:
    """Does something in a trial, after an evaluation of it was reported."""

    def __init__(self, trial: int, evaluation: int, action: Callable[[], None]) -> None:
        self.trial, self.evaluation, self.action = trial, evaluation, action
        self.before = StudyReport.on_evaluate

    def __call__(self, report: StudyReport, *args: Any, **kwargs: Any) -> None:
        self.before(report, *args, **kwargs)
        if (report.trial.number, report.n_reported) == (self.trial, self.evaluation):
            self.action()

    def on_evaluate(self) -> Callable[..., None]:
        """What takes the place of ``StudyReport.on_evaluate``: a function, so that it is bound like a method."""
        return lambda report, *args, **kwargs: self(report, *args, **kwargs)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    StudyReport.on_evaluate = InTrial(int(sys.argv[3]), int(sys.argv[4]), kill).on_evaluate()  # type: ignore[method-assign]
    run_search(Path(sys.argv[1]), Path(sys.argv[2]))
