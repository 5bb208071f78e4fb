"""What the server answers is what the models say one by one, whatever shares a batch."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from served_models import (
    TEXT_MODELS,
    client_of,
    config_of,
    expected_scores,
    feature_row,
    movie_rows,
    scores_of,
)

from mmadapters import MultimodalPredictor
from mmadapters.serving.app import create_app
from mmadapters.serving.config import BatchingConfig, ServedFolder, ServerConfig
from mmadapters.serving.models import ModelRegistry

ROWS = movie_rows(15, seed=3)


def post(client: TestClient, model: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    answer = client.post(
        "/predict/features", json={"model": model, "rows": [feature_row(row, model) for row in rows.itertuples()]}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return answer.json()["predictions"]


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_rows_are_predicted_as_by_the_predictor(client: TestClient, models: Path, model: str) -> None:
    found = post(client, model, ROWS)
    np.testing.assert_allclose(scores_of(found), expected_scores(models, model, ROWS), rtol=0, atol=1e-5)
    decided = MultimodalPredictor.load(models / model, verbose=0).predict(ROWS)
    if model == "budget":
        assert [row["probabilities"] for row in found] == [None] * len(ROWS)
    else:
        assert [row["prediction"] for row in found] == list(decided)
    lacking = [["viewers"] if cell is None else [] for cell in ROWS["viewers"]]
    assert [row["missing"] for row in found] == (lacking if model == "genres" else [[]] * len(ROWS))


def test_rows_of_several_models_share_a_pass(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ModelRegistry(config_of(models, *TEXT_MODELS))
    (group,) = registry.groups
    rows, expected = [], []
    for place, row in enumerate(ROWS.itertuples()):
        name = TEXT_MODELS[place % 3]
        given = feature_row(row, name)
        rows.append(registry.group(name)[1].reader.read(given["text"], None, given.get("features"), given.get("table")))
        expected.append(expected_scores(models, name, ROWS.iloc[[place]])[0])
    passes = []
    forward = group.model.forward
    monkeypatch.setattr(
        group.model, "forward", lambda *a, **k: (passes.append(k.get("adapter_names")), forward(*a, **k))[1]
    )
    outputs = group.run(rows)
    for output, scores in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output.scores, scores, rtol=0, atol=1e-5)
    # 'viewers' and 'table' have other widths in other models, so that they have other names in the backbone.
    assert [names if names is None else len(names) for names in passes] == [15]
    assert list(group.modalities) == ["table", "viewers", "viewers-1", "table-2"]


def test_concurrent_requests_of_all_models_are_batched_and_equal(models: Path) -> None:
    config = config_of(models, *TEXT_MODELS, batching=BatchingConfig(max_batch=16, max_wait_ms=50.0))
    app = create_app(config)
    service = app.state.service

    async def all_at_once() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with service.running(), httpx.AsyncClient(transport=transport, base_url="http://server") as caller:
            return await asyncio.gather(
                *(
                    caller.post("/predict/features", json={"model": name, "rows": [feature_row(row, name)]})
                    for row in ROWS.itertuples()
                    for name in TEXT_MODELS
                )
            )

    answers = asyncio.run(all_at_once())
    assert {answer.status_code for answer in answers} == {200}
    for place, name in enumerate(TEXT_MODELS):
        found = [answer.json()["predictions"][0] for answer in answers[place::3]]
        np.testing.assert_allclose(scores_of(found), expected_scores(models, name, ROWS), rtol=0, atol=1e-5)
    text = service.metrics.text().decode()
    assert "mmadapters_batch_rows_sum 45.0" in text
    assert "mmadapters_batch_rows_count 3.0" in text
    assert 'mmadapters_rows_total{model="budget"} 15.0' in text
    assert "mmadapters_queue_rows 0.0" in text


def test_models_in_other_backbones_have_batches_of_their_own(
    models: Path, films: tuple[Path, pd.DataFrame], tiny_backbone: Path, tmp_path: Path
) -> None:
    from transformers import BertModel, BertTokenizer

    other = BertModel.from_pretrained(tiny_backbone)
    other.embeddings.word_embeddings.weight.data[5:] *= 0.5
    other.save_pretrained(tmp_path / "other")
    BertTokenizer.from_pretrained(tiny_backbone).save_pretrained(tmp_path / "other")
    rows = movie_rows(30)
    apart = MultimodalPredictor(label="country", text="plot", backbone=str(tmp_path / "other"), verbose=0)
    apart.set_params(training={"num_train_epochs": 1, "use_cpu": True}, column_kinds=None).fit(rows).save(
        tmp_path / "apart"
    )
    config = ServerConfig(
        {"genres": ServedFolder(str(models / "genres")), "apart": ServedFolder(str(tmp_path / "apart"))}
    )
    with client_of(config) as client:
        assert [group.name for group in client.app.state.service.registry.groups] == ["genres", "apart"]
        found = client.post(
            "/predict/features", json={"model": "apart", "rows": [{"text": plot} for plot in ROWS["plot"]]}
        ).json()["predictions"]
        np.testing.assert_allclose(scores_of(found), apart.predict_proba(ROWS, as_pandas=False), rtol=0, atol=1e-5)
        digests = {info["backbone_digest"] for info in client.get("/models").json()["models"]}
        assert len(digests) == 2


def test_what_is_absent_is_missing(client: TestClient, models: Path) -> None:
    given = [
        {"text": "the war"},
        {"text": "the war", "features": {"viewers": None}, "table": {"budget": None}},
        {"features": {"viewers": [1, 2, 3, 4]}},
        {"table": {"actors": ["Ann", None]}},
    ]
    found = client.post("/predict/features", json={"rows": given}).json()["predictions"]
    # Where a row stands in a batch decides the last bits.
    assert found[0]["probabilities"] == pytest.approx(found[1]["probabilities"], abs=1e-6)
    assert {**found[0], "probabilities": None} == {**found[1], "probabilities": None}
    assert [row["missing"] for row in found] == [["viewers"], ["viewers"], [], ["viewers"]]
    frame = pd.DataFrame(
        {
            "plot": ["the war", "the war", None, None],
            "viewers": [None, None, np.array([1, 2, 3, 4.0]), None],
            "budget": [None] * 4,
            "country": [None] * 4,
            "actors": [None, None, None, ["Ann", None]],
        },
        dtype=object,
    )
    np.testing.assert_allclose(scores_of(found), expected_scores(models, "genres", frame), rtol=0, atol=1e-5)


def test_a_row_is_explained(client: TestClient, models: Path) -> None:
    row = ROWS.iloc[[0]]
    given = feature_row(next(row.itertuples()), "genres")
    form = {name: (None, json.dumps(given[name])) for name in ("features", "table")} | {"text": (None, given["text"])}
    answer = client.post("/explain", files=form)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    expected = MultimodalPredictor.load(models / "genres", verbose=0).explain(row)
    assert list(found["shares"]) == ["text", "table", "viewers"]
    for name, share in found["shares"].items():
        assert share["mean"] == pytest.approx(expected.rows[f"share_{name}"].iloc[0], abs=1e-5)
        assert share["mean"] == pytest.approx(np.mean(list(share["layers"].values())), abs=1e-6)
        assert share["present"]
    for name, without in found["without"].items():
        assert without["change"] == pytest.approx(expected.rows[f"change_without_{name}"].iloc[0], abs=1e-5)
        assert "|".join(without["prediction"]) == expected.rows[f"prediction_without_{name}"].iloc[0]
    assert set(found["gates"]) == {"text", "viewers", "table"}
    again = post(client, "genres", row)[0]
    assert scores_of([found["prediction"]])[0] == pytest.approx(scores_of([again])[0], abs=1e-6)
    # The adapter that was made active for it does not stay so for others.
    np.testing.assert_allclose(
        scores_of(post(client, "country", ROWS)), expected_scores(models, "country", ROWS), rtol=0, atol=1e-5
    )


def test_models_are_described(client: TestClient, models: Path) -> None:
    described = client.get("/models").json()["models"]
    assert [(info["name"], info["default"]) for info in described] == [
        ("genres", True),
        ("country", False),
        ("budget", False),
    ]
    genres, country, budget = described
    assert genres["labels"] == ["dark", "none", "war"]
    assert list(genres["thresholds"]) == genres["labels"]
    assert [(m["name"], m["kind"], m["width"], m["accepts"], m["columns"]) for m in genres["modalities"]] == [
        ("table", "tabular", 12, ["table"], ["budget", "country", "actors"]),
        ("viewers", "vector", 4, ["features"], []),
    ]
    assert genres["shares_backbone_with"] == ["country", "budget"]
    assert country["modalities"][0]["width"] == 6
    assert country["thresholds"] is None
    assert (budget["problem_type"], budget["labels"]) == ("regression", [])
    assert genres["size_bytes"] == sum(file.stat().st_size for file in (models / "genres").iterdir())
    assert len({info["digest"] for info in described}) == 3
    assert len({info["backbone_digest"] for info in described}) == 1
    assert genres["parameters"]["adapters"] > 0
    assert genres["license"] is None


def test_a_licence_is_told(models: Path) -> None:
    folder = str(models / "genres")
    with client_of(ServerConfig({"genres": ServedFolder(folder, license="apache-2.0")})) as client:
        assert client.get("/models").json()["models"][0]["license"] == "apache-2.0"
    described = models / "country" / "pipeline.json"
    before = described.read_text()
    described.write_text(json.dumps({**json.loads(before), "license": "mit"}))
    try:
        with client_of(config_of(models, "country")) as client:
            assert client.get("/models").json()["models"][0]["license"] == "mit"
    finally:
        described.write_text(before)
