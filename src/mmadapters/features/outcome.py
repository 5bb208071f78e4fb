"""What reading one media file gave: values, or why there are none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

import numpy as np

from mmadapters.errors import ConfigurationError, DataError, MissingDependencyError

_Rest = ParamSpec("_Rest")
_LONGEST_ERROR = 300


class Status(str, Enum):
    """How reading a file ended.

    ``OK`` and ``DEGRADED`` come with values; ``DEGRADED`` says that a part of the file is damaged. ``MISSING`` means
    that there is nothing to read, such as the sound of a silent film. ``ERROR`` and ``TIMEOUT`` mean that there is
    something and that it cannot be read.
    """

    OK = "ok"
    DEGRADED = "degraded"
    MISSING = "missing"
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Decoded:
    """What decoding one file gave; picklable.

    Attributes:
        values: For an image uint8 (H, W, 3), for video uint8 (T, H, W, 3), for audio float32 (samples,), mono. None
            unless the status is ``OK`` or ``DEGRADED``.
        status: How it ended.
        error: One line for a person; empty where nothing is wrong. It names no absolute path of this machine.
        seconds: Time that it took.
    """

    values: np.ndarray | None
    status: Status
    error: str = ""
    seconds: float = 0.0


class MediaError(DataError):
    """A media file may not be opened, or its content cannot be used."""


def one_line(text: str, path: Path | None = None) -> str:
    """Return the first line of a message, of a bearable length.

    Args:
        text: The message.
        path: A file whose folder the message shall not name.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if path is not None:
        line = line.replace(str(path), path.name)
    return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 1]}…"


def ending_in_an_outcome(
    decode: Callable[Concatenate[Path, _Rest], Decoded],
) -> Callable[Concatenate[Path, _Rest], Decoded]:
    """Make a function that reads a file return an error instead of raising one, whatever the file is like.

    Exceptions that do not tell about the file are raised as ever: ``MemoryError``, whose cause may be what the process
    did before, ``ConfigurationError`` and ``MissingDependencyError``.

    Args:
        decode: Reads the file at its first argument.

    Returns:
        The function; it also measures the time.
    """

    @wraps(decode)
    def decode_to_an_outcome(path: Path, /, *args: _Rest.args, **kwargs: _Rest.kwargs) -> Decoded:
        started = time.perf_counter()
        path = Path(path)
        try:
            decoded = decode(path, *args, **kwargs)
        except (MemoryError, MissingDependencyError, ConfigurationError):
            raise
        except MediaError as error:
            decoded = Decoded(None, Status.ERROR, one_line(str(error), path))
        except OSError as error:
            decoded = Decoded(None, Status.ERROR, one_line(error.strerror or str(error), path))
        # The libraries raise whatever comes to hand on damaged files: struct.error, SyntaxError, IndexError, ….
        except Exception as error:
            decoded = Decoded(None, Status.ERROR, one_line(f"{type(error).__name__}: {error}", path))
        return replace(decoded, seconds=time.perf_counter() - started)

    return decode_to_an_outcome
