"""What a server's YAML may say."""

from __future__ import annotations

import ipaddress
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmadapters.errors import ConfigurationError

SHORTEST_TOKEN = 16
"""Characters of a bearer token."""
RAY_NOT_INSTALLED = (
    'Serving on several machines needs Ray Serve, which is not installed: pip install "mmadapters[ray-serve]"'
)


def _field(help_text: str, **kwargs: Any) -> Any:
    return field(metadata={"help": help_text}, **kwargs)


@dataclass(frozen=True)
class ServedFolder:
    """One model that is served.

    Attributes:
        folder: Of the saved model; or its name on the Hub, ``user/name`` or ``user/name@revision``.
        backbone: Where its backbone is on this machine, if not under its saved name.
        license: What is told of the model's licence; what the model itself says of it where absent.
    """

    folder: str = _field("folder of the saved model, or user/name[@revision] on the Hub")
    backbone: str | None = _field("where its backbone is, if not under its saved name", default=None)
    license: str | None = _field("what is told of its licence; the model's own where absent", default=None)


@dataclass(frozen=True)
class BatchingConfig:
    """How rows of several requests share a pass of the model.

    Attributes:
        max_batch: Most rows of a batch; 1 for one row at a time.
        max_wait_ms: Longest time that a row waits for others, in milliseconds. Nothing waits for it that had to wait
            for the model anyway.
        queue_rows: Most rows that wait for a model, per backbone; one more is answered with 503.
    """

    max_batch: int = _field("most rows of a batch", default=32)
    max_wait_ms: float = _field("longest time that a row waits for others, in milliseconds", default=2.0)
    queue_rows: int = _field("most rows that wait; one more is answered with 503", default=512)

    def __post_init__(self) -> None:
        _check_whole(self, "max_batch", "queue_rows")
        _check_positive(self, "max_wait_ms", or_zero=True)


@dataclass(frozen=True)
class RequestLimits:
    """What a request may be at most.

    Attributes:
        max_request_bytes: Of a body; a larger one is answered with 413 before it is read.
        max_text_chars: Of a text.
        max_rows: Of a call of ``/predict/features``.
        max_steps: Of a sequence of features.
        max_files: Of a call of ``/predict`` or ``/explain``.
        max_field_bytes: Of a field of a form that is no file.
        request_seconds: Time for all that is done for a request; then it is answered with 504.
        body_seconds: Time for a request's body to arrive; then it is answered with 408.
        max_concurrent_requests: Requests at work; one more is answered with 503.
        retry_after_seconds: When a caller who was answered with 503 is told to come back.
    """

    max_request_bytes: int = _field("of a body; a larger one is answered with 413", default=64 << 20)
    max_text_chars: int = _field("characters of a text", default=100_000)
    max_rows: int = _field("rows of a call of /predict/features", default=64)
    max_steps: int = _field("steps of a sequence of features", default=4096)
    max_files: int = _field("files of a call", default=16)
    max_field_bytes: int = _field("bytes of a form's field that is no file", default=4 << 20)
    request_seconds: float = _field("time for a request; then it is answered with 504", default=60.0)
    body_seconds: float = _field("time for a body to arrive; then 408", default=30.0)
    max_concurrent_requests: int = _field("requests at work; one more is answered with 503", default=256)
    retry_after_seconds: int = _field("when a caller is told to come back after a 503", default=1)

    def __post_init__(self) -> None:
        times = ("request_seconds", "body_seconds")
        _check_whole(self, *(f.name for f in fields(self) if f.name not in times))
        _check_positive(self, *times)


@dataclass(frozen=True)
class MediaConfig:
    """How files of images, video and sound are read.

    Attributes:
        workers: Processes that decode.
        seconds_per_file: Time after which a decoder is killed.
        worker_memory_mb: Memory of a decoder.
        max_pixels: Width times height of an image or of a frame.
        max_seconds: Duration of video or sound.
        folder: Where the files of requests are kept while they are read; the system's temporary folder where absent.
            The server makes a folder of its own in it, and removes it.
    """

    workers: int = _field("processes that decode", default=1)
    seconds_per_file: float = _field("time after which a decoder is killed", default=20.0)
    worker_memory_mb: int = _field("memory of a decoder", default=2048)
    max_pixels: int = _field("width times height of an image or of a frame", default=64_000_000)
    max_seconds: float = _field("duration of video or sound", default=1800.0)
    folder: str | None = _field("where files are kept while they are read", default=None)

    def __post_init__(self) -> None:
        _check_whole(self, "workers", "worker_memory_mb", "max_pixels")
        _check_positive(self, "seconds_per_file", "max_seconds")


@dataclass(frozen=True)
class RayServeConfig:
    """Replicas of the server on a Ray cluster; of use with ``--engine ray`` only.

    Attributes:
        replicas: Servers that share the requests, each with the models in memory.
        max_replicas: Most of them: Ray adds replicas while many requests are at work, and takes them away again. Always
            as many as ``replicas`` where absent.
        cpus: Of a replica; it uses as many threads.
        gpus: Of a replica; a share such as 0.5 lets two replicas have one.
        start_seconds: Time for the replicas to start.
    """

    replicas: int = _field("servers that share the requests, with --engine ray", default=1)
    max_replicas: int | None = _field("most of them, added while many requests are at work", default=None)
    cpus: int = _field("CPUs of a replica, and its threads", default=1)
    gpus: float = _field("GPUs of a replica; 0.5 lets two share one", default=0.0)
    start_seconds: float = _field("time for the replicas to start", default=600.0)

    def __post_init__(self) -> None:
        _check_whole(self, "replicas", "cpus")
        _check_positive(self, "gpus", or_zero=True)
        _check_positive(self, "start_seconds")
        if self.gpus > 1 and not float(self.gpus).is_integer():
            raise ConfigurationError(f"gpus is {self.gpus!r}; give a whole number, or a share below 1.")
        if self.max_replicas is not None:
            _check_whole(self, "max_replicas")
            if self.max_replicas < self.replicas:
                raise ConfigurationError(
                    f"max_replicas is {self.max_replicas}, below replicas, which is {self.replicas}. Raise it, or "
                    "leave it out."
                )


@dataclass(frozen=True)
class ServerConfig:
    """One server.

    Attributes:
        models: Saved models by the names that requests choose them by; the first is the default. Those in the same
            backbone share it, and a batch.
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        device: Where the models run, such as ``cuda:0``; CUDA where there is any, else the CPU.
        token_env: Environment variable that holds the bearer token.
        token_file: File that holds it.
        allow_without_token: Whether everybody who reaches an address beyond loopback may call it without a token.
        batching: How rows share a pass of the model.
        limits: What a request may be at most.
        media: How files are read.
        ray: Replicas on a Ray cluster.
        log_requests: Whether a line is written for each request.

    Raises:
        ConfigurationError: If settings cannot be used or do not fit each other.
    """

    models: dict[str, ServedFolder] = _field("saved models by name; the first is the default")
    host: str = _field("address to listen at", default="127.0.0.1")
    port: int = _field("port to listen at; 0 for a free one", default=8000)
    device: str | None = _field("where the models run; CUDA where there is any", default=None)
    token_env: str | None = _field("environment variable that holds the bearer token", default=None)
    token_file: str | None = _field("file that holds it", default=None)
    allow_without_token: bool = _field("whether an address beyond loopback needs no token", default=False)
    batching: BatchingConfig = _field("how rows share a pass of the model", default_factory=BatchingConfig)
    limits: RequestLimits = _field("what a request may be at most", default_factory=RequestLimits)
    media: MediaConfig = _field("how files are read", default_factory=MediaConfig)
    ray: RayServeConfig = _field("replicas on a Ray cluster", default_factory=RayServeConfig)
    log_requests: bool = _field("whether a line is written for each request", default=True)

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigurationError("models is empty; name at least one saved model.")
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port is {self.port}; give a number from 0 to 65535.")
        if self.token_env and self.token_file:
            raise ConfigurationError("token_env and token_file are both given; leave one out.")
        if not (is_loopback(self.host) or self.token_env or self.token_file or self.allow_without_token):
            raise ConfigurationError(
                f"host is '{self.host}', which others reach, and there is no token. Set token_env or token_file, or "
                "allow_without_token: true, if everybody who reaches this address may call the models."
            )

    def token(self) -> str | None:
        """Return the bearer token that calls need, or None where they need none.

        Raises:
            ConfigurationError: If it cannot be read, or is no token that protects.
        """
        if self.token_env:
            where, text = f"the environment variable '{self.token_env}'", os.environ.get(self.token_env, "")
        elif self.token_file:
            where = f"the file '{self.token_file}'"
            try:
                text = Path(self.token_file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise ConfigurationError(f"The token cannot be read from {where}: {reason}.") from None
        else:
            return None
        token = text.strip()
        if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
            raise ConfigurationError(
                f"{where[0].upper()}{where[1:]} holds no token that can be used. Give at least {SHORTEST_TOKEN} "
                "characters of ASCII without spaces, for example of `openssl rand -hex 32`."
            )
        return token


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address.

    Args:
        host: The address; of names only ``localhost`` counts.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_whole(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(f"{name} is {value!r}; give a whole number of at least 1.")


def _check_positive(settings: Any, *names: str, or_zero: bool = False) -> None:
    for name in names:
        value = getattr(settings, name)
        if not (0 < value < math.inf or (or_zero and value == 0)):
            raise ConfigurationError(f"{name} is {value!r}; give a number {'of at least' if or_zero else 'above'} 0.")
