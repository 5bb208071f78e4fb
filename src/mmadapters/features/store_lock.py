"""The right to write into a folder, which one writer at a time has."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from pathlib import Path

from mmadapters.errors import ConfigurationError, DataError
from mmadapters.features.store_format import LOCK

_held: set[int] = set()
"""File handles of the locks of this process."""


class FolderInUseError(DataError):
    """Another writer has the folder."""


class FolderLock:
    """An exclusive lock on a folder, held until it is released or the process ends, however it ends.

    Processes that are forked meanwhile do not hold it: workers may outlive a parent that was killed.

    Args:
        folder: Of the store; it must exist.

    Raises:
        FolderInUseError: If another lock on the folder is held, in this process or another.
        ConfigurationError: If the system has no such locks.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError as error:
            raise ConfigurationError(
                "Writing a feature store needs file locks as Linux and macOS have them. Write it there (or under WSL); "
                "it can be read anywhere."
            ) from error
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise FolderInUseError(
                    f"Another writer has the feature store '{folder}' open, in this process or another. Wait until it "
                    "is closed, or write into another folder and merge the two with `mmadapters store compact`."
                ) from error
            raise
        _held.add(handle)
        self._process = os.getpid()
        self._finalizer = weakref.finalize(self, _release, handle, self._process)

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock."""
        return self._finalizer.alive and self._process == os.getpid()

    def release(self) -> None:
        """Let others have it; releasing twice does nothing."""
        self._finalizer()


def _release(handle: int, process: int) -> None:
    if process == os.getpid():
        _held.discard(handle)
        os.close(handle)


def _forget() -> None:
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
