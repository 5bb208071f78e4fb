"""The FastAPI application: which calls there are, and what answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mmadapters import __version__
from mmadapters.serving.answers import Json, explanation, model_info, prediction
from mmadapters.serving.batching import MicroBatcher
from mmadapters.serving.config import ServerConfig
from mmadapters.serving.form import FormReader, file_fields
from mmadapters.serving.gate import Gate, note, problem_response
from mmadapters.serving.media import MediaDecoder, TemporaryFiles
from mmadapters.serving.metrics import CONTENT_TYPE as METRICS_TYPE
from mmadapters.serving.metrics import ServerMetrics
from mmadapters.serving.models import ModelGroup, ModelRegistry, RowOutput, ServedModel
from mmadapters.serving.openapi import add_openapi, form_body
from mmadapters.serving.problems import RequestProblem, unprocessable
from mmadapters.serving.rows import Row
from mmadapters.serving.schemas import (
    ExplanationResponse,
    FeaturesRequest,
    Health,
    ModelsResponse,
    PredictionResponse,
)


class Service:
    """What the calls of one application share.

    Args:
        config: Of the server.
        registry: Its models.
    """

    def __init__(self, config: ServerConfig, registry: ModelRegistry) -> None:
        self.config = config
        self.registry = registry
        self.metrics = ServerMetrics()
        self.started = False
        self._batchers: dict[str, MicroBatcher[Row, RowOutput]] = {}
        self._decoder: MediaDecoder | None = None
        self._form: FormReader | None = None

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self.started and all(batcher.is_alive for batcher in self._batchers.values())

    @property
    def waiting_rows(self) -> int:
        """Rows in all queues."""
        return sum(batcher.waiting_rows for batcher in self._batchers.values())

    @property
    def form(self) -> FormReader:
        """What reads forms."""
        if self._form is None:
            raise _not_ready()
        return self._form

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take requests within the context; what was accepted is finished at its end."""
        files = TemporaryFiles(self.config.media.folder)
        try:
            self._decoder = MediaDecoder(self.config.media, self.metrics) if self.registry.reads_media else None
            self._form = FormReader(self.registry, self.config.limits, self._decoder, files)
            for group in self.registry.groups:
                batcher = self._new_batcher(group)
                batcher.start()
                self._batchers.update(dict.fromkeys(group.models, batcher))
            self.started = True
            yield
        finally:
            self.started = False
            for batcher in set(self._batchers.values()):
                await batcher.close()
            self._batchers, self._form = {}, None
            if self._decoder is not None:
                self._decoder.close()
            files.close()

    def read(self, given: FeaturesRequest) -> tuple[ServedModel, list[Row]]:
        """Return rows of vectors as a model takes them, and the model.

        Raises:
            RequestProblem: If there is no such model, or rows cannot be used.
        """
        _, model = self.registry.group(given.model)
        most = self.config.limits.max_rows
        if len(given.rows) > most:
            raise unprocessable(f"{len(given.rows):,} rows were given; the limit is {most:,} a call.")
        rows = []
        for place, entry in enumerate(given.rows):
            where = f"Row {place}: "
            row = model.reader.read(entry.text, entry.text_pair, entry.features, entry.table, where)
            model.reader.require_content(row, where)
            rows.append(row)
        return model, rows

    async def predict(self, model: ServedModel, rows: Sequence[Row]) -> Json:
        """Return the predictions of rows of one model."""
        outputs = await self._batcher(model).submit(rows)
        self.metrics.rows.labels(model.name).inc(len(rows))
        return {"model": model.name, "predictions": [prediction(model, output) for output in outputs]}

    async def explain(self, group: ModelGroup, model: ServedModel, row: Row) -> Json:
        """Return what a model looked at in a row."""
        passes = 3 + len(model.reader.modalities)
        found, output = await self._batcher(model).run_alone(lambda: group.explain(row), rows=passes)
        self.metrics.rows.labels(model.name).inc()
        return {"model": model.name, "prediction": prediction(model, output), **explanation(model, found)}

    def _batcher(self, model: ServedModel) -> MicroBatcher[Row, RowOutput]:
        if model.name not in self._batchers:
            raise _not_ready()
        return self._batchers[model.name]

    def _new_batcher(self, group: ModelGroup) -> MicroBatcher[Row, RowOutput]:
        retry_after = self.config.limits.retry_after_seconds
        return MicroBatcher(group.run, self.config.batching, self.metrics, retry_after, group.name)


def _not_ready() -> RequestProblem:
    return RequestProblem(503, "The server starts or ends, and takes no requests. Try again later.", reason="closing")


def create_app(
    config: ServerConfig,
    tell: Callable[[str], None] = lambda line: None,
    all_metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> FastAPI:
    """Load the models and return the application that serves them.

    Args:
        config: What is served and how.
        tell: Called with a line for a person.
        all_metrics: Returns what ``/metrics`` answers; the metrics of this application by default.

    Raises:
        ArtefactError: If a model cannot be read.
        ConfigurationError: If a setting cannot be used, or the token cannot be read.
    """
    token = config.token()
    service = Service(config, ModelRegistry(config, tell))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # The pages that show the document would load scripts from elsewhere.
    app = FastAPI(title="mmadapters", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    app.add_middleware(
        Gate,
        limits=config.limits,
        metrics=service.metrics,
        token=token,
        log_requests=config.log_requests,
    )
    _add_errors(app)
    _add_calls(app, service)
    _add_watching(app, service, all_metrics)
    add_openapi(app, has_token=token is not None)
    return app


def _add_calls(app: FastAPI, service: Service) -> None:
    registry = service.registry
    files: dict[str, str] = {}
    for model in registry.models:
        for name, text in file_fields(model).items():
            files.setdefault(name, text)
    body = form_body(files, registry.names)

    @app.post("/predict/features", response_model=PredictionResponse, summary="Predict rows of vectors")
    async def predict_features(given: FeaturesRequest, request: Request) -> Response:
        """Predict rows whose images, videos and sounds are vectors already. Rows share a batch with those of others."""
        model, rows = service.read(given)
        note(request.scope, model=model.name, rows=len(rows))
        return JSONResponse(await service.predict(model, rows))

    @app.post("/predict", response_model=PredictionResponse, summary="Predict one row with files", openapi_extra=body)
    async def predict(request: Request) -> Response:
        """Predict one row of a form: text, files of images, videos and sounds, table cells and vectors as JSON."""
        _, model, row = await service.form.read(request)
        note(request.scope, model=model.name, rows=1)
        return JSONResponse(await service.predict(model, [row]))

    @app.post("/explain", response_model=ExplanationResponse, summary="Explain one row", openapi_extra=body)
    async def explain(request: Request) -> Response:
        """Tell what a model looks at in one row, and what changes without each modality. It takes several passes."""
        group, model, row = await service.form.read(request)
        note(request.scope, model=model.name, rows=1)
        return JSONResponse(await service.explain(group, model, row))

    @app.get("/models", response_model=ModelsResponse, summary="What is served")
    async def models() -> Response:
        """Describe the models: labels, modalities and how they are given, sizes, licences, digests."""
        content = [model_info(model, registry) for model in registry.models]
        return JSONResponse({"models": content})


def _add_watching(app: FastAPI, service: Service, all_metrics: Callable[[], Awaitable[bytes]] | None) -> None:
    def health() -> Json:
        return {
            "live": True,
            "ready": service.is_ready,
            "models": len(service.registry.names),
            "queue_rows": service.waiting_rows,
            "version": __version__,
        }

    not_ready: Any = {503: {"model": Health, "description": "Live, and not ready."}}

    @app.get("/healthz", response_model=Health, responses=not_ready, summary="Whether the server is ready")
    async def ready() -> Response:
        """Answer 200 where requests are taken, and 503 while the server starts or shuts down."""
        return JSONResponse(health(), 200 if service.is_ready else 503)

    @app.get("/healthz/live", response_model=Health, summary="Whether the server is alive")
    async def live() -> Response:
        """Answer 200 as long as the process answers at all."""
        return JSONResponse(health())

    answers: Any = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."}}

    @app.get("/metrics", response_class=Response, responses=answers, summary="Metrics for Prometheus")
    async def metrics() -> Response:
        """Counts, latencies, batch sizes, queue length and rejections, in Prometheus' text format."""
        text = service.metrics.text() if all_metrics is None else await all_metrics()
        return Response(text, media_type=METRICS_TYPE)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestProblem)
    async def on_problem(request: Request, error: RequestProblem) -> Response:
        if error.reason:
            app.state.service.metrics.rejections.labels(error.reason).inc()
        return problem_response(request.scope, error.status, error.message, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        return problem_response(request.scope, error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError) -> Response:
        # What was given is not repeated: neither callers nor logs need the content of texts.
        parts = [{"where": list(part["loc"]), "message": part["msg"]} for part in error.errors()[:20]]
        malformed = any(part["type"] == "json_invalid" for part in error.errors())
        first = ".".join(map(str, parts[0]["where"]))[:200]
        detail = f"{first}: {parts[0]['message']}. /openapi.json says what requests look like."
        if malformed:
            detail = "The body is no valid JSON."
        return problem_response(request.scope, 400 if malformed else 422, detail, parts)
