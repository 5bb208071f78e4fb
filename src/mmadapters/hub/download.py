"""Files of a repository, downloaded into the Hub's own cache: those that are named, and none that is too large."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmadapters.errors import HubError, listed
from mmadapters.hub.failures import hub_errors
from mmadapters.hub.names import Repository

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubOptions:
    """How the Hub is asked.

    Attributes:
        token: Of a user; None for the one of ``hf auth login`` or ``HF_TOKEN``, if any.
        local_files_only: Whether only this machine's cache is looked at.
        cache_dir: The cache; None for the Hub's own.
        endpoint: Another Hub's address; None for ``HF_ENDPOINT`` or https://huggingface.co.
    """

    token: str | bool | None = None
    local_files_only: bool = False
    cache_dir: str | Path | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class Downloaded:
    """Files that are here.

    Attributes:
        folder: Where they are.
        commit: The state of the repository that they are of.
    """

    folder: Path
    commit: str


def download_files(
    repository: Repository, limits: Mapping[str, int], required: Sequence[str], options: HubOptions
) -> Downloaded:
    """Download the named files of a model's repository.

    What there is and how large it is is looked at first, so that nothing is downloaded that would not be read. Where
    the Hub is not reached, a copy in the cache is taken, with a warning.

    Args:
        repository: Which, and which state of it.
        limits: The names of the files, with the most bytes that each may have. Other files are left alone.
        required: Those that have to be there.
        options: How the Hub is asked.

    Raises:
        HubError: If they cannot be had, a required one is not there, or one is too large.
    """
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    library: dict[str, Any] = {"library_name": "mmadapters", "library_version": version("mmadapters")}
    local = options.local_files_only or constants.HF_HUB_OFFLINE
    commit = None
    with hub_errors(str(repository), "read"):
        if not local:
            api = HfApi(endpoint=options.endpoint, token=options.token, **library)
            try:
                info = api.model_info(repository.id, revision=repository.revision, files_metadata=True)
            except errors.HTTPError as error:
                if isinstance(error, errors.HfHubHTTPError):
                    raise
                logger.warning(
                    "The Hub was not reached (%s): a copy of '%s' in the cache is used, if there is one.",
                    type(error).__name__,
                    repository,
                )
                local = True
            else:
                _check_files(repository, {file.rfilename: file.size for file in info.siblings or ()}, limits, required)
                commit = info.sha
        folder = Path(
            snapshot_download(
                repository.id,
                # The name and not the commit, so that the cache can find it by its name.
                revision=repository.revision,
                allow_patterns=list(limits),
                local_files_only=local,
                token=options.token,
                cache_dir=options.cache_dir,
                endpoint=options.endpoint,
                **library,
            )
        )
    if commit is not None and folder.name != commit:
        raise HubError(f"'{repository}' was changed on the Hub while it was downloaded. Load it again.")
    absent = [name for name in required if not (folder / name).is_file()]
    if absent:
        raise HubError(
            f"The copy of '{repository}' in '{folder}' lacks {listed(absent)}. Load it once with the Hub in reach."
        )
    return Downloaded(folder, folder.name)


def _check_files(
    repository: Repository, sizes: Mapping[str, Any], limits: Mapping[str, int], required: Sequence[str]
) -> None:
    absent = [name for name in required if name not in sizes]
    if absent:
        others = [name for name in sizes if name not in limits and not name.startswith(".")]
        raise HubError(
            f"'{repository}' on the Hub is no artefact: it has no {listed(absent)}. It has {listed(others[:5])}"
            f"{', …' if len(others) > 5 else ''}; other files than {listed(limits)} are never read, and no pickles."
        )
    for name, limit in limits.items():
        size = sizes.get(name)
        if name in sizes and (not isinstance(size, int) or size > limit):
            given = f"{size:,} bytes" if isinstance(size, int) else "an unknown size"
            raise HubError(
                f"'{repository}' on the Hub has a file {name} of {given}, and at most {limit:,} are read of such a "
                "file. Nothing was downloaded."
            )
