"""Replicas of the server on a Ray cluster: Ray Serve starts them, watches them and spreads the requests.

Every replica is the whole application of ``mmadapters serve``, with its limits, micro-batches and errors. Beside it
there is what only many need: they have to serve the same weights, and ``/metrics`` tells of all, whoever answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from mmadapters.artefact import find_artefact, read_artefact
from mmadapters.errors import ArtefactError, DataError, MissingDependencyError
from mmadapters.serving.app import Service, create_app
from mmadapters.serving.config import RAY_NOT_INSTALLED, ServerConfig
from mmadapters.serving.metrics import merged
from mmadapters.serving.models import adapters_digest
from mmadapters.serving.problems import RequestProblem
from mmadapters.serving.schemas import FeaturesRequest
from mmadapters.serving.server import write_json_lines

try:
    from ray import serve
except ImportError as error:
    raise MissingDependencyError(RAY_NOT_INSTALLED) from error

DEPLOYMENT = "mmadapters"
_METRICS_SECONDS = 5.0
_STARTS = 2


class Replica:
    """One server of several.

    Args:
        config: What is served and how.
        digests: SHA-256 of the weights that each model has to have.

    Raises:
        ArtefactError: If a model cannot be read, or is another one on this machine.
        ConfigurationError: If a setting cannot be used here.
    """

    def __init__(self, config: ServerConfig, digests: Mapping[str, str]) -> None:
        write_json_lines(config.log_requests)
        self._app = create_app(config, all_metrics=self._all_metrics)
        self._service = cast(Service, self._app.state.service)
        for model in self._service.registry.models:
            if model.about["digest"] != digests[model.name]:
                raise ArtefactError(
                    f"The model '{model.name}' in '{config.models[model.name].folder}' is another one on this machine "
                    "than where the application was built: their weights differ. Copy the folder to every machine."
                )

    def __serve_build_asgi_app__(self) -> Any:
        """Return what answers over HTTP; Ray Serve calls it."""
        return self._app

    def check_health(self) -> None:
        """Raise where this replica answers nothing any more, upon which Ray Serve starts another one.

        Raises:
            RuntimeError: If the thread of a model has ended.
        """
        if self._service.started and not self._service.is_ready:
            raise RuntimeError("a model's thread has ended")

    async def predict(self, rows: Sequence[Mapping[str, Any]], model: str | None = None) -> dict[str, Any]:
        """Predict rows of vectors for other parts of a Ray application, without HTTP.

        ::

            answer = await serve.get_app_handle("mmadapters").predict.remote([{"text": "A robot falls in love."}])

        Args:
            rows: As ``/predict/features`` takes them.
            model: Its name; the first of all by default.

        Returns:
            As ``/predict/features`` answers.

        Raises:
            DataError: If they cannot be used, or the queue is full.
        """
        try:
            given = FeaturesRequest.model_validate({"model": model, "rows": list(rows)})
            return await self._service.predict(*self._service.read(given))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise DataError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
        except RequestProblem as problem:
            raise DataError(problem.message) from None

    def metrics_text(self) -> tuple[str, str]:
        """Return the name of this replica, and its own metrics."""
        return serve.get_replica_context().replica_id.unique_id, self._service.metrics.text().decode()

    async def _all_metrics(self) -> bytes:
        context = serve.get_replica_context()
        everyone = serve.get_deployment_handle(context.deployment, context.app_name).broadcast("metrics_text")
        # One that starts or ends meanwhile has nothing to tell.
        told = await everyone.results_async(timeout_s=_METRICS_SECONDS, return_exceptions=True)
        return merged(dict(found for found in told if not isinstance(found, BaseException)), "replica")


def build(config: ServerConfig) -> serve.Application:
    """Return the application that a server's settings describe.

    Args:
        config: What is served and how. Folders have to be there on every node; so have the token and the backbones.

    Raises:
        ArtefactError: If a model cannot be read.
        HubError: If a model cannot be had from the Hub.
    """
    models, digests = {}, {}
    for name, served in config.models.items():
        found = find_artefact(served.folder)
        read_artefact(found.folder)
        digests[name] = adapters_digest(found.folder)
        # A replica works in another folder.
        is_here = Path(served.folder).is_dir()
        models[name] = replace(served, folder=str(Path(served.folder).absolute())) if is_here else served
    limits, wanted = config.limits, config.ray
    number: dict[str, Any] = {"num_replicas": wanted.replicas}
    if wanted.max_replicas is not None:
        number = {
            "autoscaling_config": {
                "min_replicas": wanted.replicas,
                "max_replicas": wanted.max_replicas,
                "target_ongoing_requests": config.batching.max_batch,
            }
        }
    deployment: Any = serve.deployment(
        serve.ingress()(Replica),
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": wanted.cpus, "num_gpus": wanted.gpus},
        # The replica turns away what is too much, and says so; Ray would let it wait.
        max_ongoing_requests=4 * limits.max_concurrent_requests,
        graceful_shutdown_timeout_s=limits.request_seconds + limits.body_seconds,
        graceful_shutdown_wait_loop_s=0.2,
        max_constructor_retry_count=_STARTS,
        logging_config={"encoding": "JSON", "enable_access_log": False},
        **number,
    )
    application: serve.Application = deployment.bind(replace(config, models=models), digests)
    return application
