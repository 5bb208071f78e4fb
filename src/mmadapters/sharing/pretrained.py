"""Loading an artefact from the Hub."""

from __future__ import annotations

from pathlib import Path

import torch

from mmadapters.artefact.finding import FoundArtefact, download_artefact, find_artefact
from mmadapters.artefact.loading import load_artefact
from mmadapters.artefact.model import Artefact
from mmadapters.errors import ArtefactError
from mmadapters.hub.download import HubOptions
from mmadapters.hub.names import Repository, is_revision, parse_repository


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    endpoint: str | None = None,
    backbone: str | None = None,
    device: str | torch.device = "cpu",
) -> Artefact:
    """Load an artefact from the Hub, or from a folder where there is one of that name.

    Exactly the artefact's own files are downloaded, into the Hub's cache, after a look at their sizes. What they hold
    is looked at by ``load_artefact``; nothing in it is run.

    Args:
        name: ``user/name`` on the Hub, or a folder.
        revision: Branch, tag or commit; None for the main branch.
        local_files_only: Whether only this machine's cache is looked at.
        token: Of a user; None for the one of ``hf auth login`` or ``HF_TOKEN``, if any; False for none.
        cache_dir: The cache; None for the Hub's own.
        endpoint: Another Hub's address; None for ``HF_ENDPOINT`` or https://huggingface.co.
        backbone: Where the backbone is on this machine, if not under the name that was saved.
        device: Where the model is to be.

    Raises:
        HubError: If it cannot be had from the Hub.
        ArtefactError: If what is there cannot be used.
    """
    options = HubOptions(token, local_files_only, cache_dir, endpoint)
    return load_artefact(located(name, revision, options), backbone, device)


def located(name: str | Path, revision: str | None, options: HubOptions) -> FoundArtefact:
    """Return where an artefact is, after downloading it where it is on the Hub.

    Args:
        name: ``user/name`` on the Hub, or a folder.
        revision: Branch, tag or commit; for a folder there is none.
        options: How the Hub is asked.

    Raises:
        HubError: If it cannot be had from the Hub.
        ArtefactError: If it is neither, or a folder with a revision.
    """
    if revision is None:
        return find_artefact(name, options)
    if Path(name).is_dir():
        raise ArtefactError(f"'{name}' is a folder, which has no revisions, and revision={revision!r} was given.")
    repository = parse_repository(str(name))
    if repository is None or repository.revision is not None or not is_revision(revision):
        raise ArtefactError(
            f"'{name}' at revision={revision!r} cannot be looked for on the Hub. Give user/name, and the name of a "
            "branch, a tag or a commit."
        )
    return download_artefact(Repository(repository.id, revision), options)
