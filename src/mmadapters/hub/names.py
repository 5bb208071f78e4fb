"""Names of repositories on the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_ID = re.compile(rf"(?:{_PART}/)?{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,254})?")


@dataclass(frozen=True)
class Repository:
    """A repository, and which state of it.

    Attributes:
        id: ``user/name``.
        revision: Branch, tag or commit; None for the main branch.
    """

    id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def is_repository_id(name: str) -> bool:
    """Tell whether a name may be that of a repository on the Hub: ``name`` or ``user/name``."""
    return bool(_ID.fullmatch(name)) and "--" not in name and ".." not in name and not name.endswith(".git")


def is_revision(name: str) -> bool:
    """Tell whether a name may be that of a branch, a tag or a commit."""
    return bool(_REVISION.fullmatch(name)) and ".." not in name and "//" not in name


def parse_repository(name: str) -> Repository | None:
    """Return the repository that ``user/name`` or ``user/name@revision`` names, or None where it is no such name.

    Args:
        name: What somebody typed.
    """
    identity, at, revision = name.partition("@")
    if identity.count("/") != 1 or not is_repository_id(identity) or (at and not is_revision(revision)):
        return None
    return Repository(identity, revision or None)
