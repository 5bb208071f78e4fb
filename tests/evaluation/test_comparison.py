"""A comparison of few runs, against means, deviations and differences that were worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from comparisons import CONTENDERS, logits_of, multi_label_comparison, multi_label_task, outcome
from mmadapters.errors import ConfigurationError, DataError
from mmadapters.evaluation.comparison import Task, compare_runs, mean_of, over_seeds, reference_name
from mmadapters.evaluation.names import lower_is_better, metric_title
from mmadapters.evaluation.run_files import (
    LOGITS_FILE,
    RESULT_FILE,
    Experiment,
    PlannedRun,
    compare_folder,
    read_failure,
    read_outcome,
    write_experiment,
    write_failure,
    write_outcome,
)


def test_mean_and_deviation_are_those_of_the_seeds() -> None:
    ours, other, none = multi_label_comparison()["contenders"]
    # Seed 1 misses one of 8 decisions, and with it one of 4 rows.
    accuracy = ours["metrics"]["test"]["accuracy"]
    assert accuracy == {"mean": 0.875, "sd": pytest.approx(0.25 / 2**0.5), "n": 2, "values": [1.0, 0.75]}
    assert ours["seconds"]["mean"] == 2.0
    assert ours["seconds"]["sd"] == pytest.approx(2**0.5)
    assert other["metrics"]["test"]["accuracy"] == {"mean": 0.5, "sd": None, "n": 1, "values": [0.5]}
    assert none == {"name": "other [text]", "label": "other", "method": "mmbt", "modalities": [], "seeds": []}
    assert ours["metrics"]["validation"]["micro_f1"]["values"] == [1.0, 1.0]
    assert "tuned_micro_f1" in ours["metrics"]["test"]
    assert "tuned_micro_f1" not in ours["metrics"]["validation"]


def test_differences_are_to_the_reference_and_over_seeds() -> None:
    comparison = multi_label_comparison()
    ours, other, _ = comparison["contenders"]
    assert comparison["reference"] == "ours"
    assert "differences" not in ours
    found = other["differences"]["micro_average_precision"]
    means = [each["metrics"]["test"]["micro_average_precision"]["mean"] for each in (other, ours)]
    assert found["difference"] == pytest.approx(means[0] - means[1])
    assert found["low"] < found["difference"] < found["high"]


def test_labels_diversity_misses_and_what_is_not_there() -> None:
    comparison = multi_label_comparison()
    ours, other, _ = comparison["contenders"]
    assert [row["test_positives"] for row in ours["per_label"]] == [3, 2]
    # "war" of `other`: one hit, one miss, one false alarm.
    assert other["per_label"][1]["f1"] == 0.5
    assert ours["per_label"][1]["f1"] == pytest.approx((1.0 + 2 / 3) / 2)
    (pair,) = comparison["diversity"]["pairs"]
    # Only seed 0 is common: `ours` is right everywhere, `other` wrong in 2 of 8.
    assert (pair["both_right"], pair["only_second_wrong"], pair["both_wrong"]) == (0.75, 0.25, 0.0)
    assert (pair["union"], pair["union_f1"], pair["diversity"]) == (1.0, 1.0, 1.0)
    assert comparison["missed"] == {"n": 0, "rows": []}
    assert comparison["failed"][0]["message"].startswith("it broke")
    assert comparison["missing"] == [{"contender": "other [text]", "seed": seed} for seed in (0, 1)]
    assert comparison["versions"] == {"torch": ["2.0", "2.1"]}
    assert comparison["contenders"][0]["precision"][50] == pytest.approx((1.0 + 1.0) / 2)


def test_nests_are_averaged_and_what_is_the_same_is_kept() -> None:
    first = {"names": ["text", "poster"], "shares": [[0.25, None], [0.5, 0.5]], "metrics": {"ap": 1.0}, "rows": 3}
    second = {"names": ["text", "poster"], "shares": [[0.75, 0.5], [0.5, 0.5]], "metrics": {"ap": 0.5}, "rows": 3}
    assert mean_of([first, second]) == {
        "names": ["text", "poster"],
        "shares": [[0.5, 0.5], [0.5, 0.5]],
        "metrics": {"ap": 0.75},
        "rows": 3,
    }
    assert mean_of([]) is None
    assert mean_of([None, first]) == first


def test_a_row_that_all_miss_is_named() -> None:
    task = multi_label_task()
    wrong = logits_of(task.targets["test"], [(1, 1), (3, 0)])
    right = logits_of(task.targets["test"], [(1, 1)])
    found = compare_runs(
        task, CONTENDERS[:2], {"ours": {0: outcome(wrong, wrong)}, "other [all]": {0: outcome(right, wrong)}}, seeds=[0]
    )
    (row,) = found["missed"]["rows"]
    assert (row["row"], row["name"], row["target"]) == (1, "r1", ["war"])
    assert row["figure"] == pytest.approx(1 / (1 + np.exp(4.0)))


def test_a_regression_has_differences_and_no_decisions() -> None:
    targets = np.array([1.0, 2.0, 4.0], dtype=np.float32)
    rows = {"train": 5, "validation": 3, "test": 3}
    splits = {"validation": targets, "test": targets}
    task = Task("regression", [], [], rows, splits, ["a", "b", "c"], ["", "", ""])
    runs = {"ours": {0: outcome(targets + 1, targets)}, "other [all]": {0: outcome(targets + 3, targets)}}
    found = compare_runs(task, CONTENDERS[:2], runs, seeds=[0], reference="other")
    assert found["contenders"][0]["differences"]["mae"] == {"difference": -2.0, "low": -2.0, "high": -2.0}
    assert found["diversity"] is None
    assert [row["figure"] for row in found["missed"]["rows"]] == [1.0, 1.0, 1.0]
    assert found["missed"]["rows"][0]["target"] == 1.0


def test_a_single_label_comparison_ignores_unknown_classes() -> None:
    targets = np.array([0, 1, -100])
    splits = {"validation": np.array([0, 1]), "test": targets}
    rows = {"train": 5, "validation": 2, "test": 3}
    task = Task("single_label_classification", ["x", "y"], [3, 2], rows, splits, ["a", "b", "c"], ["", "", ""])
    logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    found = compare_runs(task, CONTENDERS[:1], {"ours": {0: outcome(logits, logits[:2])}}, seeds=[0])
    assert found["contenders"][0]["metrics"]["test"]["accuracy"]["mean"] == 0.5
    assert [row["target"] for row in found["missed"]["rows"]] == [["y"]]


def test_the_reference_is_a_name_or_a_label() -> None:
    assert reference_name(CONTENDERS, None) == "ours"
    assert reference_name(CONTENDERS, "other") == "other [all]"
    assert reference_name(CONTENDERS, "other [text]") == "other [text]"
    with pytest.raises(ConfigurationError, match="Did you mean 'other'"):
        reference_name(CONTENDERS, "othr")


def test_values_without_a_figure_are_left_out() -> None:
    assert over_seeds([1.0, None, 3.0]) == {
        "mean": 2.0,
        "sd": pytest.approx(2**0.5),
        "n": 2,
        "values": [1.0, None, 3.0],
    }
    assert over_seeds([None])["mean"] is None


@pytest.mark.parametrize(
    ("name", "title", "lower"),
    [("micro_average_precision", "micro AP", False), ("tuned_macro_f1", "tuned macro F1", False), ("mae", "MAE", True)],
)
def test_metrics_have_names_for_people(name: str, title: str, lower: bool) -> None:
    assert (metric_title(name), lower_is_better(name)) == (title, lower)


def test_a_run_is_read_back_and_only_with_its_digest(tmp_path: Path) -> None:
    task = multi_label_task()
    written = outcome(task.targets["test"], task.targets["validation"])
    write_failure(tmp_path, "d", "before")
    assert read_failure(tmp_path, "d") == "before"
    assert read_failure(tmp_path, "e") is None
    write_outcome(tmp_path, "d", written, method="adapters")
    assert read_failure(tmp_path, "d") is None
    read = read_outcome(tmp_path, "d")
    assert read is not None
    assert (read.logits["test"] == written.logits["test"]).all()
    assert (read.seconds, read.log, read.settings) == (written.seconds, written.log, written.settings)
    assert read_outcome(tmp_path, "e") is None
    (tmp_path / LOGITS_FILE).write_bytes((tmp_path / LOGITS_FILE).read_bytes()[:-30])
    assert read_outcome(tmp_path, "d") is None
    (tmp_path / RESULT_FILE).write_text("{")
    assert read_outcome(tmp_path, "d") is None


def test_the_comparison_of_a_folder_is_that_of_its_runs(tmp_path: Path) -> None:
    task = multi_label_task()
    targets = task.targets["test"]
    runs = [PlannedRun("ours", seed, f"runs/ours/seed-{seed}", f"digest{seed}") for seed in (0, 1, 2)]
    experiment = Experiment(task, CONTENDERS[:1], runs, [0, 1, 2], "ours", 200, ["A note."])
    write_experiment(tmp_path, experiment)
    outcomes = {0: outcome(logits_of(targets, []), targets), 1: outcome(logits_of(targets, [(0, 0)]), targets)}
    for seed, written in outcomes.items():
        write_outcome(tmp_path / runs[seed].folder, runs[seed].digest, written)
    write_failure(tmp_path / runs[2].folder, runs[2].digest, "no memory")
    found = compare_folder(tmp_path)
    own = compare_runs(
        task, CONTENDERS[:1], {"ours": outcomes}, seeds=[0, 1, 2], failures={("ours", 2): "no memory"}, resamples=200
    )
    assert found == {**own, "notes": ["A note."]}
    with pytest.raises(DataError, match="no folder of a comparison"):
        compare_folder(tmp_path / "elsewhere")
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        compare_folder(tmp_path)
