"""Names and paths in an artefact: of backbones and feature stores.

Where somebody trains with folders of their own machine, ``pipeline.json`` holds their full paths. They are followed
where the artefact is a folder of this machine, and never where it came from the Hub. Tricks are refused everywhere.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from mmadapters.artefact.values import Check, UnfitValue, fail, text
from mmadapters.backbones import PACKAGED_BACKBONES
from mmadapters.hub.names import is_repository_id

_LONGEST_PATH = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TIMM = re.compile(r"timm:[A-Za-z0-9._-]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def is_absolute(path: str) -> bool:
    """Tell whether a path is a full one, of this system or another."""
    return PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).drive or PureWindowsPath(path).root)


def backbone_name(local_paths: bool) -> Check:
    """Return a check for the name of a backbone.

    Args:
        local_paths: Whether full paths of folders are accepted.
    """

    def check(value: Any, where: str) -> None:
        text(_LONGEST_PATH)(value, where)
        if value in PACKAGED_BACKBONES or is_repository_id(value):
            return
        if not is_absolute(value):
            fail(where, value, "an alias, the name of a model on the Hub, or the full path of a folder")
        _check_path(value, where, local_paths, "Pass backbone=… (--backbone) with where the backbone is here")

    return check


def encoder_name(local_paths: bool) -> Check:
    """Return a check for the name of an encoder of raw media.

    Args:
        local_paths: Whether folders of this machine are accepted, which are named as the model's author did.
    """

    def check(value: Any, where: str) -> None:
        text(_LONGEST_PATH)(value, where)
        if not (local_paths or _TIMM.fullmatch(value) or is_repository_id(value)):
            fail(
                where,
                value,
                "'timm:<model>', or an encoder that has a name on the Hub, since no folder is followed here",
            )

    return check


def store_path(local_paths: bool) -> Check:
    """Return a check for the folder of a feature store.

    Args:
        local_paths: Whether full paths are accepted.
    """

    def check(value: Any, where: str) -> None:
        text(_LONGEST_PATH)(value, where)
        _check_path(value, where, local_paths, "Its author has to share it with `mmadapters push`, which leaves it out")

    return check


def _check_path(path: str, where: str, local_paths: bool, advice: str) -> None:
    unc = path.startswith(("//", "\\\\"))
    if _CONTROL.search(path) or unc or path.startswith("~") or ".." in re.split(r"[/\\]", path):
        raise UnfitValue(
            f"{where} is {path[:200]!r}; a path may not go up by '..', start with '~' or name another machine. If the "
            "artefact is yours, write the folder's full path there."
        )
    if _SCHEME.match(path) and not PureWindowsPath(path).drive:
        raise UnfitValue(f"{where} is {path[:200]!r}; accepted is a folder, and no URL.")
    if is_absolute(path) and not local_paths:
        raise UnfitValue(
            f"{where} is {path[:200]!r}, a path of the machine that wrote it, which is not followed here. {advice}."
        )
