"""Limits of requests: the key, the size, the time to arrive, the memory of all of them, the time to read a response.

`RequestLimits` is an ASGI middleware, used by the server. It refuses requests by itself and does not interpret their
content; `admission.py` bounds what their images need.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
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


class _Refused(Exception):
    """The rest of a request's body is not read.

    Args:
      status: of the response.
      error: for a person.
      code: for a program.
      headers: more of them.
    """

    def __init__(self, status: int, error: str, code: str, **headers: str):
        super().__init__(error)
        self.status, self.error, self.code, self.headers = status, error, code, headers


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
        self._app, self._timeout, self._api_key, self._on_response = app, timeout, api_key, on_response
        self._max_bytes, self._held = max_bytes, _Held(_BODIES * max_bytes)

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        headers = {name.lower(): value for name, value in scope["headers"]}
        body = _Body(receive, self._max_bytes, begun + self._timeout, self._timeout, self._held)
        response = _Response(
            send, self._timeout, lambda status: self._on_response(scope, status, time.monotonic() - begun)
        )
        try:
            self._require_key(scope["path"], headers)
            body.require_length(headers.get(b"content-length", b"0"))
            await self._app(scope, body.receive, response.send)
        except _Refused as refused:
            if response.started:
                raise
            await response.refuse(refused)
        except _NotRead:
            return  # the server closes a connection whose response is not complete
        finally:
            self._held.bytes -= body.read

    def _require_key(self, path: str, headers: dict[bytes, bytes]) -> None:
        if not self._api_key or path in OPEN_PATHS or path.startswith("/static/"):
            return
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        given = key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        if not hmac.compare_digest(given, self._api_key.encode()):
            error = "send the server's key as `Authorization: Bearer KEY`"
            raise _Refused(401, error, "unauthorized", **{"www-authenticate": "Bearer"})


@dataclass
class _Held:
    """The bytes of the bodies of all running requests, and how many they may be."""

    limit: int
    bytes: int = 0


class _Body:
    """Receives the body of a request within the limits of size, time and memory.

    Args:
      receive: of ASGI.
      max_bytes: maximum size.
      deadline: by the monotonic clock, in seconds.
      timeout: seconds, for the message.
      held: of all requests.

    Attributes:
      read: bytes received.
    """

    def __init__(self, receive: Callable[..., Any], max_bytes: int, deadline: float, timeout: float, held: _Held):
        self._receive, self._max_bytes, self._deadline, self._timeout = receive, max_bytes, deadline, timeout
        self._held, self._ended, self.read = held, False, 0

    def require_length(self, length: bytes) -> None:
        """Refuses a request whose header says that it is too large."""
        if length.isdigit() and (len(length) > _MAX_DIGITS or int(length) > self._max_bytes):
            raise self._too_large()

    async def receive(self) -> dict[str, Any]:
        """The next message of ASGI."""
        if self._ended:  # the application waits for the client to disconnect
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(self._deadline - time.monotonic(), 0.01))
        except TimeoutError:
            error = f"the request did not arrive within {self._timeout:g} seconds"
            raise _Refused(408, error, "timeout", connection="close") from None
        if message["type"] == "http.request":
            more = len(message.get("body", b""))
            self.read, self._held.bytes = self.read + more, self._held.bytes + more
            if self.read > self._max_bytes:
                raise self._too_large()
            if self._held.bytes > self._held.limit:
                error = "too many requests at the same time; try again"
                raise _Refused(503, error, "busy", connection="close", **{"retry-after": "1"})
            self._ended = not message.get("more_body")
        return message

    def _too_large(self) -> _Refused:
        error = f"the request is larger than {self._max_bytes / 1e6:g} MB"
        return _Refused(413, error, "request-too-large", connection="close")


class _Response:
    """Sends a response in pieces, with the headers that every one has.

    Args:
      send: of ASGI.
      timeout: seconds in which a client must take a piece.
      on_start: called with the HTTP status.

    Attributes:
      started: whether the status has been sent.
    """

    def __init__(self, send: Callable[..., Any], timeout: float, on_start: Callable[[int], None]):
        self._send, self._timeout, self._on_start, self.started = send, timeout, on_start, False

    async def send(self, message: dict[str, Any]) -> None:
        """Sends a message of ASGI."""
        if message["type"] == "http.response.start":
            self.started = True
            self._on_start(message["status"])
            message = {**message, "headers": [*message["headers"], *_encoded(SECURITY_HEADERS)]}
        body = message.get("body", b"")
        while len(body) > _PIECE:
            await self._send_in_time({**message, "body": body[:_PIECE], "more_body": True})
            body = body[_PIECE:]
            message = {**message, "body": body}
        await self._send_in_time(message)

    async def refuse(self, refused: _Refused) -> None:
        """Sends an error in JSON."""
        body = json.dumps({"error": refused.error, "code": refused.code}).encode()
        fields = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
        await self.send({"type": "http.response.start", "status": refused.status, "headers": _encoded(fields)})
        await self._send({"type": "http.response.body", "body": body})

    async def _send_in_time(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._send(message)
        except TimeoutError:
            raise _NotRead from None


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
