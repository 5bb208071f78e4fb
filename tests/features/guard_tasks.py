"""What the tests of the worker pool let worker processes do; they import this module afresh."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmadapters.errors import MissingDependencyError
from mmadapters.features.outcome import Decoded, MediaError, Status


def square(number: float) -> Decoded:
    return Decoded(np.array([number * number]), Status.OK)


def give_back(values: np.ndarray) -> Decoded:
    return Decoded(values, Status.DEGRADED, "a remark")


def process_id(argument: object) -> Decoded:
    return Decoded(np.array(os.getpid()), Status.OK)


def wait_for_ever(marker: Path | None) -> Decoded:
    if marker is not None:
        marker.write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def spin_without_the_gil(argument: object) -> Decoded:
    """Never comes back to Python, as a decoder that hangs."""
    ctypes.CDLL(None).pause()
    raise AssertionError


def crash(argument: object) -> Decoded:
    os.kill(os.getpid(), signal.SIGSEGV)
    return square(0)


def leave(code: int) -> Decoded:
    os._exit(code)


def take_memory(mebibytes: int) -> Decoded:
    return Decoded(np.ones(1, np.uint8), Status.OK) if len(bytearray(mebibytes << 20)) else square(0)


_KEPT: list[bytearray] = []


def keep_memory(mebibytes: int) -> Decoded:
    """Take memory and never give it back."""
    _KEPT.append(bytearray(mebibytes << 20))
    return process_id(None)


def fail(text: str) -> Decoded:
    raise ValueError(text)


def refuse(text: str) -> Decoded:
    raise MediaError(text)


def exit_python(argument: object) -> Decoded:
    raise SystemExit(3)


def chatter(number: float) -> Decoded:
    """Write to the standard streams, as libraries do on broken files, and read from them."""
    os.write(1, b"\x00" * 100_000)
    os.write(2, b"warning\n")
    sys.stdout.write(f"more {os.read(0, 10)!r}\n")
    sys.stdout.flush()
    return square(number)


def answer_nonsense(frame: bytes) -> Decoded:
    """Write to the pipe of the protocol, as a process that was taken over might."""
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, frame)
        except OSError:
            continue
    return wait_for_ever(None)


def need_a_package(argument: object) -> Decoded:
    raise MissingDependencyError("A package is not installed: pip install it")


def return_a_number(argument: object) -> float:
    return 1.0


def return_objects(argument: object) -> Decoded:
    return Decoded(np.array([{}], dtype=object), Status.OK)


@dataclass(frozen=True)
class Multiply:
    """A callable with settings."""

    factor: float

    def __call__(self, number: float) -> Decoded:
        return Decoded(np.array([self.factor * number]), Status.OK)


class BreaksWhenLoaded:
    """Can be pickled and not be loaded again."""

    def __reduce__(self) -> tuple[object, ...]:
        return (int, ("no number",))

    def __call__(self, argument: object) -> Decoded:
        return square(0)
