"""The OpenAPI document: FastAPI's, with the forms, the errors that every call may answer, and the token."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mmadapters.serving.gate import OPEN_PATHS, REQUEST_ID
from mmadapters.serving.problems import CONTENT_TYPE, title_of
from mmadapters.serving.schemas import Problem, form_schema

EVERYWHERE = (401, 405, 413, 500, 503, 504)
WITH_BODY = (400, 404, 408, 415, 422)


def form_body(files: dict[str, str], model_names: list[str]) -> dict[str, Any]:
    """Return what describes a call that takes a form.

    Args:
        files: File fields by name, with what each takes.
        model_names: The models.
    """
    schema = form_schema(files, model_names)
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def add_openapi(app: FastAPI, has_token: bool) -> None:
    """Make an application describe itself completely at ``/openapi.json``.

    Args:
        app: The application with all of its calls.
        has_token: Whether calls need a token.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, has_token)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, has_token: bool) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_DESCRIPTION)
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = problem
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            _complete(operation, path in OPEN_PATHS, has_token)
    return made


def _complete(operation: dict[str, Any], is_open: bool, has_token: bool) -> None:
    """Add to one call the errors it may answer, the header of every answer, and that it needs the token."""
    responses = operation["responses"]
    responses.pop("422", None)
    statuses = [500] if is_open else [*EVERYWHERE, *(WITH_BODY if "requestBody" in operation else ())]
    for status in sorted(statuses):
        if status == 401 and not has_token:
            continue
        content = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses.setdefault(str(status), {"description": title_of(status), "content": content})
    for response in responses.values():
        header = {"description": "As it was sent, or made by the server.", "schema": {"type": "string"}}
        response.setdefault("headers", {})[REQUEST_ID] = header
    if has_token and not is_open:
        operation["security"] = [{"token": []}]


_DESCRIPTION = (
    "Predictions of text classifiers that also read images, video, sound and tables. Every answer has the header "
    "X-Request-ID; every error is a problem document (RFC 9457)."
)
