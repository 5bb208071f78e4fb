"""The comparisons on real sets as data: what is run, and that docs/results.md and the README are of the results."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import quality
import quality_page
import yaml
from experiment import read_config

from comparisons import multi_label_task, outcome
from mmadapters.cli.compare_config import CompareConfig, method_entries
from mmadapters.cli.compare_plan import plan_contenders
from mmadapters.cli.run_config import RunConfig
from mmadapters.cli.settings import load_settings
from mmadapters.evaluation.comparison import Contender, compare_runs

BENCHMARKS, PAGE, README, IMAGES = quality_page.BENCHMARKS, quality_page.PAGE, quality_page.README, quality_page.IMAGES
FOLDERS = sorted(path.parent for path in (BENCHMARKS / "quality").glob("*/config.yaml"))


def logits(strength: float) -> np.ndarray:
    """Logits that rank the better the stronger they lean to the truth; the disturbance is the same for all."""
    disturbance = np.array([[0.9, -1.7], [1.2, -1.4], [-0.9, -0.2], [-1.1, 0.3]])
    return ((2 * multi_label_task().targets["test"] - 1) * strength + disturbance).astype(np.float32)


def thinned(value: float) -> list[dict[str, Any]]:
    metrics = {"micro_average_precision": value, "macro_average_precision": value}
    return [{"kept": [], "lost": ["poster"], "rate": 0.7, "metrics": metrics}]


def made_comparison() -> dict[str, Any]:
    labels = {
        "adapters": (2.0, 100, 0.8),
        "adapters, modality dropout": (1.8, 100, 0.86),
        "adapters, trained at 70 % missing": (1.5, 100, 0.88),
        "text only": (0.4, 50, None),
        "MMBT": (1.6, 2000, 0.7),
        "logistic regression": (1.1, 10, None),
        "logistic regression, no text": (0.6, 10, None),
    }
    task = multi_label_task()
    contenders = [
        Contender(label, label, "any", () if rate is None else ("poster",)) for label, (*_, rate) in labels.items()
    ]
    outcomes = {
        label: {
            0: outcome(
                logits(strength),
                logits(strength),
                trainable_parameters=trained,
                variants=[] if rate is None else thinned(rate),
            )
        }
        for label, (strength, trained, rate) in labels.items()
    }
    return compare_runs(task, contenders, outcomes, seeds=[0], resamples=100)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    machine = {"cpu": "x86_64", "processor": "Z80", "cores": 2, "threads": 1}
    versions = {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"}
    about = {"date": "2026-11-30", "machine": machine, "versions": versions}
    return {**about, "folder": "movies", "comparison": made_comparison()}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_configurations_are_comparisons_that_can_be_planned(folder: Path, tmp_path: Path) -> None:
    config = read_config(folder)
    assert config["rows"] in quality.PREPARED
    compare = CompareConfig(**config["compare"])
    if folder.name in quality_page.SETS:
        labels = [entry.label or entry.name for entry in method_entries(compare.methods)]
        assert {
            quality_page.OURS,
            quality_page.DROPPED,
            quality_page.THINNED,
            quality_page.TEXT,
            quality_page.MMBT,
        } <= set(labels)
        assert compare.seeds == [0, 1, 2, 3, 4]
    modalities = {"poster": {"column": "poster"}, "table": {"numeric": ["year"]}}
    run = {"data": {"train": "rows.csv", "text": "plot", "label": "genres"}, "modalities": modalities}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(run))
    merged = quality.settings(tmp_path / "train.yaml", config, tmp_path / "out")
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(merged, sort_keys=False))
    planned = plan_contenders(load_settings(RunConfig, tmp_path / "compare.yaml")).contenders
    assert len(planned) >= len(compare.methods)
    if folder.name.split("-")[0] in quality_page.SETS:
        assert planned[0].name == quality_page.OURS


def test_the_run_of_an_experiment_wins_section_by_section(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"data": {"train": "a", "text": "t"}, "seed": 1}))
    config = {
        "run": {"data": {"text": "title"}, "training": {"num_train_epochs": 2}, "seed": 3},
        "compare": {"seeds": [0]},
    }
    found = quality.settings(tmp_path / "train.yaml", config, tmp_path / "out")
    assert found["data"] == {"train": "a", "text": "title"}
    assert (found["training"], found["seed"]) == ({"num_train_epochs": 2}, 3)
    assert (found["compare"], found["output_dir"]) == ({"seeds": [0]}, str(tmp_path / "out"))
    with pytest.raises(SystemExit, match="rows: 'films' is unknown"):
        quality.prepared("films", tmp_path)
    assert quality.rounded({"a": [0.123456789, 7, "x", None]}) == {"a": [0.12346, 7, "x", None]}


def test_aims_are_measured_against_what_they_name(result: dict[str, Any]) -> None:
    comparison = result["comparison"]
    reached = {
        each["name"]: each["metrics"]["test"]["micro_average_precision"]["mean"] for each in comparison["contenders"]
    }
    rows = [re.split(r" *\| *", line.strip("| ")) for line in quality_page.targets({"movies": result}).splitlines()[2:]]
    by_aim = {row[1]: row[2:] for row in rows}
    over_mmbt = by_aim["micro AP over MMBT's"]
    assert over_mmbt[1] == f"{reached['adapters'] - reached['MMBT']:+.4f}"
    assert over_mmbt[2] == "met"
    assert by_aim["parameters trained, of MMBT's"] == ["at most 10 %", "5.0 %", "met"]
    (linear,) = [aim for aim in by_aim if "best logistic regression" in aim]
    assert "(logistic regression)" in linear
    kept = (0.86 - reached["text only"]) / (0.88 - reached["text only"])
    assert quality_page.gap_kept(comparison, "micro_average_precision") == pytest.approx(kept)
    assert [row for row in rows if "modality dropout keeps" in row[1]][0][3] == f"{kept:.2f}"


def test_a_set_without_result_says_so_and_one_with_it_has_its_tables(result: dict[str, Any]) -> None:
    text = quality_page.section("movies", result, lambda picture: f"images/{picture}.svg", {"results"})
    assert "20 training, 4 validation and 4 test rows, 2 labels, 1 seeds." in text
    assert "**Differences to adapters**" in text
    assert "![movies: results](images/results.svg)" in text
    assert "Z80, 2 cores, 1 threads" in text
    assert quality_page.readme_table({}) == quality_page.NOT_MEASURED
    table = quality_page.readme_table({"movies": result})
    assert table.splitlines()[0] == "| method | movies: micro AP | movies: macro AP | trained parameters |"
    names = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert names == ["adapters", "text only", *(quality_page.BEST[label] for label in ("MMBT", "logistic regression"))]


def test_adapters_are_held_against_the_best_mmbt(result: dict[str, Any]) -> None:
    contenders = result["comparison"]["contenders"]
    (mmbt,) = (each for each in contenders if each["label"] == "MMBT")
    averaged = copy.deepcopy(mmbt) | {"name": "MMBT, averaged", "label": "MMBT, averaged"}
    averaged["metrics"]["test"]["micro_average_precision"]["mean"] += 0.02
    averaged["metrics"]["test"]["macro_average_precision"]["mean"] -= 0.02
    contenders.append(averaged)
    lines = quality_page.targets({"movies": result}).splitlines()
    ours = next(each for each in contenders if each["label"] == "adapters")["metrics"]["test"]
    for metric, name, best in (("micro", "MMBT, averaged", averaged), ("macro", "MMBT", mmbt)):
        (line,) = (line for line in lines if f"| {metric} AP over MMBT's ({name}) |" in line)
        mean = f"{metric}_average_precision"
        assert f"{ours[mean]['mean'] - best['metrics']['test'][mean]['mean']:+.4f}" in line


def test_what_is_run_later_joins_a_result_of_the_same_reference(result: dict[str, Any]) -> None:
    comparison = result["comparison"]
    late = {**comparison["contenders"][4], "name": "late GMU", "label": "late GMU", "method": "late_gmu"}
    again = {**comparison["contenders"][5], "name": "linear again", "label": "linear again"}
    later = {**result, "date": "2026-12-01", "folder": "movies-2"}
    later["comparison"] = {**comparison, "contenders": [comparison["contenders"][0], late, again]}
    joined = quality_page.joined(result, later)
    assert [each["label"] for each in joined["comparison"]["contenders"]] == [
        *(each["label"] for each in comparison["contenders"]),
        "late GMU",
    ]
    text = quality_page.section("movies", joined, str, set())
    assert "| late GMU | poster | 1 |" in text
    assert text.splitlines()[-1].startswith(
        "[quality/movies-2](../benchmarks/quality/movies-2/result.json), 2026-12-01"
    )
    assert "| late GMU |" in quality_page.readme_table({"movies": joined})
    latest = {**later, "folder": "movies-3"}
    third = {**late, "label": "third", "method": "third"}
    latest["comparison"] = {**comparison, "contenders": [comparison["contenders"][0], third]}
    thrice = quality_page.joined(joined, latest)
    assert [each["label"] for each in thrice["comparison"]["contenders"]][-2:] == ["late GMU", "third"]
    sources = quality_page.section("movies", thrice, str, set()).splitlines()[-3:]
    assert sources[0].startswith("[quality/movies-2]")
    assert sources[2].startswith("[quality/movies-3]")
    other = copy.deepcopy(later)
    # The last digit may be rounded the other way.
    other["comparison"]["contenders"][0]["metrics"]["test"]["micro_average_precision"]["mean"] += 0.00001
    assert len(quality_page.joined(result, other)["comparison"]["contenders"]) == len(comparison["contenders"]) + 1
    other["comparison"]["contenders"][0]["metrics"]["test"]["micro_average_precision"]["mean"] += 0.001
    with pytest.raises(
        ValueError, match="quality/movies-2 does not continue quality/movies: scores of adapters differ"
    ):
        quality_page.joined(result, other)
    with pytest.raises(ValueError, match="seeds differ"):
        quality_page.joined(result, {**later, "comparison": {**later["comparison"], "seeds": [0, 1]}})


def test_pictures_of_missing_modalities_leave_out_who_does_not_read_all(result: dict[str, Any]) -> None:
    comparison = result["comparison"]
    one, *others = comparison["contenders"]
    wide = {**one, "modalities": ["poster", "sound"]}
    shown = quality_page.pictured({**comparison, "contenders": [wide, *others]})["contenders"]
    assert shown[0]["variants"] == one["variants"] != []
    assert all(each["variants"] == [] for each in shown[1:])
    assert quality_page.pictured(comparison)["contenders"][1] == others[0]


def test_page_and_readme_are_what_the_results_make() -> None:
    committed, readme = PAGE.read_text(encoding="utf-8"), README.read_text(encoding="utf-8")
    page, start, drawn = quality_page.make(BENCHMARKS, committed, readme, IMAGES.name)
    assert page == committed, "docs/results.md is of other results: run `make bench-page`"
    assert start == readme, "The README's table is of other results: run `make bench-page`"
    assert {path.name for path in IMAGES.glob("results-*.svg")} == set(drawn)
    for name, svg in drawn.items():
        there = (IMAGES / name).read_text(encoding="utf-8")
        assert ET.fromstring(there).tag.endswith("svg")
        if f"Matplotlib v{matplotlib.__version__}," in there:
            assert svg == there, f"{name} is of other results: run `make bench-page`"
