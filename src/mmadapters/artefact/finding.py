"""Where an artefact is: in a folder, or in a repository on the Hub."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mmadapters.artefact.files import FILES, LARGEST
from mmadapters.errors import ArtefactError, HubError
from mmadapters.hub.download import HubOptions, download_files
from mmadapters.hub.names import Repository, parse_repository

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundArtefact:
    """An artefact that is on this machine.

    Attributes:
        folder: Where its files are.
        repository: The repository on the Hub that it came from, or None.
        commit: The state of the repository.
    """

    folder: Path
    repository: str | None = None
    commit: str | None = None


def find_artefact(name: str | Path, options: HubOptions | None = None) -> FoundArtefact:
    """Return where an artefact is, after downloading it where it is on the Hub.

    Args:
        name: A folder; or, where there is none of that name, ``user/name`` or ``user/name@revision`` on the Hub.
        options: How the Hub is asked.

    Raises:
        ArtefactError: If it is neither.
        HubError: If it cannot be had from the Hub.
    """
    place = Path(name)
    if place.is_dir():
        return FoundArtefact(place)
    if place.exists():
        raise ArtefactError(f"'{name}' is a file. Name the folder of an artefact, or user/name on the Hub.")
    repository = parse_repository(place.as_posix() if isinstance(name, Path) else name)
    if repository is None:
        raise ArtefactError(
            f"There is no folder '{name}', and it is no name of a repository on the Hub either, which would be "
            "user/name or user/name@revision. Name the folder of an artefact, or a repository."
        )
    logger.info("There is no folder '%s': it is looked for on the Hub.", name)
    try:
        return download_artefact(repository, options)
    except HubError as error:
        raise HubError(f"There is no folder '{name}' here, so it was taken for a repository. {error}") from error


def download_artefact(repository: Repository, options: HubOptions | None = None) -> FoundArtefact:
    """Download an artefact from the Hub into its cache.

    Args:
        repository: Where it is, and which state of it.
        options: How the Hub is asked.

    Raises:
        HubError: If it cannot be had.
    """
    downloaded = download_files(repository, LARGEST, FILES, options or HubOptions())
    return FoundArtefact(downloaded.folder, repository.id, downloaded.commit)
