"""``mmadapters compare``: what is run, what is kept, and what the table says; each run within this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from compare_run import write_comparison_run
from scipy.special import expit
from sklearn.metrics import average_precision_score

from mmadapters.cli import compare_runs
from mmadapters.cli.compare import run_comparison
from mmadapters.cli.compare_config import chosen_subsets, method_entries
from mmadapters.cli.compare_plan import plan_contenders, subset_name
from mmadapters.cli.compare_worker import Job, attempt, peak_memory_bytes
from mmadapters.cli.main import main
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.errors import ConfigurationError

METHODS = [
    {"name": "logistic_regression", "label": "linear", "options": {"cs": [0.1, 10.0]}, "subsets": "each"},
    "majority",
]
BROKEN = {"name": "adapters", "label": "broken", "options": {"training": {"metric_for_best_model": "nonsense"}}}


@pytest.fixture
def folder(tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_comparison_run(tmp_path, tiny_backbone, METHODS, [0, 1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Launcher:
    """Does jobs in this process, remembers which, and may stop at one of them."""

    def __init__(self, stop_at: int | None = None, change: Callable[[Job], Job] = lambda job: job) -> None:
        self.done: list[tuple[str, int]] = []
        self.stop_at = stop_at
        self.change = change

    def __call__(self, job: Job, file: Path) -> int:
        assert Job(**json.loads(file.read_text())) == job
        if len(self.done) == self.stop_at:
            raise KeyboardInterrupt
        self.done.append((job.contender, job.seed))
        return attempt(self.change(job))


def compared(*overrides: str, launch: Launcher | None = None) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    used = launch or Launcher()
    found = run_comparison(load_settings(RunConfig, Path("compare.yaml"), overrides), Path.cwd(), used)
    return found, used.done


def without_costs(comparison: dict[str, Any]) -> dict[str, Any]:
    timed = ("seconds", "peak_memory_bytes", "peak_gpu_memory_bytes")
    contenders = [{k: v for k, v in each.items() if k not in timed} for each in comparison["contenders"]]
    return {**comparison, "contenders": contenders}


def test_methods_times_subsets_times_seeds_and_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison, done = compared()
    names = ["linear [all]", "linear [votes]", "linear [table]", "majority"]
    assert done == [(name, seed) for seed in (0, 1) for name in names]
    run = folder / "out" / "runs" / "linear" / "votes+table" / "seed-1"
    with np.load(run / "logits.npz") as logits, np.load(folder / "out" / "targets.npz") as targets:
        expected = average_precision_score(targets["test"].ravel(), expit(logits["test"].astype(float)).ravel())
    found = comparison["contenders"][0]
    metric = found["metrics"]["test"]["micro_average_precision"]
    assert metric["values"] == pytest.approx([expected, expected])
    assert metric["sd"] == 0.0
    result = json.loads((run / "result.json").read_text())
    assert (result["contender"], result["seed"], result["modalities"]) == ("linear [all]", 1, ["votes", "table"])
    assert result["settings"]["c"] in (0.1, 10.0)
    # "Top" is what the votes say, and nothing else does.
    top = {each["name"]: {row["label"]: row for row in each["per_label"]}["Top"] for each in comparison["contenders"]}
    assert top["linear [votes]"]["average_precision"] > top["linear [table]"]["average_precision"] + 0.1
    assert json.loads((folder / "out" / "comparison.json").read_text()) == comparison
    printed = capsys.readouterr().out
    assert f"{metric['mean']:.4f} ± 0.0000" in printed
    assert "Rows: 30 training, 15 validation, 15 test; multi label classification, 3 labels." in printed
    for name in ("report.html", "comparison.md", "comparison.csv", "labels.csv", "figures/results.svg"):
        assert (folder / "out" / name).stat().st_size > 100
    missed = comparison["missed"]["rows"]
    assert all(row["name"].startswith("m") for row in missed)


def test_finished_runs_are_kept_unless_what_they_depend_on_changes(folder: Path) -> None:
    first, _ = compared("compare.seeds=[0]")
    again, done = compared("compare.seeds=[0]")
    assert done == []
    assert again == first
    more, done = compared()
    assert {seed for _, seed in done} == {1}
    assert more["contenders"][0]["seeds"] == [0, 1]
    _, done = compared("compare.methods=[majority, {name: logistic_regression, label: linear, options: {cs: [1.0]}}]")
    assert done == [("linear", 0), ("linear", 1)]
    rows = pd.read_csv(folder / "rows.csv")
    rows.loc[0, "votes"] += 1
    rows.to_csv(folder / "rows.csv", index=False)
    _, done = compared("compare.methods=[majority]")
    assert done == [("majority", 0), ("majority", 1)]


def test_interrupted_the_same_command_goes_on_and_gives_the_same_table(folder: Path) -> None:
    whole, _ = compared("output_dir=whole")
    with pytest.raises(KeyboardInterrupt):
        compared(launch=Launcher(stop_at=3))
    assert not (folder / "out" / "comparison.json").exists()
    # What a kill in the middle of a run leaves: logits without a result.
    (folder / "out" / "runs" / "linear" / "votes" / "seed-0" / "result.json").unlink()
    found, done = compared()
    assert done == [("linear [votes]", 0), ("majority", 0), *((name, 1) for name, seed in done[2:] if seed == 1)]
    assert len(done) == 6
    assert without_costs(found) == without_costs(whole)


def test_a_run_that_fails_is_shown_and_tried_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = f"compare.methods={json.dumps([BROKEN, 'majority'])}"
    found, done = compared(methods, "compare.seeds=[0]")
    assert [name for name, _ in done] == ["broken", "majority"]
    assert [each["seeds"] for each in found["contenders"]] == [[], [0]]
    (failure,) = found["failed"]
    assert failure["message"].startswith("metric_for_best_model='nonsense' is no metric")
    said = capsys.readouterr()
    assert "Failed: broken, seed 0: metric_for_best_model='nonsense'" in said.out
    assert "failed: metric_for_best_model='nonsense'" in said.err
    # The reference is the method that failed, so that there is nothing to compare the other with.
    assert "differences" not in found["contenders"][1]
    _, done = compared(methods, "compare.seeds=[0]")
    assert done == [("broken", 0)]


def test_a_run_that_reads_its_rows_itself_gives_the_same(folder: Path) -> None:
    one = ["compare.seeds=[0]", "compare.methods=[logistic_regression]"]
    given, _ = compared(*one)
    read, _ = compared(*one, "output_dir=own", launch=Launcher(change=lambda job: replace(job, rows=None)))
    assert without_costs(read) == without_costs(given)


def test_adapters_are_compared_with_text_alone(folder: Path) -> None:
    found, done = compared(
        "compare.methods=[adapters, adapters_text_only]", "compare.seeds=[3]", "compare.subsets=each"
    )
    assert done == [("adapters [all]", 3), ("adapters [votes]", 3), ("adapters [table]", 3), ("adapters_text_only", 3)]
    both, votes, _, text = found["contenders"]
    assert both["trainable_parameters"] > votes["trainable_parameters"] > text["trainable_parameters"]
    assert both["curves"]["eval_loss"]
    assert both["chosen"]["3"]["metric"] == "micro_average_precision"
    assert found["reference"] == "adapters [all]"


def test_modalities_go_missing_in_test_rows_and_in_training_rows(folder: Path) -> None:
    methods = [
        "adapters",
        {"name": "adapters", "label": "trained so", "missing_in_training": 0.9},
        {"name": "logistic_regression", "label": "linear", "options": {"cs": [1.0]}},
        "majority",
    ]
    found, _ = compared(
        f"compare.methods={json.dumps(methods)}",
        "compare.missing_rates=[0.5]",
        "compare.missing_subsets=true",
        "training.num_train_epochs=6",
        "training.learning_rate=1e-2",
    )
    whole, thin, linear, majority = found["contenders"]
    assert [(v["kept"], v["lost"], v["rate"]) for v in linear["variants"]] == [
        (["votes", "table"], [], 0.0),
        (["votes"], ["table"], 1.0),
        (["table"], ["votes"], 1.0),
        ([], ["votes", "table"], 1.0),
        (["table"], ["votes"], 0.5),
        (["votes"], ["table"], 0.5),
        ([], ["votes", "table"], 0.5),
    ]
    reached = {
        (tuple(v["lost"]), v["rate"]): v["metrics"]["micro_average_precision"]["mean"] for v in linear["variants"]
    }
    assert reached[(), 0.0] == linear["metrics"]["test"]["micro_average_precision"]["mean"]
    assert reached[("votes",), 1.0] < reached[(), 0.0]
    assert majority["variants"] == []
    assert majority["explanation"] is None
    assert linear["explanation"] is None
    assert whole["metrics"]["test"] != thin["metrics"]["test"]
    assert whole["explanation"]["names"] == ["text", "votes", "table"]
    assert len(whole["explanation"]["shares"]) == 4
    page = (folder / "out" / "report.html").read_text()
    for heading in ("What changes without each modality: trained so", "micro AP where modalities are missing"):
        assert heading in page
    assert {"missing.svg", "shares.svg", "left-out.svg"} <= {f.name for f in (folder / "out" / "figures").iterdir()}


def test_the_report_is_made_again_without_running(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compared("compare.seeds=[0]")
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.is_file()}
    for name in ("report.html", "comparison.json", "comparison.md"):
        (folder / "out" / name).unlink()
    (folder / "rows.csv").unlink()
    call("compare", "--report-only", "out")
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.is_file()} == before
    capsys.readouterr()
    call("compare", "--report-only", "elsewhere", status=2)
    assert "no folder of a comparison" in said(capsys)
    call("compare", "compare.yaml", "--report-only", "out", status=2)
    assert "reads no YAML" in said(capsys)
    call("compare", status=2)
    assert "No YAML was named" in said(capsys)


def test_without_matplotlib_there_are_tables(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    compared("compare.seeds=[0]", "compare.methods=[majority]")
    assert "pip install 'mmadapters[report]'" in said(capsys)
    page = (folder / "out" / "report.html").read_text()
    assert "<table>" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("compare.methods=[adapter]", "There is no method 'adapter'. Did you mean 'adapters'?"),
        ("compare.methods=[]", "methods is empty"),
        ("compare.missing_rates=[1.0]", "missing_rates is [1.0]. Give probabilities of at least 0 and below 1"),
        ("compare.methods=[{name: adapters, missing_in_training: 1}]", "missing_in_training is 1.0. Give a prob"),
        ("compare.methods=[3]", "methods[0] is 3. Give the name of a method, or a mapping"),
        ("compare.methods=[{name: mmbt, lable: x}]", "lable is unknown. Did you mean 'label'?"),
        ("compare.methods=[{name: logistic_regression, options: {c: 1}}]", "logistic_regression.c is unknown"),
        ("compare.methods=[{name: adapters, options: {training: {learning_rat: 1}}}]", "Did you mean 'learning_rate'?"),
        ("compare.methods=[majority, majority]", "Several methods would write to 'runs/majority/text'"),
        ("compare.subsets=[[voats]]", "names the modality 'voats'. Did you mean 'votes'?"),
        ("compare.subsets=some", "compare.subsets is 'some'. Accepted are 'all', 'each', and a list"),
        ("compare.seeds=[]", "seeds is empty"),
        ("compare.seeds=[1,1]", "Give every seed once"),
        ("compare.resamples=5", "too few for an interval"),
        (
            "compare.reference=linaer",
            "compare.reference is 'linaer', and no method is called so. Did you mean 'linear'?",
        ),
        ("data.split={validation: 0.2}", "the run has no test rows"),
        ("compare.metods=[mmbt]", "compare.metods is unknown. Did you mean 'methods'?"),
    ],
)
def test_mistakes_are_told_before_a_row_is_read(
    folder: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "rows.csv").unlink()
    call("compare", "compare.yaml", "--set", override, status=2)
    assert message in said(capsys)
    assert not (folder / "out").exists()


def test_streamed_rows_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streamed = ["data.split={}", "data.validation=a.csv", "data.test=b.csv", "data.streaming=true"]
    call("compare", "compare.yaml", *(part for change in streamed for part in ("--set", change)), status=2)
    assert "A comparison holds its rows in memory" in said(capsys)


def test_a_training_does_not_look_at_the_section(folder: Path) -> None:
    call("train", "compare.yaml", "--set", "output_dir=trained")
    assert (folder / "trained" / "metrics.json").is_file()


def test_subsets_have_names_and_an_order() -> None:
    names = ["a", "b", "c"]
    assert chosen_subsets("all", names) == [("a", "b", "c")]
    assert chosen_subsets("each", names) == [("a", "b", "c"), ("a",), ("b",), ("c",)]
    assert chosen_subsets("each", ["a"]) == [("a",)]
    assert chosen_subsets([["c", "a"], [], ["a", "c"]], names) == [("a", "c"), ()]
    assert [subset_name(subset, names) for subset in [("a", "b", "c"), ("a", "c"), ()]] == ["all", "a+c", "text"]
    assert subset_name(("a",), ["a"]) == "a"


def test_labels_with_any_character_have_folders_of_their_own(folder: Path) -> None:
    methods = [{"name": "majority", "label": label} for label in ("a/b", "a:b", "..", "ü")]
    settings = load_settings(RunConfig, Path("compare.yaml"), [f"compare.methods={json.dumps(methods)}"])
    plan = plan_contenders(settings)
    assert [contender.name for contender in plan.contenders] == ["a/b", "a:b", "..", "ü"]
    from mmadapters.cli.compare_plan import contender_folder

    folders = [contender_folder(contender) for contender in plan.contenders]
    assert len(set(folders)) == 4
    assert all(len(Path(name).parts) == 3 and ".." not in Path(name).parts for name in folders)


def test_entries_are_names_or_mappings() -> None:
    entries = method_entries(["mmbt", {"name": "adapters", "label": "A", "options": {"training": {}}}])
    assert [(entry.name, entry.label, entry.options) for entry in entries] == [
        ("mmbt", None, {}),
        ("adapters", "A", {"training": {}}),
    ]
    with pytest.raises(ConfigurationError, match="methods is empty"):
        method_entries([])


def test_peak_memory_is_that_of_the_process() -> None:
    before = peak_memory_bytes()
    held = np.ones(64 * 2**20, dtype=np.uint8)
    assert peak_memory_bytes() >= before
    assert before > 50 * 2**20
    del held


def test_how_a_process_ended_is_told() -> None:
    assert "ended by SIGKILL" in compare_runs._of_status(-9)
    assert "memory runs out" in compare_runs._of_status(-9)
    assert "ended by SIGTERM." in compare_runs._of_status(-15)
    assert "status 7" in compare_runs._of_status(7)


def call(*arguments: object, status: int = 0) -> None:
    with patch.object(sys, "argv", ["mmadapters", *map(str, arguments)]), pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0) == status


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())
