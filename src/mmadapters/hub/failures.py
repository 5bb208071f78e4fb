"""What can go wrong between here and the Hub, said in one line with what to change."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmadapters.errors import HubError

LOG_IN = "Log in with `hf auth login`, set HF_TOKEN, or pass token=…"
OFFLINE = "HF_HUB_OFFLINE is set, so the Hub is not asked"


@contextmanager
def hub_errors(repository: str, doing: str) -> Iterator[None]:
    """Turn errors of ``huggingface_hub`` and of what lies below it into ``HubError``.

    Args:
        repository: Which one it is about.
        doing: What was to be done, such as ``read`` or ``written``.

    Raises:
        HubError: For every one of them.
    """
    from huggingface_hub import errors

    try:
        yield
    except HubError:
        raise
    except (errors.HTTPError, OSError, RuntimeError, ValueError, errors.XetDownloadError) as error:
        raise HubError(
            f"'{repository}' could not be {doing} on the Hub: {_reason(_innermost(error), repository)}"
        ) from error


def _innermost(error: BaseException) -> BaseException:
    """Return the error behind one that only says that something failed."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: Any, repository: str) -> str:
    from huggingface_hub import errors

    by_type = (
        (errors.LocalTokenNotFoundError, f"there is no token. {LOG_IN}."),
        (errors.GatedRepoError, f"it is gated. Ask for access on its page, then: {LOG_IN}."),
        (errors.DisabledRepoError, "its repository has been disabled."),
        (errors.RevisionNotFoundError, "it has no such branch, tag or commit. Check the revision."),
        (
            errors.RepositoryNotFoundError,
            f"there is no such repository, or it is private and the token may not see it. Check the name. {LOG_IN}.",
        ),
        (errors.OfflineModeIsEnabled, f"{OFFLINE}. Unset it, or use what is on this machine."),
        (errors.IncompleteSnapshotError, "the copy in this machine's cache is not whole, and the Hub was not reached."),
        (
            errors.LocalEntryNotFoundError,
            "this machine's cache has no copy of it, and the Hub was not asked or reached.",
        ),
        (errors.EntryNotFoundError, "a file of it is absent."),
        (errors.HFValidationError, f"its name cannot be used: {_line(error)}"),
    )
    for kind, reason in by_type:
        if isinstance(error, kind):
            return reason
    if isinstance(error, errors.HfHubHTTPError):
        return _status(error)
    if isinstance(error, errors.HTTPError):
        return f"it was not reached ({type(error).__name__}: {_line(error)}). Check the connection, or HF_ENDPOINT."
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full. Make room, or name another cache by HF_HOME."
    return _line(error)


def _status(error: Any) -> str:
    status = getattr(error.response, "status_code", 0)
    said = _line(error)
    reasons = {
        401: f"the token is not accepted. {LOG_IN}.",
        403: f"the token may not do this. Use one with the right to write to it. {LOG_IN}. ({said})",
        404: "it is not there.",
        409: f"something else is there. ({said})",
        413: "a file is too large for it.",
        429: "too many requests were made. Wait some minutes.",
    }
    if status >= 500:
        return f"it answered with error {status}. Try again later."
    return reasons.get(status, f"it answered with error {status}: {said}")


def _line(error: Any) -> str:
    """Return what an error says, on one line of readable length."""
    said = getattr(error, "server_message", None) or str(error) or type(error).__name__
    return " ".join(said.split())[:300]
