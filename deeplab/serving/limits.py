"""Limits that every request must meet before anything is computed: the key, the size, and the time to arrive.

An ASGI middleware, used by the server. It refuses requests by itself and does not interpret their content.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

OPEN_PATHS = ("/", "/health", "/openapi.json")  # and everything below /static/; the rest needs the key
_MAX_DIGITS = 18  # of a Content-Length; Python refuses to convert thousands of them
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


class _TooSlow(Exception):
    """The body did not arrive in time."""


class RequestLimits:
    """Refuses requests without the key (401), too large ones (413), and those that arrive too slowly (408).

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
            await send(message)

        async def limited() -> dict[str, Any]:
            nonlocal read, ended
            if ended:  # the application waits for the client to disconnect
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(begun + self._timeout - time.monotonic(), 0.01))
            except TimeoutError:
                raise _TooSlow from None
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max_bytes:
                    raise _TooLarge
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
