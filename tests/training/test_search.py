"""A search: its first trial is the run itself, it prunes, survives failures and kills, and writes what it knows."""

from __future__ import annotations

import csv
import json
import math
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import optuna
import pytest
import torch
from search_run import ADAPTER, SPACE, TRAINING, InTrial, prepared, run_search, without_clock

from mmadapters.adapters.config import MultimodalAdapterConfig
from mmadapters.errors import ConfigurationError, MissingDependencyError, TrainingInterrupted
from mmadapters.training import search as search_module
from mmadapters.training import search_loop
from mmadapters.training import search_study as studies
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import ModelSettings, fit
from mmadapters.training.prefix_cache import PrefixCacheOptions
from mmadapters.training.search import Choices, Range, SearchOptions, SearchResult
from mmadapters.training.search_results import option_importance
from mmadapters.training.search_space import distribution
from mmadapters.training.search_trial import StudyReport


@pytest.fixture(autouse=True)
def _no_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes half of a tiny trial's time, with all libraries in one process."""
    monkeypatch.setattr("gc.collect", lambda *args: 0)


@pytest.fixture(scope="module")
def whole(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A search of three trials that nothing disturbed."""
    return run_search(tiny_backbone, tmp_path_factory.mktemp("whole"))


def learning_rates(result: SearchResult) -> list[float]:
    return [trial.options["training.learning_rate"] for trial in result.trials]


def test_the_first_trial_is_the_training_without_a_search(whole: SearchResult, tiny_backbone: Path) -> None:
    preprocessor, train, validation = prepared(tiny_backbone)
    fitted = fit(
        preprocessor,
        train,
        validation,
        settings=ModelSettings(backbone=str(tiny_backbone)),
        adapter=MultimodalAdapterConfig(modalities=preprocessor.modalities, **ADAPTER),
        arguments=MultimodalTrainingArguments(**TRAINING),
    )
    own = whole.own
    assert own is whole.trials[0]
    assert own.options == {"adapter.dropout": 0.2, "training.learning_rate": 3e-2}
    assert own.value == fitted.best_metric
    evaluated = [entry for entry in fitted.log if entry.get("eval_micro_average_precision") == own.value]
    measured = {name: evaluated[0][f"eval_{name}"] for name in ("macro_average_precision", "micro_f1", "loss")}
    assert {name: own.metrics[name] for name in measured} == measured
    assert own.epoch == evaluated[0]["epoch"]
    assert whole.best.value >= own.value


def test_trials_differ_and_the_same_search_finds_the_same(
    whole: SearchResult, tiny_backbone: Path, tmp_path: Path
) -> None:
    assert len({tuple(trial.options.values()) for trial in whole.trials}) == 3
    assert without_clock(run_search(tiny_backbone, tmp_path)) == without_clock(whole)
    short = {"seed": 4, "num_train_epochs": 1}
    other = run_search(tiny_backbone, tmp_path / "other", training=short, trials=2)
    assert other.trials[1].options != whole.trials[1].options


def test_it_writes_down_what_it_knows(tiny_backbone: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, bool]] = []

    def after(result: SearchResult) -> None:
        with (tmp_path / "trials.csv").open() as file:
            written = len(list(csv.DictReader(file)))
        seen.append((len(result.trials), written, (tmp_path / "checkpoints").exists()))

    result = run_search(tiny_backbone, tmp_path, after_trial=after)
    assert seen == [(1, 1, False), (2, 2, False), (3, 3, False)]
    with (tmp_path / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["state"] for row in table] == ["complete"] * 3
    assert [float(row["validation_micro_average_precision"]) for row in table] == [t.value for t in result.trials]
    assert [float(row["training.learning_rate"]) for row in table] == learning_rates(result)
    assert [row["own_settings"] for row in table] == ["true", "false", "false"]
    summary = json.loads((tmp_path / "search.json").read_text())
    assert summary["best"]["number"] == result.best.number
    assert summary["best"]["value"] == max(trial.value for trial in result.trials)
    assert summary["own_settings"]["value"] == result.trials[0].value
    assert (summary["complete"], summary["pruned"], summary["failed"]) == (3, 0, 0)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".search.lock", ".study.db.search.lock", "search.json", "study.db", "trials.csv"]


def test_the_same_call_goes_on_up_to_the_number_of_trials(
    whole: SearchResult, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert without_clock(run_search(tiny_backbone, tmp_path, trials=2)) == without_clock(whole)[:2]
    assert without_clock(run_search(tiny_backbone, tmp_path, trials=3)) == without_clock(whole)
    monkeypatch.setattr(search_loop, "fit", None)
    lines: list[str] = []
    assert without_clock(run_search(tiny_backbone, tmp_path, report=lines.append)) == without_clock(whole)
    assert lines == ["going on with the study 'search', finished trials: 3"]


def test_killed_in_the_middle_of_a_trial_it_ends_like_one_that_was_not(
    whole: SearchResult, tiny_backbone: Path, tmp_path: Path
) -> None:
    code = [sys.executable, str(Path(__file__).with_name("search_run.py")), str(tiny_backbone), str(tmp_path), "1", "2"]
    assert subprocess.run(code, check=False, timeout=120).returncode == -signal.SIGKILL
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("SELECT number, state FROM trials ORDER BY number").fetchall() == [
            (0, "COMPLETE"),
            (1, "RUNNING"),
        ]
    database.close()
    lines: list[str] = []
    result = run_search(tiny_backbone, tmp_path, report=lines.append)
    assert lines[0] == "trial 1: was killed, and is tried again"
    assert without_clock(result) == without_clock(whole)
    assert [trial.number for trial in result.trials] == [0, 2, 3]
    assert [trial.n_evaluations for trial in result.trials] == [trial.n_evaluations for trial in whole.trials]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_trial_is_gone_on_with(
    number: signal.Signals,
    whole: SearchResult,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        stop = InTrial(1, 1, lambda: signal.raise_signal(number))
        patched.setattr(StudyReport, "on_evaluate", stop.on_evaluate())
        with pytest.raises(TrainingInterrupted) as stopped:
            run_search(tiny_backbone, tmp_path)
    assert stopped.value.signal_number == number
    assert str(stopped.value).startswith(f"stopped by {number.name} after 1 of 3 trials, which are kept in")
    (left,) = (tmp_path / "checkpoints").iterdir()
    assert left.name == "trial-0001"
    resumed: list[bool] = []

    def remembered(*args: Any, **kwargs: Any) -> Any:
        resumed.append(kwargs["resume"])
        return fit(*args, **kwargs)

    monkeypatch.setattr(search_loop, "fit", remembered)
    assert without_clock(run_search(tiny_backbone, tmp_path)) == without_clock(whole)
    assert resumed == [True, False]
    assert not (tmp_path / "checkpoints").exists()


def test_a_trial_that_kills_its_process_again_is_given_up(tiny_backbone: Path, tmp_path: Path) -> None:
    run_search(tiny_backbone, tmp_path, trials=1)
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 'study.db'}")
    asked = {name: distribution(name, option) for name, option in SPACE.items()}
    for killed in (1, 2):
        running = study.ask(asked)
        running.set_user_attr(studies.OPTIONS, dict(running.params))
        assert studies.repeat_killed(study) == [
            f"trial {running.number}: was killed, and is tried again"
            if killed == 1
            else f"trial {running.number}: failed, since its process was killed 2 times"
        ]
    assert [trial.number for trial in studies.finished_trials(study)] == [0, 2]
    result = run_search(tiny_backbone, tmp_path, trials=2)
    assert [(trial.number, trial.state, trial.error) for trial in result.trials] == [
        (0, "complete", None),
        (2, "failed", "the process was killed in every attempt"),
    ]


def test_a_kill_between_the_two_steps_of_a_repetition_loses_and_doubles_nothing(tmp_path: Path) -> None:
    study = optuna.create_study()
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    study.enqueue_trial(trial.params, user_attrs={studies.INSTEAD_OF: trial.number, studies.KILLED: 1})
    studies.repeat_killed(study)
    assert [waiting.user_attrs[studies.INSTEAD_OF] for waiting in studies.waiting_trials(study)] == [0]
    assert studies.running_trials(study) == []
    assert studies.finished_trials(study) == []


@pytest.mark.parametrize(("pruner", "trials"), [("median", 5), pytest.param("hyperband", 7, marks=pytest.mark.slow)])
def test_bad_trials_are_pruned_but_never_the_first(
    pruner: str, trials: int, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "UNPRUNED_TRIALS", 1)
    logs: list[int] = []

    def remembered(*args: Any, **kwargs: Any) -> Any:
        fitted = fit(*args, **kwargs)
        logs.append(max(int(entry["step"]) for entry in fitted.log))
        return fitted

    monkeypatch.setattr(search_loop, "fit", remembered)
    space = {"training.learning_rate": Choices([3e-2, 1e-7])}
    result = run_search(tiny_backbone, tmp_path, trials=trials, space=space, pruner=pruner)
    states = {(trial.state, trial.options["training.learning_rate"]) for trial in result.trials}
    assert result.trials[0].state == "complete"
    assert ("pruned", 1e-7) in states
    assert ("complete", 3e-2) in states
    for trial, steps in zip(result.trials, logs, strict=True):
        assert steps == trial.n_evaluations * 5
        assert (trial.n_evaluations == 3) == (trial.state == "complete")
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert all(trial.value is not None and not trial.metrics for trial in pruned)
    assert result.best.state == "complete"


def test_without_a_pruner_none_is(tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "UNPRUNED_TRIALS", 1)
    space = {"training.learning_rate": Choices([3e-2, 1e-7])}
    result = run_search(tiny_backbone, tmp_path, trials=4, space=space, pruner="none", training={"num_train_epochs": 2})
    assert 1e-7 in learning_rates(result)[1:]
    assert [trial.state for trial in result.trials] == ["complete"] * 4


def test_trials_that_diverge_or_run_out_of_memory_are_recorded(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*args: Any, **kwargs: Any) -> Any:
        if kwargs["adapter"].bottleneck_size == 16:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        return fit(*args, **kwargs)

    monkeypatch.setattr(search_loop, "fit", too_large)
    space = {"training.learning_rate": Choices([3e-2, 1e30]), "adapter.bottleneck_size": Choices([8, 16])}
    lines: list[str] = []
    short = {"num_train_epochs": 1}
    result = run_search(tiny_backbone, tmp_path, trials=8, space=space, report=lines.append, training=short)
    assert result.trials[0].state == "complete"
    errors = {
        (t.options["training.learning_rate"], t.options["adapter.bottleneck_size"]): t.error for t in result.trials
    }
    assert errors[3e-2, 8] is None
    assert errors[1e30, 8].startswith("ConfigurationError: The training diverged in epoch")
    assert errors[3e-2, 16] == "OutOfMemoryError: CUDA out of memory.\nTried to allocate 2 GiB"
    assert len(result.trials) == 8
    assert "  failed: CUDA out of memory." in lines
    with (tmp_path / "trials.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8


def test_where_all_trials_fail_the_last_reason_is_told(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run_search(
            tiny_backbone,
            tmp_path,
            trials=2,
            training={"learning_rate": 1e30},
            space={"adapter.dropout": Choices([0.1, 0.2])},
        )
    assert "None of the 2 trials was trained to its end; 2 failed" in str(caught.value)
    assert "The training diverged" in str(caught.value)


def test_a_run_that_cannot_be_trained_ends_the_search_and_may_be_mended(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"metric_for_best_model='makro_f1' is no metric"):
        run_search(tiny_backbone, tmp_path, training={"metric_for_best_model": "makro_f1"})
    result = run_search(tiny_backbone, tmp_path, trials=1, training={"metric_for_best_model": "macro_f1"})
    assert [trial.number for trial in result.trials] == [0]
    assert (result.metric, result.greater_is_better) == ("macro_f1", True)


def test_the_direction_is_that_of_the_metric(tiny_backbone: Path, tmp_path: Path) -> None:
    training = {"metric_for_best_model": "eval_loss", "num_train_epochs": 1}
    result = run_search(tiny_backbone, tmp_path, training=training)
    assert (result.metric, result.greater_is_better) == ("loss", False)
    assert result.best.value == min(trial.value for trial in result.trials)
    assert result.best.value < max(trial.value for trial in result.trials)


def test_the_last_weights_count_where_the_best_are_not_restored(tiny_backbone: Path, tmp_path: Path) -> None:
    training = {"load_best_model_at_end": False, "early_stopping_patience": None, "learning_rate": 0.3}
    own = run_search(tiny_backbone, tmp_path, trials=1, training=training).own
    assert own.epoch == 3.0


def test_settings_of_the_trials_that_are_there_have_to_be_the_same(tiny_backbone: Path, tmp_path: Path) -> None:
    run_search(tiny_backbone, tmp_path, trials=1)
    with pytest.raises(ConfigurationError) as caught:
        run_search(tiny_backbone, tmp_path, training={"num_train_epochs": 2, "warmup_steps": 0.2})
    assert "The study 'search' has trials with other settings" in str(caught.value)
    assert "training.num_train_epochs was 3 and is 2; " in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"space\.adapter\.dropout\.high was 0\.5 and is 0\.4"):
        run_search(tiny_backbone, tmp_path, space={**SPACE, "adapter.dropout": Range(0, 0.4, step=0.05)})
    with pytest.raises(ConfigurationError, match="the validation rows are others"):
        run_search(tiny_backbone, tmp_path, validation=prepared(tiny_backbone)[1])
    again = run_search(tiny_backbone, tmp_path, trials=1, training={"num_train_epochs": 2}, study="short")
    assert [trial.number for trial in again.trials] == [0]


def test_one_file_may_hold_several_studies(tiny_backbone: Path, tmp_path: Path) -> None:
    storage, short = tmp_path / "all" / "studies.db", {"num_train_epochs": 1}
    for study in ("a", "b"):
        run_search(tiny_backbone, tmp_path / study, trials=1, study=study, storage=storage, training=short)
        assert not (tmp_path / study / "study.db").exists()
    assert sorted(optuna.get_all_study_names(f"sqlite:///{storage}")) == ["a", "b"]


def test_a_value_outside_the_space_is_tried_first_all_the_same(tiny_backbone: Path, tmp_path: Path) -> None:
    space = {"training.learning_rate": Range(1e-3, 1e-2), "adapter.fusion": Choices(["sum", "concat"])}
    result = run_search(tiny_backbone, tmp_path, trials=2, space=space)
    assert result.own.options == {"training.learning_rate": 3e-2, "adapter.fusion": "gmu"}
    assert result.own.value is not None
    assert 1e-3 <= result.trials[1].options["training.learning_rate"] <= 1e-2
    assert result.trials[1].options["adapter.fusion"] in ("sum", "concat")


def test_lists_and_the_text_alone_can_be_chosen(tiny_backbone: Path, tmp_path: Path) -> None:
    space = {
        "adapter.layers_to_transform": Choices([None, [1]]),
        "adapter.fusion": Choices(["gmu", "none"]),
        "model.head": Choices(["linear", "mlp"]),
    }
    result = run_search(tiny_backbone, tmp_path, trials=5, space=space, training={"num_train_epochs": 1})
    assert [trial.state for trial in result.trials if trial.error is not None] == []
    assert {trial.options["adapter.fusion"] for trial in result.trials} == {"gmu", "none"}
    assert [1] in [trial.options["adapter.layers_to_transform"] for trial in result.trials]
    assert {trial.options["model.head"] for trial in result.trials} == {"linear", "mlp"}
    with (tmp_path / "trials.csv").open() as file:
        assert {row["adapter.layers_to_transform"] for row in csv.DictReader(file)} == {"null", "[1]"}


def test_the_backbone_is_loaded_once_a_trial(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel

    loaded: list[str] = []
    before = AutoModel.from_pretrained
    monkeypatch.setattr(
        AutoModel, "from_pretrained", lambda *args, **kwargs: loaded.append(args[0]) or before(*args, **kwargs)
    )
    run_search(tiny_backbone, tmp_path, trials=2)
    # Once more to look at its layers, before the first trial.
    assert len(loaded) == 3


def test_the_prefix_cache_serves_all_trials(tiny_backbone: Path, tmp_path: Path) -> None:
    result = run_search(
        tiny_backbone,
        tmp_path,
        trials=2,
        adapter={**ADAPTER, "layers_to_transform": [1]},
        space={"adapter.dropout": Choices([0.1, 0.2])},
        prefix_cache=PrefixCacheOptions(tmp_path / "cache"),
    )
    assert [trial.state for trial in result.trials] == ["complete"] * 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_shares_of_the_options_are_told_where_there_are_enough_trials() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    asked = {name: distribution(name, option) for name, option in SPACE.items()}
    # With a value outside the space, and so without one of the two in the study.
    study.tell(study.ask({"adapter.dropout": asked["adapter.dropout"]}), 99.0)
    found = []
    for _ in range(12):
        found.append(option_importance(study, SPACE))
        trial = study.ask(asked)
        study.tell(trial, math.log10(trial.params["training.learning_rate"]) + 0.1 * trial.params["adapter.dropout"])
    assert found[:8] == [{}] * 8
    assert all(list(shares) == ["training.learning_rate", "adapter.dropout"] for shares in found[8:])
    assert all(sum(shares.values()) == pytest.approx(1.0) for shares in found[8:])
    assert found[-1]["training.learning_rate"] > 0.8


def test_shares_of_trials_that_do_not_differ_are_none() -> None:
    study = optuna.create_study()
    for _ in range(9):
        study.tell(study.ask({name: distribution(name, option) for name, option in SPACE.items()}), 1.0)
    assert option_importance(study, SPACE) == {}


def test_the_time_may_be_limited(tiny_backbone: Path, tmp_path: Path) -> None:
    assert len(run_search(tiny_backbone, tmp_path, trials=9, timeout=1e-9).trials) == 1
    assert len(run_search(tiny_backbone, tmp_path, trials=9, timeout=1e-9).trials) == 1


def test_a_study_is_open_once(tiny_backbone: Path, tmp_path: Path) -> None:
    with (
        filelock.FileLock(tmp_path / ".study.db.search.lock"),
        pytest.raises(ConfigurationError, match="Another process is searching: study 'search' in"),
    ):
        run_search(tiny_backbone, tmp_path)
    run_search(tiny_backbone, tmp_path, trials=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": None}, "there are none. Give some (in a run file data.validation"),
        (
            {"training": {"eval_strategy": "no", "load_best_model_at_end": False}},
            "eval_strategy='no' leaves a search without anything",
        ),
        (
            {"space": {"adapter.dropout": Choices([0.1, 1.5])}},
            "- adapter.dropout=1.5: MultimodalAdapterConfig: dropout",
        ),
        (
            {"space": {"adapter.fusion": Choices(["gmu", "gnu", "sum"])}},
            "- adapter.fusion='gnu': MultimodalAdapterConfig: fusion='gnu' is unknown",
        ),
        (
            {"space": {"adapter.layers_to_transform": Choices([None, [2]])}},
            "- adapter.layers_to_transform=[2]: layers_to_transform=[2] does not fit an encoder of 2 layers",
        ),
        (
            {"space": {"training.num_train_epochs": Range(-1, 2)}},
            "- training.num_train_epochs=-1: MultimodalTrainingArguments: num_train_epochs=-1 must be above 0",
        ),
        ({"trials": 0}, "trials=0 cannot be used"),
        ({"timeout": 0}, "timeout=0 cannot be used"),
        ({"pruner": "medain"}, "pruner='medain' is unknown. Did you mean 'median'?"),
        ({"study": "a/b"}, "The study's name 'a/b' cannot be used"),
    ],
)
def test_mistakes_are_told_before_the_first_trial(
    change: dict, message: str, tiny_backbone: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run_search(tiny_backbone, tmp_path / "run", **change)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_study_is_left_as_it_is(tiny_backbone: Path, tmp_path: Path) -> None:
    storage = tmp_path / "notes.db"
    storage.write_text("not a database, but something that somebody wrote down" * 9)
    with pytest.raises(ConfigurationError, match=r"notes\.db' cannot be read as the SQLite file of a search: file is"):
        run_search(tiny_backbone, tmp_path / "run", storage=storage)
    assert storage.read_text() == "not a database, but something that somebody wrote down" * 9


def test_without_optuna_the_extra_is_named(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "mmadapters\[search\]"'):
        run_search(tiny_backbone, tmp_path)


def test_options_are_plain() -> None:
    options = SearchOptions(Path("runs"))
    assert (options.trials, options.study, options.pruner, options.default_space) == (20, "search", "median", True)
