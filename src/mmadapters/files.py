"""Writing that leaves no half-written file or folder behind, whatever interrupts it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmadapters.errors import ConfigurationError


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, line ends as they are; see ``write_bytes_atomically``.

    Args:
        path: Where to.
        text: The content.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: str | Path, content: bytes) -> None:
    """Write a file: afterwards the path holds all of ``content``, or what it held before.

    Args:
        path: Where to; its folder is made where it does not exist.
        content: The content.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Write plain values as indented JSON, keys in their order; see ``write_text_atomically``.

    Args:
        path: Where to.
        value: What to write.

    Raises:
        ValueError: If a number is NaN or infinite, which JSON does not have.
    """
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def replace_folder(target: str | Path) -> Iterator[Path]:
    """Fill a new folder and put it in the place of ``target``, all or nothing.

    Yields a temporary folder beside ``target``. Where the block ends, it takes the place of ``target``, whose old
    content is then removed. Where anything raises, an interrupt included, ``target`` holds all of the old content or
    all of the new, and nothing else is left.

    Args:
        target: The folder to make or to replace. Of a symbolic link, the folder that it points to is replaced.

    Raises:
        ConfigurationError: If ``target`` is a file.
    """
    final = Path(os.path.realpath(target))
    if final.exists() and not final.is_dir():
        raise ConfigurationError(f"'{target}' is a file, and a folder is to be written there. Name another path.")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        os.chmod(temporary, 0o777 & ~_umask())
        yield temporary
        if final.exists():
            os.replace(final, old)
        os.replace(temporary, final)
        _remove(old)
    except BaseException:
        # What is on the disk decides: an interrupt may come right after a move that succeeded.
        if old.exists() and not final.exists():
            os.replace(old, final)
        _remove(temporary, old)
        raise


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
