"""Trackers: TensorBoard's files hold what the log holds, a resumed run hides what came after its checkpoint."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from search_run import run_search
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_run import KillAfter, Killed, killed, train

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.training import tracking
from mmadapters.training.arguments import MultimodalTrainingArguments
from mmadapters.training.fit import FitResult
from mmadapters.training.search import Choices
from mmadapters.training.tracking import end_tracker_runs


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def logged(result: FitResult, name: str) -> dict[int, float]:
    return {entry["step"]: entry[name] for entry in result.log if name in entry}


def scalars(events: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(tag)}


def texts(events: EventAccumulator, tag: str) -> str:
    return events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()


def test_tensorboard_has_the_values_of_the_log_and_the_settings(tiny_backbone: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    result = train(tiny_backbone, tmp_path / "out", report_to="tensorboard", logging_dir=str(logs))
    assert not list((tmp_path / "out").glob("runs"))
    events = read(logs)
    for name, tag in {
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "eval_loss": "eval/loss",
        "eval_micro_average_precision": "eval/micro_average_precision",
        "eval_macro_f1": "eval/macro_f1",
    }.items():
        expected = logged(result, name)
        assert list(expected) == [5, 10, 15]
        assert scalars(events, tag) == pytest.approx(expected, rel=1e-6)
    settings = json.loads(texts(events, "run_settings"))
    assert settings["adapter"]["bottleneck_size"] == 8
    assert settings["training"]["learning_rate"] == 3e-2
    assert settings["model"]["backbone"] == str(tiny_backbone)
    assert json.loads(texts(events, "args"))["num_train_epochs"] == 3


def test_it_changes_nothing_in_the_training(tiny_backbone: Path, tmp_path: Path) -> None:
    tracked = train(tiny_backbone, None, report_to=["tensorboard"], logging_dir=str(tmp_path), num_train_epochs=1)
    assert tracked.best_metric == train(tiny_backbone, None, num_train_epochs=1).best_metric


def test_the_trainer_s_folder_and_variable_are_used_without_a_choice(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_backbone, tmp_path / "out", report_to="tensorboard", num_train_epochs=1)
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert scalars(read(folder), "eval/loss")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "named"))
    train(tiny_backbone, None, report_to="tensorboard", num_train_epochs=1)
    assert scalars(read(tmp_path / "named"), "eval/loss")


def test_files_have_to_stay_somewhere(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs a folder for its files: give logging_dir, or an output_dir"):
        train(tiny_backbone, None, report_to="tensorboard")


def test_a_resumed_training_hides_what_came_after_its_checkpoint(tiny_backbone: Path, tmp_path: Path) -> None:
    options = {"report_to": "tensorboard", "logging_dir": str(tmp_path / "logs"), "logging_strategy": "steps"}
    options |= {"logging_steps": 1, "checkpoint_steps": 4}
    with pytest.raises(Killed):
        train(tiny_backbone, tmp_path / "out", callbacks=[KillAfter(8, killed)], **options)
    assert max(scalars(read(tmp_path / "logs"), "train/loss")) == 7
    result = train(tiny_backbone, tmp_path / "out", resume=True, **options)
    events = read(tmp_path / "logs")
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 16))
    assert scalars(events, "train/loss") == pytest.approx(logged(result, "loss"), rel=1e-6)


def test_a_new_training_in_the_folder_hides_the_one_before(tiny_backbone: Path, tmp_path: Path) -> None:
    for rate in (1e-3, 1e-2):
        train(tiny_backbone, None, report_to="tensorboard", logging_dir=str(tmp_path), learning_rate=rate)
    steps = [event.step for event in read(tmp_path).Scalars("eval/loss")]
    assert steps == sorted(set(steps))


def test_each_trial_has_a_folder_of_its_own(tiny_backbone: Path, tmp_path: Path) -> None:
    result = run_search(
        tiny_backbone,
        tmp_path,
        trials=2,
        training={"report_to": "tensorboard", "num_train_epochs": 1},
        space={"adapter.dropout": Choices([0.1, 0.2])},
    )
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["trial-0000", "trial-0001"]
    for trial in result.trials:
        events = read(tmp_path / "logs" / f"trial-{trial.number:04d}")
        assert scalars(events, "eval/micro_average_precision") == pytest.approx({5: trial.value})


@pytest.mark.parametrize(
    ("given", "named"),
    [("none", []), (None, []), ([], []), ("tensorboard", ["tensorboard"]), (["tensorboard"], ["tensorboard"])],
)
def test_what_may_be_named(given: Any, named: list[str]) -> None:
    assert MultimodalTrainingArguments(report_to=given).report_to == named


def test_an_unknown_tracker_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"report_to='tensorbord' is unknown\. Did you mean 'tensorboard'\?"):
        MultimodalTrainingArguments(report_to="tensorbord")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("tensorboard", r'pip install "mmadapters\[tracking\]"'),
        ("wandb", "pip install wandb"),
        ("comet_ml", "comet-ml"),
    ],
)
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    absent = tracking.REQUIREMENTS[name][0]
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module in absent else find(module))
    with pytest.raises(MissingDependencyError, match=f"report_to='{name}' needs the package.*{package}"):
        MultimodalTrainingArguments(report_to=[name])


def test_what_a_tracker_keeps_open_is_ended_between_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = SimpleNamespace(run="a run", ended=0)

    def finish() -> None:
        wandb.run = None
        wandb.ended += 1

    wandb.finish = finish
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    end_tracker_runs()
    end_tracker_runs()
    assert wandb.ended == 1
