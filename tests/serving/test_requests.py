"""Malformed, oversized and forbidden requests are answered with 4xx, and the server goes on; limits, token, logs."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from malformed import malformed_requests
from served_models import client_of, config_of, expected_scores, feature_row, movie_rows, scores_of

from mmadapters.errors import ConfigurationError
from mmadapters.serving.app import create_app
from mmadapters.serving.config import BatchingConfig, RequestLimits
from mmadapters.serving.gate import access_log

JSON = {"content-type": "application/json"}
ROWS = movie_rows(4, seed=5)
SECRET = "a-token-of-some-length-0123456789"


def test_malformed_requests_are_the_caller_s_error_and_the_server_goes_on(client: TestClient, models: Path) -> None:
    expected = expected_scores(models, "genres", ROWS)
    given = list(malformed_requests(100))
    assert len(given) >= 200
    for number, (path, arguments) in enumerate(given):
        answer = client.post(path, **arguments)
        assert 400 <= answer.status_code < 500, (number, path, str(arguments)[:300], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert set(problem) == {"type", "title", "status", "detail", "request_id", "errors"}
        assert (problem["status"], problem["request_id"]) == (answer.status_code, answer.headers["x-request-id"])
        assert problem["detail"]
        assert "Traceback" not in answer.text
    for method, path in (
        ("GET", "/predict"),
        ("PUT", "/models"),
        ("DELETE", "/predict/features"),
        ("GET", "/../etc/passwd"),
    ):
        assert client.request(method, path).status_code in (404, 405)
    rows = [feature_row(row, "genres") for row in ROWS.itertuples()]
    right = client.post("/predict/features", json={"rows": rows})
    np.testing.assert_allclose(scores_of(right.json()["predictions"]), expected, rtol=0, atol=1e-5)
    assert client.get("/healthz").json()["ready"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"text": "x", "features": {"viewer": [1]}}]}, "Row 0: The model 'genres' has no modality 'viewer'"),
        (
            {"rows": [{"text": "x"}, {"features": {"viewers": [1]}}]},
            r"Row 1: The features of 'viewers' have the shape \(1,\)",
        ),
        ({"rows": [{"table": {"country": ["fr"]}}]}, "'country' takes one value, and a list was given"),
        ({"rows": [{"table": {"budgt": 1}}]}, "no table column 'budgt'.*Did you mean 'budget'"),
        ({"rows": [{"features": {"table": [1]}}]}, "'table' is a table. Give its columns in 'table': 'budget'"),
        ({"rows": [{}]}, "The row is empty. The model 'genres' reads 'text', 'table', 'viewers'"),
        ({"rows": [{"txt": "x"}]}, "body.rows.0.txt: Extra inputs are not permitted"),
        ({"model": "genre", "rows": [{"text": "x"}]}, "There is no model 'genre'.*Did you mean 'genres'"),
    ],
)
def test_messages_say_what_to_change(client: TestClient, changes: dict[str, Any], message: str) -> None:
    answer = client.post("/predict/features", json=changes)
    assert answer.status_code == (404 if "model" in changes else 422)
    assert re.search(message, answer.json()["detail"]), answer.text


def test_the_size_of_a_body_is_limited_before_it_is_read_and_while(models: Path) -> None:
    config = config_of(models, "genres", limits=RequestLimits(max_request_bytes=2000))
    with client_of(config) as client:
        large = json.dumps({"rows": [{"text": "x" * 3000}]}).encode()
        told = client.post("/predict/features", content=large, headers=JSON)
        assert told.status_code == 413
        assert "larger than 2,000 bytes" in told.json()["detail"]

        def parts() -> Iterator[bytes]:
            yield from (large[start : start + 500] for start in range(0, len(large), 500))

        streamed = client.post("/predict/features", content=parts(), headers=JSON)
        assert streamed.status_code == 413
        form = client.post("/predict", files={"text": (None, "x" * 3000)})
        assert form.status_code == 413
        assert client.post("/predict/features", json={"rows": [{"text": "x"}]}).status_code == 200
        assert 'mmadapters_rejections_total{reason="size"} 2.0' in client.get("/metrics").text


def test_the_token_is_asked_for_everywhere_but_for_health(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMADAPTERS_TEST_TOKEN", SECRET)
    with client_of(config_of(models, "genres", token_env="MMADAPTERS_TEST_TOKEN")) as client:
        for path in ("/models", "/metrics", "/openapi.json", "/nowhere"):
            for header in (
                {},
                {"authorization": f"Bearer {SECRET}x"},
                {"authorization": SECRET},
                {"authorization": "é"},
            ):
                answer = client.get(path, headers={k: v.encode("latin-1") for k, v in header.items()})
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.post("/predict/features", json={"rows": [{"text": "x"}]}).status_code == 401
        assert client.get("/healthz").status_code == client.get("/healthz/live").status_code == 200
        known = {"authorization": f"Bearer {SECRET}"}
        assert client.post("/predict/features", json={"rows": [{"text": "x"}]}, headers=known).status_code == 200
        document = client.get("/openapi.json", headers=known).json()
        assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
        assert document["paths"]["/predict"]["post"]["security"] == [{"token": []}]
        assert "security" not in document["paths"]["/healthz"]["get"]


def test_request_ids_and_headers_of_every_answer(client: TestClient) -> None:
    for path in ("/models", "/nowhere", "/healthz"):
        answer = client.get(path, headers={"x-request-id": "shop-42.a_b"})
        assert answer.headers["x-request-id"] == "shop-42.a_b"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
    for bad in ("two words", "x" * 65, 'a"b', "<script>"):
        assert client.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"] != bad


def test_a_line_a_request_without_content(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    access_log.propagate = True
    with caplog.at_level(logging.INFO, logger=access_log.name):
        headers = {"x-request-id": "logged-1"}
        given = {
            "rows": [{"text": "secret words", "features": {"viewers": [0.625, 1, 2, 3]}}, {"text": "secret again"}]
        }
        client.post("/predict/features", json=given, headers=headers)
        client.post("/predict", files={"secret-field": ("secret.png", b"secret")})
        client.get("/secret-path")
    first, second, third = (json.loads(record.getMessage()) for record in caplog.records)
    assert {name: first[name] for name in ("request_id", "method", "path", "status", "model", "rows")} == {
        "request_id": "logged-1",
        "method": "POST",
        "path": "/predict/features",
        "status": 200,
        "model": "genres",
        "rows": 2,
    }
    assert first["seconds"] > 0
    assert (second["path"], second["status"], third["path"], third["status"]) == ("/predict", 422, "other", 404)
    assert "secret" not in caplog.text
    assert "0.625" not in caplog.text


def test_a_fault_of_the_server_is_told_without_a_trace(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    with client_of(config_of(models, "genres")) as client:
        (group,) = client.app.state.service.registry.groups
        model = group.model

        def broken(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("weights of secret words")

        group.model = broken  # type: ignore[assignment]
        access_log.propagate = True
        with caplog.at_level(logging.INFO, logger=access_log.name):
            answer = client.post("/predict/features", json={"rows": [{"text": "x"}]})
        group.model = model
        assert answer.status_code == 500
        assert answer.json()["detail"] == "The server failed. Give the request_id to whoever runs it."
        line = json.loads(caplog.records[-1].getMessage())
        assert line["request_id"] == answer.json()["request_id"]
        assert line["exception"] == "AttributeError"
        assert any("models.py" in entry for entry in line["stack"])
        assert "secret" not in caplog.text
        assert client.post("/predict/features", json={"rows": [{"text": "x"}]}).status_code == 200


def test_a_full_queue_slow_requests_and_too_many_at_once(models: Path) -> None:
    limits = RequestLimits(max_concurrent_requests=6, request_seconds=1.5, retry_after_seconds=3)
    config = config_of(models, "genres", limits=limits, batching=BatchingConfig(1, 0.0, 4))
    app = create_app(config)
    service = app.state.service
    one = {"rows": [{"text": "the war"}]}

    async def scenario() -> None:
        async with (
            service.running(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s") as caller,
        ):
            batcher = service._batchers["genres"]
            import threading

            go = threading.Event()
            busy = asyncio.create_task(batcher.run_alone(lambda: go.wait(30)))
            await asyncio.sleep(0.05)
            waiting = [asyncio.create_task(caller.post("/predict/features", json=one)) for _ in range(4)]
            await asyncio.sleep(0.1)
            full = await caller.post("/predict/features", json=one)
            assert full.status_code == 503
            assert full.headers["retry-after"] == "3"
            assert "the queue of 4 has no room" in full.json()["detail"]
            explained = await caller.post("/explain", files={"text": (None, "x")})
            assert explained.status_code == 503
            # Whoever waits for too long is answered, and what they wanted is not computed.
            answers = await asyncio.gather(*waiting)
            assert [answer.status_code for answer in answers] == [504] * 4
            many = [
                asyncio.create_task(caller.post("/predict/features", json={"rows": one["rows"] * 5})) for _ in range(2)
            ]
            assert [answer.status_code for answer in await asyncio.gather(*many)] == [503, 503]
            more = [asyncio.create_task(caller.get("/models")) for _ in range(3)]
            await asyncio.gather(*more)
            go.set()
            await busy
            assert (await caller.post("/predict/features", json=one)).status_code == 200

    asyncio.run(scenario())
    text = service.metrics.text().decode()
    assert 'mmadapters_rejections_total{reason="queue_full"} 4.0' in text
    assert 'mmadapters_rejections_total{reason="timeout"} 4.0' in text
    assert 'mmadapters_rows_total{model="genres"} 1.0' in text


def test_more_requests_than_may_be_at_work_and_a_body_that_does_not_come(models: Path) -> None:
    limits = RequestLimits(max_concurrent_requests=1, body_seconds=0.3)
    app = create_app(config_of(models, "genres", limits=limits))

    async def scenario() -> tuple[list[int], int]:
        statuses: dict[str, int] = {}

        async def call(name: str, path: str, receive: Any) -> None:
            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses[name] = message["status"]

            headers = [(b"content-type", b"application/json")]
            scope = {
                "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("s", 80), "client": ("c", 1),
            }  # fmt: skip
            await app(scope, receive, send)

        async def nothing_comes() -> Any:
            await asyncio.sleep(30)

        async def all_comes() -> Any:
            return {"type": "http.request", "body": b'{"rows": [{"text": "x"}]}', "more_body": False}

        async with app.state.service.running():
            slow = asyncio.create_task(call("slow", "/predict/features", nothing_comes))
            await asyncio.sleep(0.05)
            await call("second", "/predict/features", all_comes)
            await slow
            await call("third", "/predict/features", all_comes)
        return [statuses[name] for name in ("slow", "second", "third")], 0

    statuses, _ = asyncio.run(scenario())
    assert statuses == [408, 503, 200]


def test_not_ready_before_and_after(models: Path) -> None:
    app = create_app(config_of(models, "genres"))
    service = app.state.service

    async def scenario() -> list[tuple[int, bool, bool]]:
        found = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s") as caller:

            async def look() -> None:
                answer = await caller.get("/healthz")
                found.append(
                    (answer.status_code, answer.json()["ready"], (await caller.get("/healthz/live")).json()["live"])
                )

            await look()
            async with service.running():
                await look()
            await look()
            assert (await caller.post("/predict", files={"text": (None, "x")})).status_code == 503
        return found

    assert asyncio.run(scenario()) == [(503, False, True), (200, True, True), (503, False, True)]


def test_a_token_that_protects_nothing_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMADAPTERS_TEST_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="The environment variable 'MMADAPTERS_TEST_TOKEN' holds no token"):
        create_app(config_of(models, "genres", token_env="MMADAPTERS_TEST_TOKEN"))
    file = tmp_path / "token"
    for text in ("short", "with spaces in it, although it is long", "ünïcödé-is-not-for-headers"):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match="holds no token that can be used. Give at least 16 characters"):
            config_of(models, "genres", token_file=str(file)).token()
    file.write_text(f"{SECRET}\n")
    assert config_of(models, "genres", token_file=str(file)).token() == SECRET
    with pytest.raises(ConfigurationError, match="The token cannot be read from the file .*No such file"):
        config_of(models, "genres", token_file=str(tmp_path / "absent")).token()
