"""Files to a repository: exactly those that are named, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mmadapters.errors import HubError
from mmadapters.hub.failures import LOG_IN, OFFLINE, hub_errors
from mmadapters.hub.names import Repository, is_revision, parse_repository


@dataclass(frozen=True)
class Uploaded:
    """What was uploaded.

    Attributes:
        repository: ``user/name``.
        url: Of its page, at the commit.
        commit: The new state of the repository.
        files: The files, in their order.
    """

    repository: str
    url: str
    commit: str
    files: tuple[str, ...]


def checked_repository(repo_id: str, revision: str | None) -> Repository:
    """Return the repository that files are to go to.

    Args:
        repo_id: ``user/name``.
        revision: Branch; None for the main branch.

    Raises:
        HubError: If one of them is no such name.
    """
    repository = parse_repository(repo_id)
    if repository is None or repository.revision is not None:
        raise HubError(
            f"{repo_id!r} is no repository of a user. Give user/name, of letters, digits, '-', '_' and '.', such as "
            "ann/movie-genres; name a branch with --revision."
        )
    if revision is not None and not is_revision(revision):
        raise HubError(f"The revision {revision!r} cannot be used. Give the name of a branch, such as v2.")
    return Repository(repository.id, revision)


def upload_files(
    folder: Path,
    repository: Repository,
    files: Sequence[str],
    *,
    message: str,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
) -> Uploaded:
    """Upload files of a folder to a model's repository, which is made where it does not exist.

    Args:
        folder: Where the files are.
        repository: Where to; a branch that does not exist is made.
        files: Names of the files; nothing else of the folder is uploaded, and files that are there stay.
        message: Of the commit.
        private: Whether nobody else may see it. A public repository is then refused, and not made private.
        token: Of a user who may write; None for the one of ``hf auth login`` or ``HF_TOKEN``.
        endpoint: Another Hub's address.

    Raises:
        HubError: If there is no token or the Hub refuses.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError(f"'{repository.id}' could not be written on the Hub: {OFFLINE}. Unset it.")
    if not (token or get_token()):
        raise HubError(f"'{repository.id}' could not be written on the Hub: there is no token. {LOG_IN}.")
    api = HfApi(endpoint=endpoint, token=token, library_name="mmadapters", library_version=version("mmadapters"))
    with hub_errors(repository.id, "written"):
        api.create_repo(repository.id, private=private, exist_ok=True)
        if private and not api.model_info(repository.id).private:
            raise HubError(
                f"'{repository.id}' is a public repository on the Hub, and --private was asked for. Nothing was "
                "uploaded. Make it private on its page, or name another repository."
            )
        if repository.revision is not None:
            api.create_branch(repository.id, branch=repository.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository.id,
            folder_path=folder,
            allow_patterns=list(files),
            revision=repository.revision,
            commit_message=message,
        )
    return Uploaded(repository.id, str(commit.commit_url), str(commit.oid), tuple(files))
