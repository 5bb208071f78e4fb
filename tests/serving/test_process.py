"""A server as a process of its own: a signal ends it under load, with everything answered that it had accepted."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SECONDS = 300
BODY = json.dumps({"rows": [{"text": "the war of the cold river"}] * 4})


class Caller(threading.Thread):
    """Calls until it is refused, and notes what it was answered."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.statuses: list[int] = []
        self.broken: list[str] = []

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            self._call(connection)

    def _call(self, connection: http.client.HTTPConnection) -> None:
        while True:
            try:
                connection.request("POST", "/predict/features", BODY, {"Content-Type": "application/json"})
            except OSError:
                return
            try:
                answer = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionResetError):
                # Closed before the request was taken: the caller may safely try elsewhere.
                return
            try:
                content = json.loads(answer.read())
            except (http.client.HTTPException, OSError, ValueError) as error:
                self.broken.append(repr(error))
                return
            self.statuses.append(answer.status)
            if answer.status == 200 and len(content["predictions"]) != 4:
                self.broken.append(str(content))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_nothing(models: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "mmadapters", "serve", str(models / "genres"), "--port", "0"]
    command += ["--set", f"media.folder={tmp_path}", "--set", "batching.max_wait_ms=20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            port = listening_port(process.stderr, lines)
            reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
            reader.start()
            wait_until_ready(port)
            callers = [Caller(port) for _ in range(16)]
            for caller in callers:
                caller.start()
            while min(len(caller.statuses) for caller in callers) < 3:
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(SECONDS) == 0
            for thread in (*callers, reader):
                thread.join(SECONDS)
        finally:
            process.kill()
    assert [caller.broken for caller in callers] == [[]] * 16
    answered = [status for caller in callers for status in caller.statuses]
    assert set(answered) == {200}
    # What the server took, and what arrived.
    logged = [json.loads(line) for line in lines if '"/predict/features"' in line]
    assert len(logged) == len(answered)
    assert {entry["status"] for entry in logged} == {200}
    assert list(tmp_path.iterdir()) == []


def listening_port(stderr: IO[str], lines: list[str]) -> int:
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
