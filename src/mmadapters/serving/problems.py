"""Why a request is not answered as it wished: an HTTP status and a message that tells what to change (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from mmadapters.errors import MMAdaptersError

CONTENT_TYPE = "application/problem+json"


class RequestProblem(MMAdaptersError):
    """A request that is answered with an error.

    Args:
        status: Of the answer, 400 or more.
        message: What was given, what is accepted and what to change; without content of texts or files.
        reason: Under which it is counted where it was turned away for want of room or rights.
        headers: Of the answer.
    """

    def __init__(
        self, status: int, message: str, *, reason: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.headers = dict(headers or {})


def title_of(status: int) -> str:
    """Return the standard's words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def unprocessable(message: str) -> RequestProblem:
    """Return the problem of a request that is well-formed and that the model cannot take.

    Args:
        message: What is wrong.
    """
    return RequestProblem(422, message)


def queue_full(rows: int, limit: int, retry_after: int) -> RequestProblem:
    """Return the problem of rows for which the queue has no room.

    Args:
        rows: Of the request.
        limit: Of the queue.
        retry_after: Seconds.
    """
    return RequestProblem(
        503,
        f"{rows} rows were given and the queue of {limit:,} has no room for them now. Try again later.",
        reason="queue_full",
        headers={"Retry-After": str(retry_after)},
    )
