"""A training that is killed, interrupted or finds damage ends with the same bits as one without interruption."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_run import KillAfter, Killed, killed, log, train, weights

from mmadapters.errors import ConfigurationError, TrainingInterrupted
from mmadapters.training import checkpoints, saving
from mmadapters.training.fit import FitResult

VARIANTS = {
    "default": {},
    "accumulation and a budget": {"gradient_accumulation_steps": 2, "max_tokens_per_batch": 60},
    "any order": {"train_sampling_strategy": "random", "early_stopping_patience": None},
    "steps": {"max_steps": 8, "logging_strategy": "steps", "logging_steps": 3},
    "stops early": {"early_stopping_patience": 1, "learning_rate": 1e-9, "num_train_epochs": 6},
}


@pytest.fixture(scope="module")
def whole(tiny_backbone: Path) -> dict[str, FitResult]:
    """Trainings without interruption."""
    return {name: train(tiny_backbone, None, **options) for name, options in VARIANTS.items()}


@pytest.fixture(scope="module")
def killed_once(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        train(tiny_backbone, folder, callbacks=[KillAfter(9, killed)])
    assert names(folder) == ["checkpoint-5", "checkpoint-6", "checkpoint-8"]
    return folder


def same(first: FitResult, second: FitResult) -> bool:
    states = weights(first), weights(second)
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def names(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.iterdir()), key=lambda name: int(name.split("-")[1]))


@pytest.mark.parametrize(
    ("variant", "step", "found"),
    [
        ("default", 2, []),
        ("default", 4, ["checkpoint-2"]),
        ("default", 6, ["checkpoint-4", "checkpoint-5"]),
        ("default", 12, ["checkpoint-5", "checkpoint-8", "checkpoint-10"]),
        ("accumulation and a budget", 5, None),
        ("any order", 9, None),
        ("steps", 8, None),
        ("stops early", 9, ["checkpoint-5", "checkpoint-6", "checkpoint-8"]),
    ],
)
def test_a_killed_training_goes_on_bit_for_bit(
    whole, tiny_backbone: Path, tmp_path: Path, variant: str, step: int, found: list[str] | None
) -> None:
    options = VARIANTS[variant]
    with pytest.raises(Killed):
        train(tiny_backbone, tmp_path, callbacks=[KillAfter(step, killed)], **options)
    assert found is None or names(tmp_path) == found
    result = train(tiny_backbone, tmp_path, resume=True, **options)
    assert same(result, whole[variant])
    assert log(result) == log(whole[variant])
    assert result.best_metric == whole[variant].best_metric


@pytest.mark.slow
def test_a_training_may_be_killed_again_and_again(whole, tiny_backbone: Path, tmp_path: Path) -> None:
    for step in (3, 5, 8, 13):
        with pytest.raises(Killed):
            train(tiny_backbone, tmp_path, resume=True, callbacks=[KillAfter(step, killed)])
    result = train(tiny_backbone, tmp_path, resume=True)
    assert same(result, whole["default"])
    assert log(result) == log(whole["default"])


@pytest.mark.parametrize("variant", ["default", "steps", "stops early"])
def test_a_training_that_was_at_its_end_stays_there(whole, tiny_backbone: Path, tmp_path: Path, variant: str) -> None:
    train(tiny_backbone, tmp_path, **VARIANTS[variant])
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)

    def fail() -> None:
        raise AssertionError("no step may be made")

    guards = [KillAfter(step, fail) for step in range(1, 40)]
    result = train(tiny_backbone, moved, resume=True, callbacks=guards, **VARIANTS[variant])
    assert same(result, whole[variant])
    assert log(result)[:-1] == log(whole[variant])[:-1]
    assert log(result)[-1]["train_loss"] == log(whole[variant])[-1]["train_loss"]


@pytest.mark.parametrize("place", ["filling", "manifest", "renaming"])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    whole, tiny_backbone: Path, tmp_path: Path, monkeypatch, place: str
) -> None:
    def at_six(function, argument: int):
        def wrapped(*arguments, **options):
            if "checkpoint-6" in str(arguments[argument]):
                raise Killed
            return function(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        if place == "filling":
            patch.setattr(saving, "write_json_atomically", at_six(saving.write_json_atomically, 0))
        elif place == "manifest":
            patch.setattr(checkpoints, "write_json_atomically", at_six(checkpoints.write_json_atomically, 0))
        else:
            patch.setattr(checkpoints.os, "replace", at_six(checkpoints.os.replace, 1))
        with pytest.raises(Killed):
            train(tiny_backbone, tmp_path)
    visible = [path.name for path in tmp_path.iterdir() if path.name[0] != "."]
    assert sorted(visible) == ["checkpoint-4", "checkpoint-5"]
    assert same(train(tiny_backbone, tmp_path, resume=True), whole["default"])
    assert not [path for path in tmp_path.iterdir() if path.name[0] == "."]


def truncate(folder: Path) -> str:
    file = folder / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])
    return "'optimizer.pt' is not as it was written"


def flip_a_bit(folder: Path) -> str:
    file = folder / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return "'adapter_model.safetensors' is not as it was written"


def remove_a_file(folder: Path) -> str:
    (folder / "rng_state.pth").unlink()
    return "'rng_state.pth' is missing"


def flip_a_digit(folder: Path) -> str:
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"step": 8', '"step": 9'))
    return "its manifest.json is not as it was written"


def empty_the_manifest(folder: Path) -> str:
    (folder / "manifest.json").write_text("")
    return "its manifest.json cannot be read"


@pytest.fixture
def killed_run(killed_once: Path, tmp_path: Path) -> Path:
    """The checkpoints of a training that was killed after step 9."""
    return shutil.copytree(killed_once, tmp_path / "copy")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, remove_a_file, flip_a_digit, empty_the_manifest])
def test_damage_is_found_and_named(killed_run: Path, caplog: pytest.LogCaptureFixture, damage) -> None:
    problem = damage(killed_run / "checkpoint-8")
    told: list[str] = []
    with caplog.at_level(logging.WARNING, "mmadapters"):
        usable = checkpoints.newest_usable(killed_run, told.append)
    assert usable is not None
    assert usable.folder == killed_run / "checkpoint-6"
    message = f"Checkpoint '{killed_run / 'checkpoint-8'}' is damaged and passed over: {problem}."
    assert told == [message]
    assert message in caplog.text


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(whole, tiny_backbone: Path, killed_run) -> None:
    flip_a_bit(killed_run / "checkpoint-8")
    result = train(tiny_backbone, killed_run, resume=True)
    assert same(result, whole["default"])
    assert log(result) == log(whole["default"])


def test_a_damaged_best_checkpoint_is_no_base_to_go_on_from(
    whole, tiny_backbone: Path, killed_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flip_a_bit(killed_run / "checkpoint-5")
    with caplog.at_level(logging.WARNING, "mmadapters"):
        result = train(tiny_backbone, killed_run, resume=True)
    assert "checkpoint-8' is damaged and passed over: the best one up to it, 'checkpoint-5', is damaged" in caplog.text
    assert same(result, whole["default"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e-3}, r"training\.learning_rate was 0\.03 and is 0\.001"),
        ({"seed": 4}, r"training\.seed was 3 and is 4"),
        ({"max_tokens_per_batch": 99}, r"training\.max_tokens_per_batch was None and is 99"),
        ({"adapter": {"non_linearity": "relu"}}, r"adapter\.non_linearity was 'gelu\w*' and is 'relu'"),
    ],
)
def test_other_settings_are_refused(tiny_backbone: Path, killed_run: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"checkpoint-8' is of a run with other settings: {message}\. Go on"):
        train(tiny_backbone, killed_run, resume=True, **changes)
    assert names(killed_run) == ["checkpoint-5", "checkpoint-6", "checkpoint-8"]


def test_other_rows_are_refused(tiny_backbone: Path, killed_run: Path, monkeypatch) -> None:
    monkeypatch.setitem(train.__globals__, "rows", lambda n, seed, rows=train.__globals__["rows"]: rows(n, seed + 5))
    with pytest.raises(ConfigurationError, match="settings: the training rows are others; the validation rows are oth"):
        train(tiny_backbone, killed_run, resume=True)


def test_a_new_start_does_not_lose_an_unfinished_run(tiny_backbone: Path, killed_run: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"checkpoints of a run that did not end; the newest is 'checkpoint-8'"
    ):
        train(tiny_backbone, killed_run)
    train(tiny_backbone, killed_run, resume=True)
    # A run that ended makes room for the next.
    train(tiny_backbone, killed_run, num_train_epochs=1, seed=5)
    assert names(killed_run) == ["checkpoint-4", "checkpoint-5"]


def test_a_training_that_diverged_leaves_nothing_to_go_on_with(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="diverged"):
        train(tiny_backbone, tmp_path, learning_rate=1e30)
    assert names(tmp_path) == []


def test_resuming_needs_a_folder(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigurationError, match="resume=True needs the output_dir"):
        train(tiny_backbone, None, resume=True)


def test_two_checkpoints_are_kept_at_least(tiny_backbone: Path, tmp_path: Path) -> None:
    train(tiny_backbone, tmp_path / "one", save_total_limit=1, num_train_epochs=1)
    assert names(tmp_path / "one") == ["checkpoint-4", "checkpoint-5"]
    train(tiny_backbone, tmp_path / "all", save_total_limit=None, num_train_epochs=1)
    assert names(tmp_path / "all") == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 7), (signal.SIGINT, 10), (signal.SIGTERM, 15)])
def test_a_signal_ends_the_training_after_a_checkpoint(
    whole, tiny_backbone: Path, tmp_path: Path, number: signal.Signals, step: int
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(TrainingInterrupted) as stopped:
        train(tiny_backbone, tmp_path, callbacks=[KillAfter(step, lambda: signal.raise_signal(number))])
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    assert stopped.value.signal_number == number
    assert str(stopped.value) == (
        f"stopped by {number.name} after step {step} of 15; the checkpoint is '{tmp_path / f'checkpoint-{step}'}'. The "
        "same run with resume=True (mmadapters train --resume) goes on from there."
    )
    assert names(tmp_path)[-1] == f"checkpoint-{step}"
    result = train(tiny_backbone, tmp_path, resume=True)
    assert same(result, whole["default"])
    assert log(result)[:-1] == log(whole["default"])[:-1]


def test_a_process_that_is_killed_and_another_that_goes_on(whole, tiny_backbone: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("training_run.py")
    command = [sys.executable, "-W", "ignore", str(script), str(tiny_backbone), str(tmp_path)]
    ended = subprocess.run([*command, "--kill-after", "8"], capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert names(tmp_path / "checkpoints") == ["checkpoint-5", "checkpoint-6"]
    subprocess.run([*command, "--resume"], capture_output=True, check=True, timeout=120)
    saved = load_file(tmp_path / "weights.safetensors")
    expected = weights(whole["default"])
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[name], expected[name]) for name in saved)
    assert json.loads((tmp_path / "log.json").read_text()) == log(whole["default"])


def test_what_an_interrupted_write_left_is_removed(tmp_path: Path) -> None:
    for name in (".checkpoint-4.saving", ".checkpoint-2.removing", "checkpoint-7", "checkpoint-x", "other"):
        (tmp_path / name).mkdir()
    checkpoints.remove_all(tmp_path)
    # A folder without a manifest is not ours.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-7", "checkpoint-x", "other"]
    assert checkpoints.newest_usable(tmp_path) is None
    shutil.rmtree(tmp_path / "checkpoint-7")
    checkpoints.check_nothing_unfinished(tmp_path)


def test_settings_are_plain_values(tiny_backbone: Path, tmp_path: Path) -> None:
    train(tiny_backbone, tmp_path, num_train_epochs=1)
    saved = checkpoints.newest_usable(tmp_path)
    assert saved is not None
    assert saved.stopped
    assert saved.seconds > 0
    assert saved.settings["training"]["learning_rate"] == 3e-2
    assert saved.settings["labels"] == ["dark", "war"]
    assert "checkpoint_steps" not in saved.settings["training"]
