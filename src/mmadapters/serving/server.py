"""The process around the application: it listens, logs lines of JSON, and ends when all it accepted is answered."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from types import FrameType

import uvicorn

from mmadapters.errors import ConfigurationError
from mmadapters.serving.app import create_app
from mmadapters.serving.config import ServerConfig
from mmadapters.serving.gate import access_log

_LOGGERS = ("uvicorn", "uvicorn.error", "mmadapters")


def serve(config: ServerConfig, tell: Callable[[str], None] = lambda line: None) -> None:
    """Serve models until SIGTERM or SIGINT; everything that was accepted until then is answered.

    Args:
        config: What is served and how.
        tell: Called with a line for a person.

    Raises:
        ArtefactError: If a model cannot be read.
        ConfigurationError: If a setting cannot be used, or the address is not free.
    """
    # Before the models are loaded, which takes a while.
    listener = listen(config.host, config.port)
    try:
        app = create_app(config, tell)
        write_json_lines(config.log_requests)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                ws="none",
                timeout_keep_alive=30,
            )
        )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        tell(f"listening at http://{shown}:{port}")
        with _ending_quietly():
            server.run(sockets=[listener])
    finally:
        listener.close()


def write_json_lines(log_requests: bool = True) -> None:
    """Write the server's logs to standard error, one JSON object a line.

    Args:
        log_requests: Whether the lines of single requests are among them.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name != "mmadapters" else logging.WARNING)
    # Lines of requests are JSON already.
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(logging.Formatter("%(message)s"))
    access_log.handlers, access_log.propagate = [plain], False
    access_log.setLevel(logging.INFO if log_requests else logging.CRITICAL)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound.

    Raises:
        ConfigurationError: If the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"The server cannot listen at {host}, port {port}: {error.strerror or error}. Set host and port to an "
            "address of this machine that is free."
        ) from error
    return listener


@contextlib.contextmanager
def _ending_quietly() -> Iterator[None]:
    """Let a signal that ended the server in order not end the process by itself, so that its status is 0.

    uvicorn raises the signal again once it has stopped.
    """

    def ignore(number: int, frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
