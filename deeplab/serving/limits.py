"""Limits of requests: the key, the size, the time to arrive, the memory of all of them, the time to read a response.

`RequestLimits` is an ASGI middleware, used by the server. It refuses requests by itself and does not interpret their
content. `Budget` bounds what requests use together.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

OPEN_PATHS = ("/", "/health", "/openapi.json")  # and everything below /static/; the rest needs the key
_MAX_DIGITS = 18  # of a Content-Length; Python refuses to convert thousands of them
_BODIES = 8  # largest requests that are held at the same time
_PIECE = 1 << 20  # bytes of a response that a client must take within the timeout
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self)",
}


class _TooLarge(Exception):
    """The body is larger than the limit."""


class _TooMany(Exception):
    """The bodies of all requests together are larger than the limit."""


class _TooSlow(Exception):
    """The body did not arrive in time."""


class Budget:
    """An amount that running requests share: who wants more than is left waits for the others.

    Args:
      total: of it; nobody may take more at once.
    """

    def __init__(self, total: float):
        self.total, self._taken, self._changed = total, 0.0, asyncio.Condition()

    async def take(self, amount: float) -> None:
        """Wait until so much is left, and take it. Cancel the call to give up."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._taken + amount <= self.total)
            self._taken += amount

    async def give_back(self, amount: float) -> None:
        """Return what was taken."""
        async with self._changed:
            self._taken -= amount
            self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def taken(self, amount: float) -> AsyncIterator[None]:
        """Take an amount for the time of a block."""
        await self.take(amount)
        try:
            yield
        finally:
            await asyncio.shield(self.give_back(amount))


class _NotRead(Exception):
    """The client does not take the response."""


class RequestLimits:
    """Refuses requests without the key (401), too large ones (413), and those that arrive too slowly (408).

    Also those that would be too much beside the others (503). Responses are sent in pieces; a client that does not take
    one within the timeout loses its connection.

    Args:
      app: the ASGI application behind it.
      max_bytes: maximum size of a body.
      timeout: seconds from the start of a request within which its body must arrive.
      api_key: key that clients must send; empty = none is needed.
      on_response: called at the start of every response with the ASGI scope, the HTTP status, and the seconds since the
        request.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        max_bytes: int,
        timeout: float,
        api_key: str,
        on_response: Callable[[dict[str, Any], int, float], None] = lambda _scope, _status, _seconds: None,
    ):
        self._app, self._max_bytes, self._timeout, self._api_key = app, max_bytes, timeout, api_key
        self._on_response = on_response
        self._held = 0  # bytes of the bodies of all running requests

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        started, ended, read, begun = False, False, 0, time.monotonic()

        async def send_with_headers(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._on_response(scope, message["status"], time.monotonic() - begun)
                message = {**message, "headers": [*message["headers"], *_encoded(SECURITY_HEADERS)]}
            body = message.get("body", b"")
            while len(body) > _PIECE:
                await send_in_time({**message, "body": body[:_PIECE], "more_body": True})
                body = body[_PIECE:]
                message = {**message, "body": body}
            await send_in_time(message)

        async def send_in_time(message: dict[str, Any]) -> None:
            try:
                async with asyncio.timeout(self._timeout):
                    await send(message)
            except TimeoutError:
                raise _NotRead from None

        async def limited() -> dict[str, Any]:
            nonlocal read, ended
            if ended:  # the application waits for the client to disconnect
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(begun + self._timeout - time.monotonic(), 0.01))
            except TimeoutError:
                raise _TooSlow from None
            if message["type"] == "http.request":
                more = len(message.get("body", b""))
                read, self._held = read + more, self._held + more
                if read > self._max_bytes:
                    raise _TooLarge
                if self._held > _BODIES * self._max_bytes:
                    raise _TooMany
                ended = not message.get("more_body")
            return message

        async def refuse(status: int, body: bytes, **more: str) -> None:
            fields = {"content-type": "application/json", "content-length": str(len(body)), **more}
            await send_with_headers({"type": "http.response.start", "status": status, "headers": _encoded(fields)})
            await send({"type": "http.response.body", "body": body})

        if not self._may_enter(scope["path"], headers):
            body = _body("send the server's key as `Authorization: Bearer KEY`", "unauthorized")
            await refuse(401, body, **{"www-authenticate": "Bearer"})
            return
        too_large = _body(f"the request is larger than {self._max_bytes / 1e6:g} MB", "request-too-large")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and (len(length) > _MAX_DIGITS or int(length) > self._max_bytes):
            await refuse(413, too_large, connection="close")
            return
        try:
            await self._app(scope, limited, send_with_headers)
        except _TooLarge:
            if started:
                raise
            await refuse(413, too_large, connection="close")
        except _TooSlow:
            if started:
                raise
            late = _body(f"the request did not arrive within {self._timeout:g} seconds", "timeout")
            await refuse(408, late, connection="close")
        except _NotRead:
            return  # the server closes a connection whose response is not complete
        except _TooMany:
            if started:
                raise
            busy = _body("too many requests at the same time; try again", "busy")
            await refuse(503, busy, connection="close", **{"retry-after": "1"})
        finally:
            self._held -= read

    def _may_enter(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if not self._api_key or path in OPEN_PATHS or path.startswith("/static/"):
            return True
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        given = key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._api_key.encode())


def _body(error: str, code: str) -> bytes:
    return json.dumps({"error": error, "code": code}).encode()


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
