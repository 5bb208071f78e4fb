"""Files of requests: the numbers of the predictor, and what becomes of files that are broken or hostile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from hostile_decoders import kill_itself, never_end
from served_models import client_of, config_of, scores_of

from mmadapters import MultimodalPredictor
from mmadapters.serving.config import MediaConfig


@pytest.fixture(scope="module")
def client(films: tuple[Path, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    kept = tmp_path_factory.mktemp("kept")
    media = MediaConfig(workers=2, seconds_per_file=60.0, folder=str(kept))
    with client_of(config_of(films[0], "films", media=media)) as client:
        yield client
        (own,) = kept.iterdir()
        assert list(own.iterdir()) == []
    assert list(kept.iterdir()) == []


def test_files_are_predicted_as_by_the_predictor(client: TestClient, films: tuple[Path, pd.DataFrame]) -> None:
    folder, rows = films
    predictor = MultimodalPredictor.load(folder / "films", root=folder, cache_dir=folder / "cache", verbose=0)
    chosen = rows.iloc[[0, 2, 4, 5]]
    expected = predictor.predict_proba(chosen, as_pandas=False)
    missing = [[], ["sound"], ["poster"], ["film", "sound"]]
    for row, scores, lacking in zip(chosen.itertuples(), expected, missing, strict=True):
        # Names of files mean nothing.
        cells = {"poster": row.poster, "film": row.film}
        named = {n: ("x.exe", (folder / cell).read_bytes()) for n, cell in cells.items() if isinstance(cell, str)}
        data = {"text": row.plot, "model": "films", "table": f'{{"year": {row.year}}}'}
        answer = client.post("/predict", data=data, files=named)
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["predictions"]
        np.testing.assert_allclose(scores_of([found])[0], scores, rtol=0, atol=1e-5)
        assert found["missing"] == lacking
        assert found["notes"] == (["sound: there is none in the file"] if row.film == "2.mp4" else [])


def test_a_file_may_be_for_one_modality_alone(client: TestClient, films: tuple[Path, pd.DataFrame]) -> None:
    clip = (films[0] / "0.mp4").read_bytes()
    answer = client.post("/predict", data={"text": "the war"}, files={"sound": ("a", clip)})
    assert answer.json()["predictions"][0]["missing"] == ["poster", "film"]
    explained = client.post("/explain", data={"text": "the war"}, files={"sound": ("a", clip)})
    assert explained.status_code == 200, explained.text
    assert list(explained.json()["without"]) == ["sound", "table"]
    info = client.get("/models").json()["models"][0]["modalities"]
    assert [(entry["name"], entry["kind"], entry["accepts"], entry["columns"]) for entry in info] == [
        ("poster", "image", ["features", "file"], ["poster"]),
        ("film", "video", ["features", "file"], ["film"]),
        ("sound", "audio", ["features", "file"], ["film"]),
        ("table", "tabular", ["table"], ["year"]),
    ]
    schema = client.app.openapi()["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert {"poster", "film", "sound", "text"} <= set(schema["schema"]["properties"])


@pytest.mark.parametrize(
    ("field", "file", "status", "message"),
    [
        ("poster", "0.mp4", 415, "The file of 'poster' holds video; accepted is an image."),
        ("film", "0.png", 415, "holds an image; accepted is "),
        ("sound", "0.png", 415, "The file of 'sound' holds an image; accepted is audio."),
        ("poster", b"\x89PNG\r\n\x1a\n rubbish", 422, "The file of 'poster' cannot be used"),
        ("poster", b"neither this nor that", 422, "The file of 'poster' cannot be used"),
        ("film", b"\x1a\x45\xdf\xa3 rubbish", 422, "cannot be used: the file is damaged"),
        ("poster", b"", 422, "The file of 'poster' is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_the_caller_s_error(
    client: TestClient, films: tuple[Path, pd.DataFrame], field: str, file: str | bytes, status: int, message: str
) -> None:
    content = file if isinstance(file, bytes) else (films[0] / file).read_bytes()
    answer = client.post("/predict", data={"text": "the war"}, files={field: ("a.png", content)})
    assert answer.status_code == status, answer.text
    assert message in answer.json()["detail"]
    assert str(films[0]) not in answer.text
    assert "/tmp" not in answer.text


def test_fields_that_do_not_fit_the_model(client: TestClient, films: tuple[Path, pd.DataFrame]) -> None:
    picture = (films[0] / "0.png").read_bytes()
    clip = (films[0] / "0.mp4").read_bytes()
    given = {
        "There is no field 'postr'.*Did you mean 'poster'": {"postr": ("a", picture)},
        "'poster' is given as features and as the file": {
            "poster": ("a", picture),
            "features": (None, '{"poster": [1, 2, 3, 4, 5, 6, 7, 8]}'),
        },
        "Two files are given for one modality": {"film": ("a", clip), "sound": ("b", clip)},
        "The field 'text' is given as a file": {"text": ("a", b"the war")},
        "The field 'poster' is given as text": {"poster": (None, "poster.png")},
    }
    for message, form in given.items():
        answer = client.post("/predict", files=form)
        assert answer.status_code == 422
        assert re.search(message, answer.json()["detail"]), answer.text


@pytest.mark.slow
def test_a_decoder_that_is_killed_or_hangs_is_an_error_of_the_request(
    films: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(films[0], "films", media=MediaConfig(seconds_per_file=6.0))
    picture = {"poster": ("a", (films[0] / "0.png").read_bytes())}
    with client_of(config) as client:
        (model,) = client.app.state.service.registry.models
        extractor = model.extractors["poster"]
        right = extractor.decode
        for wrong, message in ((kill_itself, "ended (SIGKILL)"), (never_end, "took longer than 6 s")):
            monkeypatch.setattr(extractor, "decode", wrong)
            answer = client.post("/predict", files=picture)
            assert answer.status_code == 422, answer.text
            assert message in answer.json()["detail"]
        monkeypatch.setattr(extractor, "decode", right)
        assert client.post("/predict", files=picture).status_code == 200
        assert client.get("/healthz").json()["ready"]
        text = client.get("/metrics").text
        assert 'mmadapters_media_total{kind="image",status="timeout"} 1.0' in text
        assert 'mmadapters_media_total{kind="image",status="error"} 1.0' in text
