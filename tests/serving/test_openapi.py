"""The OpenAPI document is complete and true: schemathesis calls everything as it says, rightly and wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from served_models import config_of

from mmadapters.serving.app import create_app
from mmadapters.serving.config import RequestLimits

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance  # noqa: E402

DRAWN = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_every_call_answers_as_the_document_says(models: Path) -> None:
    app = create_app(config_of(models, "genres", "country", limits=RequestLimits(max_text_chars=100)))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 7
    statuses: dict[str, set[int]] = {}
    for operation in operations:
        # Rightly and wrongly formed calls: status, content type, headers and body have to be those of the document.
        right, wrong = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
        modes = [right, wrong] if operation.method.lower() == "post" else [right]
        # What a model reads is in no schema, so calls of the right form may be refused; in a form everything is text.
        excluded = [positive_data_acceptance]
        if operation.path in ("/predict", "/explain"):
            excluded.append(negative_data_rejection)
        for mode in modes:

            @DRAWN
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case) -> None:
                answer = case.call_and_validate(excluded_checks=excluded)  # noqa: B023
                statuses.setdefault(case.path, set()).add(answer.status_code)

            check()
    assert not any(status >= 500 for found in statuses.values() for status in found)
    assert 422 in statuses["/predict/features"]
    assert 200 in statuses["/models"]


def test_every_call_is_described(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    calls = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert calls == {
        ("/predict", "post"),
        ("/predict/features", "post"),
        ("/explain", "post"),
        ("/models", "get"),
        ("/healthz", "get"),
        ("/healthz/live", "get"),
        ("/metrics", "get"),
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            assert "x-request-id" in operation["responses"]["200"]["headers"]
            if path.startswith("/predict") or path == "/explain":
                assert {"400", "404", "408", "413", "415", "422", "500", "503", "504"} <= set(operation["responses"])
                assert operation["requestBody"]["required"]
    assert "example" in str(document["components"]["schemas"]["FeatureRow"])
    assert "HTTPValidationError" not in str(document)
