"""Decoders that do what a hostile file might make one do; a module of its own, which worker processes load fast."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from mmadapters.features.outcome import Decoded


def kill_itself(path: Path) -> Decoded:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(path)


def never_end(path: Path) -> Decoded:
    while True:
        time.sleep(1.0)
