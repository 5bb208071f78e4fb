"""Trainings that end in time: with a score of what was learned, and what is said where there is no time at all."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from predictor_rows import QUICK, movie_rows, predictor
from transformers import TrainerControl

from mmadapters.errors import ConfigurationError
from mmadapters.predictor import defaults, fit_settings, fitting, time_limit
from mmadapters.predictor.defaults import is_streamed, reachable_rows, training_defaults
from mmadapters.predictor.fit_settings import Clock
from mmadapters.predictor.time_limit import TimeLimit

COLUMNS: dict[str, Any] = {"text": "plot", "tabular": ["budget"], "label_separator": "|"}


class Ticking:
    """A clock that is told how late it is."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    ticking = Ticking()
    monkeypatch.setattr(time_limit, "time", ticking)
    monkeypatch.setattr(fit_settings, "time", ticking)
    return ticking


def steps(limit: TimeLimit, clock: Ticking, seconds: float, most: int, eval_strategy: str = "epoch") -> int:
    """How many steps of so many seconds are made; each tenth is followed by an evaluation of two seconds."""
    args: Any = SimpleNamespace(eval_strategy=eval_strategy)
    state: Any = SimpleNamespace(global_step=0)
    control = TrainerControl()
    limit.on_train_begin(args, state, control)
    while state.global_step < most:
        clock.now += seconds
        state.global_step += 1
        limit.on_step_end(args, state, control)
        if control.should_training_stop:
            assert control.should_evaluate == control.should_save == (eval_strategy == "steps")
            break
        if state.global_step % 10 == 0:
            clock.now += 2.0
            limit.on_evaluate(args, state, control)
    return state.global_step


def test_a_training_leaves_time_for_two_evaluations(clock: Ticking) -> None:
    # Ten steps and an evaluation take 12 s; the 22nd step would end at 26 s, and two evaluations with their reserve
    # take 4.4 s.
    limit = TimeLimit(100.0 + 30.0, train_batch_size=10, validation_rows=10)
    made = steps(limit, clock, 1.0, 100)
    assert limit.stopped
    assert clock.now + 2 * 2.0 <= limit.deadline
    assert made == 21
    unlimited = TimeLimit(100.0 + 1e6, 10, 10)
    assert steps(unlimited, clock, 1.0, 30) == 30
    assert not unlimited.stopped


def test_before_an_evaluation_its_time_is_told_by_that_of_a_step(clock: Ticking) -> None:
    # 40 validation rows take about twice as long as a step of ten rows, at half a row's time.
    limit = TimeLimit(clock.now + 9.5, train_batch_size=10, validation_rows=40)
    assert steps(limit, clock, 1.0, 9, "steps") == 5
    assert steps(TimeLimit(clock.now - 1.0, 10, 10), clock, 1.0, 9) == 1


def test_a_limit_that_is_over_before_the_training_is_an_error_that_names_what_took_it(clock: Ticking) -> None:
    time_left = Clock(10.0)
    assert time_left.deadline == 110.0
    with time_left.extracting():
        clock.now += 8.0
    time_left.require_time()
    clock.now += 3.0
    with pytest.raises(ConfigurationError, match=r"time_limit=10 s was over .* 11.0 s were taken .*media took 8.0 s"):
        time_left.require_time()
    assert time_left.check == time_left.require_time
    with time_left.extracting():
        clock.now += 1.0
        with pytest.raises(ConfigurationError, match=r"12.0 s were taken .*media took 9.0 s"):
            time_left.require_time()
    Clock(None).require_time()
    assert Clock(None).check is None
    for limit in (0, -1.0, "long", True):
        with pytest.raises(ConfigurationError, match="cannot be used. Give seconds above 0, or None"):
            Clock(limit)  # type: ignore[arg-type]


def test_a_training_ends_in_time_and_keeps_its_best(tiny_backbone: Path, capsys: Any) -> None:
    began = time.monotonic()
    endless = {**QUICK, "num_train_epochs": 10_000, "early_stopping_patience": None}
    fitted = predictor(tiny_backbone, **COLUMNS, verbose=1, training=endless).fit(movie_rows(60), time_limit=3.0)
    assert time.monotonic() - began < 6.0
    assert "The time is over; the best weights so far are kept" in capsys.readouterr().out
    scores = [entry["eval_micro_average_precision"] for entry in fitted.training_log_ if "eval_loss" in entry]
    assert 1 <= len(scores) < 10_000
    assert fitted.metrics_["micro_average_precision"] == pytest.approx(max(scores))


def test_a_limit_shorter_than_the_preparation_names_it(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = fitting.prepare

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.06)
        return prepare(*args, **options)

    monkeypatch.setattr(fitting, "prepare", slow)
    with pytest.raises(ConfigurationError, match="time_limit=0.05 s was over before the training began"):
        predictor(tiny_backbone, **COLUMNS).fit(movie_rows(30), time_limit=0.05)


def test_of_many_rows_those_are_used_that_the_time_may_suffice_for(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reachable_rows(1_000_000, None) == 1_000_000
    assert reachable_rows(1_000_000, 200.0) == 200_000
    assert reachable_rows(1_000_000, 1.0) == reachable_rows(100_000, 1.0) == 100_000
    assert reachable_rows(99, 1.0) == 99
    monkeypatch.setattr(fitting, "reachable_rows", lambda rows, limit: 40 if limit else rows)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fitted = predictor(tiny_backbone, **COLUMNS, verbose=1).fit(movie_rows(60), time_limit=600)
    splits = fitted.artefact_.record["splits"]
    assert splits["train"]["rows"] + splits["validation"]["rows"] == 40
    assert "40 of 60 rows are used, drawn at random: 600 s do not suffice for more" in capsys.readouterr().out
    every = predictor(tiny_backbone, **COLUMNS).fit(movie_rows(60)).artefact_.record["splits"]
    assert every["train"]["rows"] + every["validation"]["rows"] == 60


def test_defaults_follow_from_the_number_of_rows() -> None:
    few, some, many = (training_defaults(rows, True) for rows in (80, 5000, 1_000_000))
    assert few["per_device_train_batch_size"] < 32
    assert few["num_train_epochs"] > 8
    assert some == {}
    assert many["num_train_epochs"] < 8
    assert many["eval_strategy"] == "steps"
    assert many["eval_steps"] * many["per_device_train_batch_size"] == pytest.approx(100_000, rel=0.01)
    assert "eval_strategy" not in training_defaults(1_000_000, False)
    assert defaults.SMALL <= 5000 < defaults.LARGE
    assert not is_streamed(100_000, 400)
    assert is_streamed(1_000_000, 400)
    assert not is_streamed(1_000_000, 40)
    # What may not be reached is not tokenised beforehand.
    assert is_streamed(1_000_000, 40, limited=True)
    assert not is_streamed(5000, 40, limited=True)


def test_a_model_card_takes_no_time_that_is_not_there(
    tiny_backbone: Path, clock: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Clock(10.0)
    assert limited.has(10.0)
    assert not limited.has(10.1)
    clock.now += 9.0
    assert not limited.has(2.0)
    assert Clock(None).has(1e9)
    asked: list[float] = []
    monkeypatch.setattr(Clock, "has", lambda self, seconds: asked.append(seconds) or False)
    fitted = predictor(tiny_backbone, **COLUMNS).fit(movie_rows(32), validation=movie_rows(8, 1))
    record = fitted.artefact_.record
    assert len(asked) == 1
    assert record["without"] is None
    assert record["splits"]["validation"]["rows"] == 8
    assert "intervals" not in record["splits"]["validation"]
    assert fitted.artefact_.metrics["validation"]
