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


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file: afterwards the path holds all of ``text``, or what it held before.

    Args:
        path: Where to; its folder is made where it does not exist.
        text: The content.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
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
    content is then removed. Where the block raises, an interrupt included, it is removed and ``target`` stays as
    it was.

    Args:
        target: The folder to make or to replace.
    """
    final = Path(target)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    os.chmod(temporary, 0o777 & ~_umask())
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        yield temporary
        if final.exists():
            os.replace(final, old)
        try:
            os.replace(temporary, final)
        except BaseException:
            if old.exists():
                os.replace(old, final)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
