"""Experiments as folders: which script runs them, what is kept of an interrupted one, and what ``make bench`` does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import growth
import pytest
import run_all
import yaml
from contenders import why_left_out
from experiment import Experiment, read_config, runner_of
from names import ADAPTERHUB, base_name
from steps import comparison, main

ROOT = Path(__file__).parents[2]
WITHOUT_RUNNER = {
    "steps": "steps",
    "length-bucketing": "length",
    "movies-defaults": "movies",
    "movies-probe-start": "movies",
    "shared-projections": "movies",
}
"""Experiments from before configurations named their script."""

FOLDERS = sorted(path.parent for path in (ROOT / "benchmarks").glob("**/config.yaml"))


def folder_with(path: Path, config: dict[str, Any], **files: Any) -> Path:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    for name, value in files.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_configuration_says_which_script_runs_it(folder: Path) -> None:
    runner = runner_of(read_config(folder))
    assert (ROOT / "benchmarks" / f"{runner}.py").is_file()
    if folder.name in WITHOUT_RUNNER:
        assert "runner" not in read_config(folder)
        assert runner == WITHOUT_RUNNER[folder.name]


def test_an_unknown_runner_is_refused() -> None:
    with pytest.raises(ValueError, match=r"runner: 'laps' was given. Accepted are steps, growth, length, movies"):
        runner_of({"runner": "laps", "shapes": {}})
    with pytest.raises(ValueError, match="runner: None"):
        runner_of({"shapes": {}, "axes": {}})


@pytest.mark.parametrize("name", ["steps", "steps-2"])
def test_the_shapes_of_the_configurations_can_be_compared(name: str) -> None:
    config = read_config(ROOT / "benchmarks" / name)
    for shape in config["shapes"].values():
        made = comparison(config, shape, {ADAPTERHUB: "python"})
        assert next(iter(made.specifications)) == config["reference"]
        assert list(made.specifications) == shape["contenders"]
        for contender, specification in made.specifications.items():
            assert specification["shape"]["labels"] == 13
            assert "contenders" not in specification["shape"]
            if not base_name(contender)[1]:
                assert why_left_out(contender, made.pythons) is None


def test_a_result_is_not_overwritten(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "steps", {"runner": "steps", "shapes": {}}, result={"kept": True})
    with pytest.raises(SystemExit, match="Results are added, never edited"):
        main(folder)
    assert json.loads((folder / "result.json").read_text()) == {"kept": True}
    with pytest.raises(SystemExit, match="cannot be read"):
        Experiment(tmp_path / "absent")


def test_a_misspelt_contender_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    shape = {"contenders": ["full fine-tuning", "ours lats 4"]}
    folder = folder_with(tmp_path / "steps", {"threads": 1, "shapes": {"a": {"contenders": []}, "b": shape}})
    with pytest.raises(ValueError, match=r"no contender 'ours lats 4'. Accepted are 'full fine-tuning', 'lora r=8'"):
        main(folder)
    axes = {"length": {"values": [8], "contenders": ["lora"]}}
    folder = folder_with(tmp_path / "growth", {"threads": 1, "contenders": ["ours"], "axes": axes})
    with pytest.raises(ValueError, match="no contender 'lora'"):
        growth.main(folder)


def test_an_interrupted_experiment_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path / "steps", {"threads": 3, "shapes": {}})
    Experiment(folder).part("first", lambda: {"seconds": 1.5})

    def not_again() -> dict[str, Any]:
        raise AssertionError("measured twice")

    monkeypatch.setattr("experiment.load", lambda: 0.25)
    experiment = Experiment(folder)
    first, second = experiment.part("first", not_again), experiment.part("second", lambda: {"seconds": 2.5})
    experiment.finish(parts=[first, second])
    result = json.loads((folder / "result.json").read_text())
    assert [part["seconds"] for part in result["parts"]] == [1.5, 2.5]
    assert result["parts"][1]["load_before"] == 0.25
    assert result["machine"]["threads"] == 3
    assert result["versions"]["torch"]
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "result.json"]


def test_parts_of_another_configuration_are_not_mixed_in(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "steps", {"turns": 5}, partial={"config": {"turns": 1}, "parts": {"a": {}}})
    with pytest.raises(SystemExit, match=r"partial\.json is of another config\.yaml\. Remove it"):
        Experiment(folder)


def test_bench_runs_what_has_no_result_and_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_with(tmp_path / "a-steps", {"runner": "steps", "shapes": {}})
    folder_with(tmp_path / "b-done", {"runner": "steps", "shapes": {}}, result={})
    folder_with(tmp_path / "c-odd", {"runner": "laps"})
    folder_with(tmp_path / "d-growth", {"axes": {}})
    folder_with(tmp_path / "e-movies", {"variants": {}})
    (tmp_path / "f-script-of-its-own").mkdir()
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, returncode=3 if "d-growth" in command[2] else 0)

    monkeypatch.setattr(run_all.subprocess, "run", run)
    assert run_all.main(tmp_path, sys.executable) == 1
    assert [(Path(script).name, Path(folder).name) for _, script, folder, *_ in commands] == [
        ("steps.py", "a-steps"),
        ("growth.py", "d-growth"),
        ("movies.py", "e-movies"),
    ]
    assert commands[0][3:] == ["--adapterhub", sys.executable]
    assert commands[1][3:] == []
    said = " ".join(capsys.readouterr().err.split())
    assert "c-odd/config.yaml: runner: 'laps'" in said
    assert "2 experiments run, failed: c-odd, d-growth" in said


def test_where_nothing_is_to_be_done_bench_succeeds(tmp_path: Path) -> None:
    assert run_all.main(tmp_path, None) == 0


def test_adapterhub_s_environment_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_all, "ADAPTERHUB_ENVIRONMENT", tmp_path / "env")
    assert run_all.adapterhub_python(None) is None
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    assert run_all.adapterhub_python(None) == str(python)
    assert run_all.adapterhub_python(sys.executable) == sys.executable
    with pytest.raises(SystemExit, match="does not exist. Give the Python of an environment"):
        run_all.adapterhub_python(str(tmp_path / "absent"))


def test_the_makefile_and_the_scripts_mean_the_same_environment() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    place = re.search(r"^ADAPTERHUB := (.+)$", makefile, re.MULTILINE)
    assert place is not None
    assert ROOT / place[1] == run_all.ADAPTERHUB_ENVIRONMENT
    pinned = dict(
        line.split("==")
        for line in (ROOT / "benchmarks" / "adapterhub-requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"torch=={pinned['torch']}" in constraints
    assert f"numpy=={pinned['numpy']}" in constraints


@pytest.mark.slow
def test_a_measurement_from_start_to_end(tmp_path: Path) -> None:
    encoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape = {"encoder": encoder | {"vocab_size": 50}, "batch_size": 2, "length": 8, "modalities": [6]}
    names = ["full fine-tuning", ADAPTERHUB, "ours"]
    config = {"labels": 3, "threads": 1, "turns": 2, "steps_a_turn": 1, "reference": names[0]}
    folder = folder_with(tmp_path / "small", config | {"shapes": {"small": shape | {"contenders": names}}})

    subprocess.run([sys.executable, run_all.__file__, "--benchmarks", str(tmp_path)], check=True)
    small = json.loads((folder / "result.json").read_text())["shapes"]["small"]
    contenders = small["contenders"]
    measured = ["full fine-tuning", "ours"] if ADAPTERHUB in small["left_out"] else names
    assert list(contenders) == measured
    assert contenders["ours"]["step_gigaflops"] > contenders["ours"]["infer_gigaflops"] > 0
    for result in contenders.values():
        assert result["peak_megabytes"] > 100
        assert result["step_ratio"]["median"] > 0
        assert len(result["infer_seconds"]["turns"]) == 2
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, str(ROOT / "benchmarks" / "steps.py"), str(folder)], check=True)
