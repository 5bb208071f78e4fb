"""The files of an artefact: which there are, how large they may be, and how they are read.

A folder may have come from anywhere. So only these files are read, only where they are regular files inside of it, and
only up to a size; JSON is read strictly; pickles are never read.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmadapters.artefact.values import WHOLE, UnfitValue
from mmadapters.errors import ArtefactError, listed

ADAPTER_CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PIPELINE_FILE = "pipeline.json"
CARD_FILE = "README.md"
FILES = (ADAPTER_CONFIG_FILE, WEIGHTS_FILE, PIPELINE_FILE)
"""What an artefact needs."""
LARGEST = {
    ADAPTER_CONFIG_FILE: 8_000_000,
    WEIGHTS_FILE: 4_000_000_000,
    PIPELINE_FILE: 16_000_000,
    CARD_FILE: 4_000_000,
}
"""The files that are shared and read, with the most bytes that each may have. Nothing else of a folder is ever read."""
PICKLE_SUFFIXES = (".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npz", ".npy", ".dill", ".h5")
"""Of files that can run code when they are read, or are taken for weights."""

_SNAPSHOTS, _BLOBS = "snapshots", "blobs"


def check_folder(folder: Path) -> None:
    """Check that a folder has what an artefact needs, in files that may be read.

    Args:
        folder: The folder.

    Raises:
        ArtefactError: If a file is absent, too large, no regular file, or a link that leaves the folder.
    """
    absent = [name for name in FILES if not os.path.lexists(folder / name)]
    if absent and any(folder.glob("model*.onnx")):
        raise ArtefactError(
            f"'{folder}' is an exported model, which is for prediction alone: `mmadapters predict` and `evaluate` and "
            "mmadapters.export.load_exported take it. Name the artefact that it was made from."
        )
    if WEIGHTS_FILE in absent and folder.is_dir():
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLE_SUFFIXES)
        if pickles:
            raise ArtefactError(
                f"'{folder}' has no {WEIGHTS_FILE} but {listed(pickles[:5])}, which may be a pickle. A pickle can run "
                f"any code when it is read, so none ever is. Ask for the weights as {WEIGHTS_FILE}."
            )
    if absent:
        raise ArtefactError(
            f"'{folder}' is no artefact: it has no {', '.join(absent)}. Name a folder that `mmadapters train` or "
            "save_artefact wrote, or a repository on the Hub as user/name."
        )
    for name in FILES:
        _check_file(folder, name)


def read_file(folder: Path, name: str) -> bytes:
    """Return the content of a file of an artefact.

    Args:
        folder: The artefact's.
        name: One of ``LARGEST``.

    Raises:
        ArtefactError: If it cannot be read, is too large, no regular file, or a link that leaves the folder.
    """
    path = _check_file(folder, name)
    try:
        # What became a named pipe since is not waited for.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            # A buffer of the size that is asked for is made at once, so not of the largest.
            content = file.read(min(os.fstat(handle).st_size, LARGEST[name]) + 1)
    except OSError as error:
        raise ArtefactError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    if len(content) > LARGEST[name]:
        raise ArtefactError(_too_large(path, name, f"more than {LARGEST[name]:,}"))
    return content


def file_size(folder: Path, name: str) -> int:
    """Return the number of bytes of a file of an artefact.

    Args:
        folder: The artefact's.
        name: One of ``LARGEST``.
    """
    return _check_file(folder, name).stat().st_size


def read_json(folder: Path, name: str, content: bytes | None = None) -> dict[str, Any]:
    """Return the object that a JSON file of an artefact holds.

    Args:
        folder: The artefact's.
        name: One of ``LARGEST``.
        content: What is in the file, where it has been read.

    Raises:
        ArtefactError: If it is no JSON object, names a key twice, or has a number that is not finite.
    """
    path = folder / name
    content = read_file(folder, name) if content is None else content
    try:
        value = strict_json(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ArtefactError(f"'{path}' cannot be read: {reason}. The artefact is damaged.") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"'{path}' cannot be read: it holds a {type(value).__name__}, accepted is a JSON object.")
    return value


def strict_json(content: bytes) -> Any:
    """Return what JSON text says; what JSON does not have is refused, and a key that is given twice.

    Args:
        content: The text, in UTF-8.

    Raises:
        ValueError: If it is something else.
        RecursionError: If it is nested too deeply.
    """
    return json.loads(
        content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refused_constant, parse_float=_finite
    )


def checked(path: Path, check: Callable[[Any, str], None], value: Any) -> None:
    """Check values of a file by a table.

    Args:
        path: The file, for messages.
        check: The table.
        value: What the file holds.

    Raises:
        ArtefactError: If a value does not fit; the message names file, place, value and what is accepted.
    """
    try:
        check(value, WHOLE)
    except UnfitValue as error:
        raise ArtefactError(
            f"'{path}' cannot be used: {error} The file is damaged, or was not written by mmadapters."
        ) from error


def _check_file(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        found = path.stat()
        resolved, inside = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtefactError(f"'{path}' cannot be read: {error}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise ArtefactError(f"'{path}' is no regular file, and nothing else is read.")
    if not _belongs_to(resolved, inside):
        raise ArtefactError(
            f"'{path}' is a link to '{resolved}', outside of the artefact's folder, where nothing is read. Put the "
            "file itself into the folder."
        )
    if found.st_size > LARGEST[name]:
        raise ArtefactError(_too_large(path, name, f"{found.st_size:,}"))
    return resolved


def _belongs_to(file: Path, folder: Path) -> bool:
    """Tell whether a file is in a folder, or in the store of the Hub's cache that the folder is a snapshot of."""
    if file.parent == folder:
        return True
    return folder.parent.name == _SNAPSHOTS and file.parent == folder.parent.parent / _BLOBS


def _too_large(path: Path, name: str, size: str) -> str:
    return f"'{path}' has {size} bytes, and at most {LARGEST[name]:,} are read of such a file."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, entry in pairs:
        if name in value:
            raise ValueError(f"the key {name[:100]!r} is given twice")
        value[name] = entry
    return value


def _refused_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value
