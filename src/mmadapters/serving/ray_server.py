"""``mmadapters serve --engine ray``: the application on a Ray cluster for as long as this process lives."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import Any

from mmadapters.errors import ConfigurationError, MissingDependencyError
from mmadapters.features.ray_engine import RayOptions, connected
from mmadapters.features.worker_process import WorkerError
from mmadapters.serving.config import RAY_NOT_INSTALLED, ServerConfig

APPLICATION = "mmadapters"
_ENVIRONMENT = {
    # Repeated lines of the log are lines of different requests.
    "RAY_DEDUP_LOGS": "0",
    # Ray's workers give way to every other process of their machine, which is not what a server is for.
    "RAY_worker_niceness": "0",
}


def serve_on_ray(
    config: ServerConfig, address: str | None = None, tell: Callable[[str], None] = lambda line: None
) -> None:
    """Serve models on a Ray cluster until SIGTERM or SIGINT; everything that was accepted until then is answered.

    Args:
        config: What is served and how. Every node listens at ``host`` and ``port``.
        address: Of a running cluster, ``host:port`` or ``auto``; None for the environment's ``RAY_ADDRESS``, and
            without that for a cluster of this machine alone.
        tell: Called with a line for a person.

    Raises:
        ArtefactError: If a model cannot be read.
        ConfigurationError: If a setting cannot be used, the address is not free, or the cluster cannot be reached or
            serves already.
        MissingDependencyError: If Ray Serve is not installed.
        WorkerError: If the replicas do not start.
    """
    if find_spec("ray") is None:
        raise MissingDependencyError(RAY_NOT_INSTALLED)
    port = _free_port(config.host, config.port)
    config.token()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    wanted = config.ray
    is_shared = bool(address or os.environ.get("RAY_ADDRESS")) or _is_connected()
    options = RayOptions(address, wanted.max_replicas or wanted.replicas, wanted.cpus, wanted.gpus)
    with connected(options, show_logs=config.log_requests):
        from ray import serve

        from mmadapters.serving.replicas import build

        application = build(config)
        if serve.status().proxies:
            raise ConfigurationError(
                "Ray Serve runs on this cluster already, and has one address for all that it serves. Add these models "
                "with `serve deploy` (docs/serving.md), or end it with `serve shutdown`."
            )
        with _until_signal() as ended:
            try:
                quiet = {"encoding": "JSON", "log_level": "WARNING", "enable_access_log": False}
                serve.start(
                    proxy_location="EveryNode",
                    http_options={"host": config.host, "port": port, "keep_alive_timeout_s": 30},
                    logging_config=quiet,
                )
                _start(serve, application, wanted.start_seconds, ended)
                if not ended.is_set():
                    shown = f"[{config.host}]" if ":" in config.host else config.host
                    tell(f"{wanted.replicas} replicas, listening at http://{shown}:{port}")
                    ended.wait()
                serve.delete(APPLICATION)
            finally:
                # A cluster that ends with this process needs no further farewell.
                if is_shared:
                    serve.shutdown()


def _start(serve: Any, application: Any, seconds: float, ended: threading.Event) -> None:
    """Start the replicas and wait until all of them answer, or a signal comes.

    Raises:
        WorkerError: If they do not, in time or at all.
    """
    problems: list[BaseException] = []

    def start() -> None:
        try:
            serve.run(application, name=APPLICATION, route_prefix="/")
        except BaseException as error:  # Raised below, in the thread that waits.
            problems.append(error)

    starting = threading.Thread(target=start, daemon=True)
    starting.start()
    waited = 0.0
    while starting.is_alive() and waited < seconds and not ended.is_set():
        starting.join(0.2)
        waited += 0.2
    if ended.is_set():
        return
    if starting.is_alive():
        raise WorkerError(_why_not(serve, f"The replicas did not start within {seconds:g} s"))
    if problems:
        raise WorkerError(_why_not(serve, "The replicas cannot be started", str(problems[0]))) from problems[0]


def _why_not(serve: Any, what: str, reason: str = "Ray Serve gives no reason") -> str:
    """Return what happened, with what Ray Serve knows of why."""
    found = serve.status().applications.get(APPLICATION)
    parts = [reason] if found is None else [reason, found.message, *(d.message for d in found.deployments.values())]
    lines = [line.strip() for part in parts for line in part.splitlines()]
    named = [line for line in lines if "Error: " in line]
    told = (named or [line for line in lines if line] or [reason])[-1]
    return (
        f"{what}: {told.rstrip('.')}. Every node needs mmadapters, the models' folders and backbones, and the CPUs and "
        "GPUs that 'ray' names."
    )


def _is_connected() -> bool:
    loaded = sys.modules.get("ray")
    return loaded is not None and bool(loaded.is_initialized())


@contextmanager
def _until_signal() -> Iterator[threading.Event]:
    """Yield what SIGTERM and SIGINT set."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port(host: str, port: int) -> int:
    """Return a port that is free here, the given one or any for 0.

    Raises:
        ConfigurationError: If the address cannot be used.
    """
    from mmadapters.serving.server import listen

    listener: socket.socket = listen(host, port)
    with listener:
        return int(listener.getsockname()[1])
