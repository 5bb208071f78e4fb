"""The predictor on raw media: from paths to predictions, the same bits in another process and by the commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from predictor_rows import QUICK, WORDS, predictor, save_vit, write_clip, write_picture, write_sound

from mmadapters import MultimodalPredictor
from mmadapters.cli.main import main
from mmadapters.data.files import read_rows
from mmadapters.errors import DataError
from mmadapters.features.extract import ExtractionOptions, MediaSource, extract
from mmadapters.features.extractor import ExtractorSpec, build_extractor
from mmadapters.predictor.media_cells import Place

N = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose labels are told by the picture, by the sound of a film and by a number; some of it is missing."""
    folder = tmp_path_factory.mktemp("films")
    save_vit(folder / "vit")
    random = np.random.default_rng(0)
    for shade in range(4):
        write_picture(folder / "posters" / f"{shade}.png", 80 * shade)
        write_clip(folder / "films" / f"{shade}.mp4", 60 * shade, 200.0 if shade % 2 else 3000.0)
    (folder / "posters" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    rows = []
    for i in range(N):
        poster, film, year = random.integers(0, 4), random.integers(0, 4), int(random.integers(1950, 2020))
        labels = [name for name, true in {"dark": poster < 2, "loud": film % 2, "old": year < 1985}.items() if true]
        rows.append(
            {
                "id": f"f{i}",
                "plot": f"a {WORDS[i % 6]} of the {WORDS[i % 5]} in the cold river of summer {WORDS[i % 4]}",
                "genres": "|".join(labels) or "none",
                "poster": None if i % 9 == 4 else "posters/broken.png" if i == 7 else f"posters/{poster}.png",
                "film": None if i % 8 == 3 else f"films/{film}.mp4",
                "year": year if i % 6 else None,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, tiny_backbone: Path) -> MultimodalPredictor:
    encoders = {"encoder": str(folder / "vit"), "frames": 2, "device": "cpu"}
    return predictor(
        tiny_backbone,
        column_kinds={"plot": "text"},
        extractors={"poster": {"encoder": str(folder / "vit"), "device": "cpu"}, "film": encoders},
        cache_dir=folder / "cache",
        training={**QUICK, "num_train_epochs": 8},
    ).fit(folder / "rows.csv")


def test_media_are_found_by_themselves(trained: MultimodalPredictor, folder: Path) -> None:
    found = trained.artefact_.preprocessor.modalities
    assert [(modality.name, modality.kind, modality.feature_dim) for modality in found] == [
        ("poster", "image", 8),
        ("film", "video", 8),
        ("film_audio", "audio", 96),
        ("table", "tabular", 2),
    ]
    rows = read_rows(folder / "rows.csv")
    explained = trained.explain(rows)
    assert explained.rows["share_poster"].isna().tolist() == [row % 9 == 4 or row == 7 for row in range(N)]
    assert explained.rows["share_film_audio"].isna().tolist() == [row % 8 == 3 for row in range(N)]
    assert trained.evaluate(rows)["micro_average_precision"] > 0.6


def test_broken_and_absent_files_are_counted(trained: MultimodalPredictor, folder: Path, capsys: Any) -> None:
    rows = pd.read_csv(folder / "rows.csv").head(8)
    rows.loc[1, "poster"] = "posters/gone.png"
    trained.set_params(verbose=1, root=folder)
    try:
        trained.predict(rows)
        printed = " ".join(capsys.readouterr().out.split())
        assert "poster: 2 of 7 cells cannot be used and count as missing, the first: posters/gone.png" in printed
        assert "extracting" not in printed
    finally:
        trained.set_params(verbose=0, root=None)


@pytest.mark.slow
def test_another_process_with_an_empty_cache_predicts_the_same_bits(
    trained: MultimodalPredictor, folder: Path, tmp_path: Path
) -> None:
    model = trained.save(tmp_path / "model")
    assert str(folder / "cache") not in (model / "pipeline.json").read_text()
    code = """
import sys
import numpy as np
from mmadapters import MultimodalPredictor
predictor = MultimodalPredictor.load(sys.argv[1], cache_dir=sys.argv[2], verbose=0)
# Backwards, so that nothing is extracted in the order of the training.
rows = __import__("mmadapters.data.files", fromlist=["read_rows"]).read_rows(sys.argv[3])
backwards = rows.iloc[::-1]
backwards.attrs = rows.attrs
predictor.predict(backwards)
np.save(sys.argv[4], predictor.predict_proba(rows).to_numpy())
"""
    arguments = [str(model), str(tmp_path / "cache"), str(folder / "rows.csv"), str(tmp_path / "scores.npy")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = trained.predict_proba(read_rows(folder / "rows.csv")).to_numpy()
    assert np.load(tmp_path / "scores.npy").tobytes() == np.ascontiguousarray(expected).tobytes()


def command(*arguments: object, status: int = 0) -> None:
    before = sys.argv
    sys.argv = ["mmadapters", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        sys.argv = before
    assert (stopped.value.code or 0) == status


def test_the_commands_extract_by_themselves(
    trained: MultimodalPredictor,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MMADAPTERS_CACHE", str(tmp_path / "cache"))
    model = trained.save(tmp_path / "model")
    rows = read_rows(folder / "rows.csv")
    command("predict", model, folder / "rows.csv", "-o", tmp_path / "out.parquet")
    assert "poster: extracting features of 5 image files" in capsys.readouterr().err
    table = pd.read_parquet(tmp_path / "out.parquet")
    names = [f"probability_{name}" for name in trained.classes_]
    assert table[names].to_numpy().tolist() == trained.predict_proba(rows).to_numpy().tolist()
    assert table["id"].tolist() == rows["id"].tolist()
    assert table["status"].tolist() == ["partial" if row == 7 else "ok" for row in range(N)]
    assert table["error"].iloc[7].startswith("poster: posters/broken.png: ")
    command("evaluate", model, folder / "rows.csv", "--json")
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert measured["micro_average_precision"] == pytest.approx(trained.evaluate(rows)["micro_average_precision"])
    command("explain", model, folder / "rows.csv", "-o", tmp_path / "explained")
    assert pd.read_csv(tmp_path / "explained" / "rows.csv")["id"].tolist() == rows["id"].tolist()
    # The rows elsewhere, the files where they were.
    shutil.copy(folder / "rows.csv", tmp_path / "rows.csv")
    command("predict", model, tmp_path / "rows.csv", "-o", tmp_path / "there.parquet", "--root", folder)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "there.parquet"), table)
    command("predict", model, tmp_path / "rows.csv", "-o", tmp_path / "nowhere.csv")
    assert set(pd.read_csv(tmp_path / "nowhere.csv")["status"]) == {"partial"}
    command("info", model)
    said = " ".join(capsys.readouterr().out.split())
    assert "film_audio: audio, 96 wide" in said
    assert "film_audio from: audio files in the column 'film', by a log-mel spectrogram" in said


@pytest.mark.slow
def test_an_exported_model_extracts_by_itself(
    trained: MultimodalPredictor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("MMADAPTERS_CACHE", str(tmp_path / "cache"))
    command("export", trained.save(tmp_path / "model"), "-o", tmp_path / "exported")
    for name in ("model", "exported"):
        command("predict", tmp_path / name, folder / "rows.csv", "-o", tmp_path / f"{name}.parquet")
    ours, exported = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("model", "exported"))
    names = [f"probability_{name}" for name in trained.classes_]
    np.testing.assert_allclose(exported[names], ours[names], atol=1e-4)
    pd.testing.assert_frame_equal(exported.drop(columns=names), ours.drop(columns=names))


@pytest.mark.slow
def test_a_store_that_is_named_takes_the_place_of_the_files(
    trained: MultimodalPredictor, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_rows(folder / "rows.csv")
    specs = {
        "poster": ExtractorSpec("poster", "image", encoder=str(folder / "vit"), batch_size=1, device="cpu"),
        "film": ExtractorSpec("film", "video", encoder=str(folder / "vit"), frames=2, batch_size=1, device="cpu"),
        "film_audio": ExtractorSpec("film_audio", "audio"),
    }
    columns = {"poster": "poster", "film": "film", "film_audio": "film"}
    sources = [
        MediaSource(columns[name], build_extractor(spec), pool_mean=spec.kind != "image")
        for name, spec in specs.items()
    ]
    extract(rows, sources, tmp_path / "store", ExtractionOptions("id", root=folder))
    model = trained.save(tmp_path / "model")
    named = rows.drop(columns=["poster", "film"])
    named.to_csv(tmp_path / "named.csv", index=False)
    command("predict", model, tmp_path / "named.csv", "-o", tmp_path / "out.parquet", "--store", tmp_path / "store")
    table = pd.read_parquet(tmp_path / "out.parquet")
    expected = trained.predict_proba(rows).to_numpy()
    assert table[[f"probability_{name}" for name in trained.classes_]].to_numpy().tolist() == expected.tolist()
    some = ("--store", f"poster={tmp_path / 'store'}")
    command("predict", model, tmp_path / "named.csv", "-o", tmp_path / "some.csv", *some, status=2)
    assert "The rows have no column 'film'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "some.csv").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_files_of_which_none_can_be_used_are_an_error(folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(folder / "rows.csv")
    given: dict[str, Any] = {"text": "plot", "cache_dir": tmp_path / "cache"}
    encoder = {"poster": {"encoder": str(folder / "vit")}}
    with pytest.raises(DataError, match="'poster' names a file of the kind 'image' in 43 rows, and none can be used"):
        predictor(tiny_backbone, image="poster", extractors=encoder, root=tmp_path, **given).fit(rows)
    with pytest.raises(DataError, match="'poster' names a file of the kind 'audio'.*holds an image"):
        predictor(tiny_backbone, audio="poster", root=folder, **given).fit(rows)
    with pytest.raises(DataError, match="Column 'poster' holds paths of media, and none of"):
        predictor(tiny_backbone, cache_dir=tmp_path / "cache", root=tmp_path).fit(rows)


@pytest.mark.slow
def test_sounds_of_which_some_rows_have_none_and_a_fusion_that_reads_steps(tiny_backbone: Path, tmp_path: Path) -> None:
    for i in range(4):
        write_sound(tmp_path / f"{i}.wav", 200.0 + 900 * (i % 2), seconds=0.3)
    rows = pd.DataFrame(
        {
            "plot": ["war and love"] * 40,
            "sound": [None if i % 10 == 9 else f"{i % 4}.wav" for i in range(40)],
            "genres": ["low" if i % 2 == 0 else "high" for i in range(40)],
        }
    )
    fitted = predictor(
        tiny_backbone,
        text="plot",
        audio={"noise": "sound"},
        root=tmp_path,
        cache_dir=tmp_path / "cache",
        adapter={"fusion": "cross_attention", "bottleneck_size": 8, "dropout": 0.0},
        model={"head_dropout": 0.0},
        training={**QUICK, "num_train_epochs": 8, "ema_decay": None},
    ).fit(rows)
    (source,) = fitted.artefact_.preprocessor.schema.modalities
    assert (source.name, source.pooling) == ("noise", None)
    data = fitted.artefact_.preprocessor.transform_chunk(
        fitted._preparation.media.of(rows, Place(tmp_path)).frame, {}, with_labels=False
    )
    assert data.features("noise", 0).shape == (15, 96)
    assert fitted.score(rows) > 0.9


def test_paths_start_from_the_working_folder(
    trained: MultimodalPredictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.read_csv(folder / "rows.csv")
    expected = trained.predict_proba(read_rows(folder / "rows.csv"))
    monkeypatch.chdir(folder)
    assert trained.predict_proba(rows).equals(expected)
    absolute = rows.assign(poster=[None if isinstance(p, float) else os.path.abspath(p) for p in rows["poster"]])
    assert trained.predict_proba(absolute).equals(expected)
