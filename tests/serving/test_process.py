"""A server as a process of its own: a signal ends it under load, with everything answered that it had accepted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import SECONDS, Caller, listening_port, wait_until_ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


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
