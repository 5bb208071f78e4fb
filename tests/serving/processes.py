"""Servers that are processes, and callers that come until they are refused."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

SECONDS = 300
BODY = json.dumps({"rows": [{"text": "the war of the cold river"}] * 4})
JSON = {"Content-Type": "application/json"}


class Caller(threading.Thread):
    """Calls until it is refused, and notes what it was answered.

    Args:
        port: Of the server.
        headers: Of each call.
        refusals: The statuses of a server that takes no more requests.
    """

    def __init__(self, port: int, headers: Mapping[str, str] = JSON, refusals: Iterable[int] = ()) -> None:
        super().__init__()
        self.port = port
        self.headers = dict(headers)
        self.refusals = frozenset(refusals)
        self.statuses: list[int] = []
        self.broken: list[str] = []

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            while self._call(connection):
                pass

    def _call(self, connection: http.client.HTTPConnection) -> bool:
        try:
            connection.request("POST", "/predict/features", BODY, self.headers)
        except OSError:
            return False
        try:
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            # Closed before the request was taken: the caller may safely try elsewhere.
            return False
        try:
            content: Any = answer.read()
            if answer.status in self.refusals:
                return False
            content = json.loads(content)
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.broken.append(f"{answer.status}: {error!r}")
            return False
        self.statuses.append(answer.status)
        if answer.status == 200 and len(content["predictions"]) != 4:
            self.broken.append(str(content))
        return True


def listening_port(stderr: Iterable[str], lines: list[str]) -> int:
    """The port that a server's output names; what it writes before is added to the lines."""
    for line in stderr:
        lines.append(line)
        if found := re.search(r"listening at http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("".join(lines))


def wait_until_ready(port: int) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
            try:
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.1)
    raise AssertionError("the server is not ready")
