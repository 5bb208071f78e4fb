"""Checkpoints on the disk: whole or not there, with digests, so that damage is found and the one before is taken.

A checkpoint is a folder ``checkpoint-<step>`` with the Trainer's files and a manifest, which is written last and holds
a SHA-256 of each file. It is filled under another name and then renamed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mmadapters.errors import ConfigurationError
from mmadapters.files import write_json_atomically

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
FEWEST_KEPT = 2
"""One to fall back on where the newest is damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all as they were written.

    Attributes:
        folder: Where it is.
        step: After how many steps it was made.
        best_step: The step of the best checkpoint at that time, or None.
        stopped: Whether the training was at its end.
        seconds: How long the training had taken.
        settings: Those of the run.
    """

    folder: Path
    step: int
    best_step: int | None
    stopped: bool
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)


class DamagedCheckpoint(Exception):
    """A checkpoint's files are not those that were written; the message says what is wrong."""


def folder_of(checkpoints: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return checkpoints / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def staging_folder(checkpoints: Path, step: int) -> Path:
    """Return where a checkpoint is filled before it gets its name."""
    return checkpoints / f".{PREFIX_CHECKPOINT_DIR}-{step}.saving"


def publish(staging: Path, checkpoint: Checkpoint) -> None:
    """Give a filled folder its manifest and its name; what had the name is replaced.

    Args:
        staging: The folder with all other files.
        checkpoint: What it is.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "best_step": checkpoint.best_step,
        "stopped": checkpoint.stopped,
        "seconds": checkpoint.seconds,
        "settings": checkpoint.settings,
        "files": {path.name: _digest(path, flush=True) for path in sorted(staging.iterdir())},
    }
    write_json_atomically(staging / MANIFEST, {**content, "digest": _digest_of(content)})
    if checkpoint.folder.exists():
        _remove(checkpoint.folder)
    os.replace(staging, checkpoint.folder)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's manifest and compare all its files with it.

    Args:
        folder: A folder ``checkpoint-<step>``.

    Raises:
        DamagedCheckpoint: If a file is missing or has another content, or the manifest cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digest = manifest.pop("digest")
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedCheckpoint(f"its {MANIFEST} cannot be read") from error
    if digest != _digest_of(manifest):
        raise DamagedCheckpoint(f"its {MANIFEST} is not as it was written")
    if manifest["format_version"] > FORMAT_VERSION:
        raise DamagedCheckpoint(f"it has format {manifest['format_version']}, written by a newer mmadapters")
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise DamagedCheckpoint(f"'{name}' is missing")
        if _digest(folder / name) != expected:
            raise DamagedCheckpoint(f"'{name}' is not as it was written")
    return Checkpoint(
        folder,
        manifest["step"],
        manifest["best_step"],
        manifest["stopped"],
        manifest["seconds"],
        manifest["settings"],
    )


def newest_usable(checkpoints: Path, report: Callable[[str], None] | None = None) -> Checkpoint | None:
    """Return the newest checkpoint that is not damaged and whose best checkpoint is not damaged either.

    Args:
        checkpoints: The folder of the checkpoints.
        report: Called with a line for each that is passed over; it is also logged as a warning.

    Returns:
        The checkpoint; None where there is none after the first step.
    """
    for folder in reversed(_folders(checkpoints)):
        try:
            checkpoint = read_checkpoint(folder)
            if checkpoint.best_step not in (None, checkpoint.step):
                best = folder_of(checkpoints, int(str(checkpoint.best_step)))
                try:
                    read_checkpoint(best)
                except DamagedCheckpoint as error:
                    raise DamagedCheckpoint(f"the best one up to it, '{best.name}', is damaged: {error}") from error
        except DamagedCheckpoint as error:
            message = f"Checkpoint '{folder}' is damaged and passed over: {error}."
            logger.warning(message)
            if report is not None:
                report(message)
        else:
            # Checkpoint 0 is made before the first step; starting anew makes it again.
            return checkpoint if checkpoint.step else None
    return None


def check_nothing_unfinished(checkpoints: Path) -> None:
    """Refuse to start a run where the checkpoints of an unfinished one are.

    Args:
        checkpoints: The folder of the checkpoints.

    Raises:
        ConfigurationError: If there are any.
    """
    ours = [folder for folder in _folders(checkpoints) if (folder / MANIFEST).is_file()]
    if ours and not _stopped(ours[-1]) and ours[-1].name != f"{PREFIX_CHECKPOINT_DIR}-0":
        raise ConfigurationError(
            f"'{checkpoints}' has the checkpoints of a run that did not end; the newest is '{ours[-1].name}'. Go on "
            "with it by resume=True (mmadapters train --resume), name another output_dir, or remove the folder."
        )


def remove_all(checkpoints: Path, newer_than: int = -1) -> None:
    """Remove the checkpoints after a step, and what an interrupted write left.

    Args:
        checkpoints: The folder of the checkpoints.
        newer_than: The step.
    """
    for folder in _folders(checkpoints):
        if (folder / MANIFEST).is_file() and _step(folder) > newer_than:
            _remove(folder)
    for left in (*checkpoints.glob(f".{PREFIX_CHECKPOINT_DIR}-*.saving"), *checkpoints.glob(".*.removing")):
        shutil.rmtree(left, ignore_errors=True)


def remove_old(checkpoints: Path, limit: int | None) -> None:
    """Remove the oldest checkpoints, but none that is the best one of a kept one.

    Args:
        checkpoints: The folder of the checkpoints.
        limit: How many to keep, at least two; None keeps all.
    """
    if limit is None:
        return
    ours = [folder for folder in _folders(checkpoints) if (folder / MANIFEST).is_file()]
    kept = ours[-max(limit, FEWEST_KEPT) :]
    needed = {_step(folder) for folder in kept} | {_manifest(folder).get("best_step") for folder in kept}
    for folder in ours:
        if _step(folder) not in needed:
            _remove(folder)


def _folders(checkpoints: Path) -> list[Path]:
    """Return the checkpoints' folders, the oldest first."""
    found = [path for path in checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[1].isdecimal()]
    return sorted(found, key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def _stopped(folder: Path) -> bool:
    return bool(_manifest(folder).get("stopped"))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _remove(folder: Path) -> None:
    """Remove a folder, which at no time is there in part under its name."""
    away = folder.with_name(f".{folder.name}.removing")
    shutil.rmtree(away, ignore_errors=True)
    os.replace(folder, away)
    shutil.rmtree(away, ignore_errors=True)


def _digest(path: Path, flush: bool = False) -> str:
    with path.open("rb") as file:
        if flush:
            os.fsync(file.fileno())
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def _digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
