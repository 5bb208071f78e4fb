"""What every request passes: its id, who may call, how much at a time, how long, what is logged and counted."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import traceback
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmadapters.serving.config import RequestLimits
from mmadapters.serving.metrics import ServerMetrics
from mmadapters.serving.problems import CONTENT_TYPE, RequestProblem, title_of

REQUEST_ID = "x-request-id"
OPEN_PATHS = ("/healthz", "/healthz/live")
"""Paths that need no token and are never turned away, for those who watch over the server."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

access_log = logging.getLogger("mmadapters.serving.access")
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def problem_response(
    scope: Scope,
    status: int,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error as RFC 9457 has it.

    Args:
        scope: Of the request.
        status: Of the answer.
        detail: What to tell the caller.
        errors: Parts of what is wrong.
        headers: Of the answer.
    """
    content = {
        "type": "about:blank",
        "title": title_of(status),
        "status": status,
        "detail": detail,
        "request_id": scope.get("state", {}).get("request_id", ""),
        "errors": errors or [],
    }
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=CONTENT_TYPE)


def note(scope: Scope, **values: Any) -> None:
    """Add to the line that is logged for a request.

    Args:
        scope: Of the request.
        values: Names and values; nothing of what texts and files hold.
    """
    scope["state"].setdefault("log", {}).update(values)


class Gate:
    """An ASGI middleware around the whole application.

    Args:
        app: The application.
        limits: What requests may be at most.
        metrics: What is counted.
        token: That calls need, or None.
        log_requests: Whether a line is written for each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: RequestLimits,
        metrics: ServerMetrics,
        token: str | None,
        log_requests: bool = True,
    ) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._log_requests = log_requests
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope, send)
        state = scope["state"] = {**scope.get("state", {}), "request_id": call.request_id}
        try:
            await self._pass(scope, receive, call)
        except RequestProblem as problem:
            await self._answer(scope, receive, call, problem)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            state.setdefault("log", {})["exception"] = type(error).__name__
            state["log"]["stack"] = [line.strip() for line in traceback.format_tb(error.__traceback__)[-8:]]
            detail = "The server failed. Give the request_id to whoever runs it."
            await self._answer(scope, receive, call, RequestProblem(500, detail))
        finally:
            self._finish(scope, call)

    async def _pass(self, scope: Scope, receive: Receive, call: _Call) -> None:
        headers = Headers(scope=scope)
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, call.send)
            return
        self._check_token(headers)
        self._check_length(headers)
        if self._at_work >= self._limits.max_concurrent_requests:
            raise RequestProblem(
                503,
                f"{self._at_work:,} requests are at work, which is the limit. Try again later.",
                reason="concurrency",
                headers={"Retry-After": str(self._limits.retry_after_seconds)},
            )
        self._at_work += 1
        self._metrics.requests_at_work.inc()
        try:
            body = _LimitedBody(receive, self._limits)
            await asyncio.wait_for(self._app(scope, body.receive, call.send), self._limits.request_seconds)
        except asyncio.TimeoutError:
            raise RequestProblem(
                504,
                f"The request took longer than {self._limits.request_seconds:g} s. Send less at once, or try later.",
                reason="timeout",
            ) from None
        finally:
            self._at_work -= 1
            self._metrics.requests_at_work.dec()

    def _check_token(self, headers: Headers) -> None:
        if self._authorization is None:
            return
        given = headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self._authorization):
            raise RequestProblem(
                401,
                "This server needs a token. Send it in the header 'Authorization: Bearer <token>'.",
                reason="token",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._limits.max_request_bytes:
            raise RequestProblem(
                413, too_large(self._limits.max_request_bytes), reason="size", headers={"Connection": "close"}
            )

    async def _answer(self, scope: Scope, receive: Receive, call: _Call, problem: RequestProblem) -> None:
        if problem.reason:
            self._metrics.rejections.labels(problem.reason).inc()
        if not call.started:
            response = problem_response(scope, problem.status, problem.message, headers=problem.headers)
            await response(scope, receive, call.send)

    def _finish(self, scope: Scope, call: _Call) -> None:
        seconds = time.perf_counter() - call.begun
        path = getattr(scope.get("route"), "path", None) or (scope["path"] if scope["path"] in OPEN_PATHS else "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(path, method, str(call.status)).inc()
        self._metrics.request_seconds.labels(path).observe(seconds)
        if self._log_requests:
            line = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "request_id": call.request_id,
                "method": method,
                "path": path,
                "status": call.status,
                "seconds": round(seconds, 5),
                **scope["state"].get("log", {}),
            }
            access_log.log(logging.ERROR if call.status >= 500 else logging.INFO, json.dumps(line))


def too_large(limit: int) -> str:
    """Return what is told to a caller whose body is too large.

    Args:
        limit: Bytes.
    """
    return f"The body is larger than {limit:,} bytes, which is the limit. Send less at once."


class _Call:
    """One request: its id, and what has been answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        self.request_id = given if _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
        self.begun = time.perf_counter()
        self.status = 499
        self.started = False
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.request_id
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
        await self._send(message)


class _LimitedBody:
    """A request's body that ends with an error where it is too large or too slow."""

    def __init__(self, receive: Receive, limits: RequestLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._deadline = time.monotonic() + limits.body_seconds
        self._bytes = 0
        self._whole = False

    async def receive(self) -> Message:
        """Return the next part."""
        if self._whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._deadline - time.monotonic()))
        except asyncio.TimeoutError:
            # HTTPException, since FastAPI makes a 400 of every other error while it reads a body.
            text = f"The body did not arrive within {self._limits.body_seconds:g} s."
            raise HTTPException(408, text, {"Connection": "close"}) from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._bytes > self._limits.max_request_bytes:
                raise HTTPException(413, too_large(self._limits.max_request_bytes), {"Connection": "close"})
        return message
