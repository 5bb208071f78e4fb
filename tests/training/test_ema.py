"""The moving average of the weights: its numbers, where it is used, and that a run with it can be gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_resume import same
from torch import nn
from training_run import KillAfter, Killed, killed, log, train, weights
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mmadapters.errors import ConfigurationError
from mmadapters.training.ema import LIVE_WEIGHTS_FILE, WeightAverage

DECAY = 0.8
OPTIONS = {"ema_decay": DECAY, "early_stopping_patience": None, "max_steps": 9}


class Course(TrainerCallback):
    """Notes the trained weights at the start and after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        named = kwargs["model"].named_parameters()
        self.weights.append({name: p.detach().clone() for name, p in named if p.requires_grad})

    on_step_end = on_train_begin


def averages(course: Course) -> list[dict[str, torch.Tensor]]:
    """The average after each step, by the formula."""
    average = {name: value.double() for name, value in course.weights[0].items()}
    found = [average]
    for step, live in enumerate(course.weights[1:], start=1):
        decay = min(DECAY, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * live[name].double() for name in live}
        found.append(average)
    return found


@pytest.fixture(scope="module")
def run(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory):
    """A training of 9 steps, 5 an epoch, without restoring the best weights; its course and its folder."""
    folder, course = tmp_path_factory.mktemp("run"), Course()
    result = train(tiny_backbone, folder, callbacks=[course], load_best_model_at_end=False, **OPTIONS)
    return result, course, folder


def test_the_result_is_the_average_of_the_steps(run) -> None:
    result, course, _ = run
    assert len(course.weights) == 10
    now = result.model.state_dict()
    for name, expected in averages(course)[-1].items():
        torch.testing.assert_close(now[name].double(), expected, rtol=1e-5, atol=1e-6, msg=name)
    last = course.weights[-1]
    assert max((now[name] - last[name]).abs().max().item() for name in last) > 1e-3


def test_a_checkpoint_has_the_average_and_the_weights(run) -> None:
    _, course, folder = run
    saved = load_file(folder / "checkpoint-8" / "adapter_model.safetensors")
    live = load_file(folder / "checkpoint-8" / LIVE_WEIGHTS_FILE)
    assert len(saved) == len(live) == len(course.weights[8])
    assert all(torch.equal(live[name], value) for name, value in course.weights[8].items())
    for name, expected in averages(course)[8].items():
        key = name.replace(".mmadapter_blocks.default.", ".mmadapter_blocks.").replace(".modules_to_save.default.", ".")
        torch.testing.assert_close(saved[key].double(), expected, rtol=1e-5, atol=1e-6, msg=name)


def test_the_average_is_what_is_evaluated(tiny_backbone: Path, tmp_path: Path) -> None:
    result = train(tiny_backbone, tmp_path, **OPTIONS)
    name = "eval_micro_average_precision"
    values = {entry["step"]: entry[name] for entry in result.log if name in entry}
    best = max(values, key=values.__getitem__)
    assert result.best_metric == values[best]
    saved = load_file(tmp_path / f"checkpoint-{best}" / "adapter_model.safetensors")
    now = {
        key.replace(".mmadapter_blocks.default.", ".mmadapter_blocks.").replace(".modules_to_save.default.", "."): value
        for key, value in weights(result).items()
    }
    assert saved.keys() <= now.keys()
    assert all(torch.equal(now[key], value) for key, value in saved.items())
    without = train(tiny_backbone, None, **{**OPTIONS, "ema_decay": None})
    assert [entry.get(name) for entry in without.log] != [entry.get(name) for entry in result.log]
    losses = [[entry["loss"] for entry in run.log if "loss" in entry] for run in (result, without)]
    assert losses[0] == losses[1], "the average must not change the training"


@pytest.mark.parametrize("best", [True, False])
def test_a_killed_training_goes_on_bit_for_bit(tiny_backbone: Path, tmp_path: Path, best: bool) -> None:
    options = {**OPTIONS, "load_best_model_at_end": best, "linear_probe_start": True}
    whole = train(tiny_backbone, None, **options)
    with pytest.raises(Killed):
        train(tiny_backbone, tmp_path, callbacks=[KillAfter(8, killed)], **options)
    again = train(tiny_backbone, tmp_path, resume=True, **options)
    assert same(again, whole)
    assert log(again) == log(whole)


def test_a_start_that_was_saved_is_gone_on_with(tiny_backbone: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "linear_probe_start": True}
    whole = train(tiny_backbone, None, **options)
    with pytest.raises(Killed):
        train(tiny_backbone, tmp_path, callbacks=[KillAfter(2, killed)], **options)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0"]
    again = train(tiny_backbone, tmp_path, resume=True, **options)
    assert same(again, whole)
    assert log(again) == log(whole)


def test_outside_a_training_and_twice_nothing_is_put_in_place() -> None:
    model = nn.Linear(2, 1)
    average = WeightAverage(model, 0.5)
    before = model.weight.clone()
    with average.in_place():
        assert torch.equal(model.weight, before)
    arguments, state = TrainingArguments(use_cpu=True), TrainerState(global_step=1)
    average.on_train_begin(arguments, state, TrainerControl())
    model.weight.data += 11.0
    average.on_step_end(arguments, state, TrainerControl())
    with average.in_place(), average.in_place():
        # 1 - min(0.5, 2 / 11)
        torch.testing.assert_close(model.weight, before + 11.0 * 9 / 11)
    torch.testing.assert_close(model.weight, before + 11.0)


def test_a_checkpoint_of_a_run_without_an_average_is_refused(tmp_path: Path) -> None:
    average = WeightAverage(nn.Linear(2, 1), 0.5)
    average.resumed_from = tmp_path
    with pytest.raises(
        ConfigurationError, match="has no live_weights.safetensors, so it is of a run without ema_decay"
    ):
        average.on_train_begin(TrainingArguments(use_cpu=True), TrainerState(), TrainerControl())
