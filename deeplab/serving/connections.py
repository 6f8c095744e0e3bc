"""Connections that a client opens and does not use, or whose responses it does not read, are closed.

uvicorn counts every open connection, and has no limit of time until a request has arrived or its response has been
read: a few idle connections would keep all other clients out. The protocol made here ends them. Used by the command
`serve`; `limits.py` bounds what happens between the request's headers and its response.
"""

from __future__ import annotations

import asyncio
from typing import Any


def limited_protocol(base: Any, timeout: float, max_connections: int) -> Any:
    """Return a protocol for uvicorn that closes connections.

    Args:
      base: uvicorn's protocol for HTTP.
      timeout: seconds that a connection may be open without a request whose headers are complete; also the time to read
        the rest of a response.
      max_connections: for more than this, those that have waited for the longest time without a request are closed.
    """

    class LimitedProtocol(base):
        """A connection.

        Attributes:
          idle_since: when it was opened, or its last response was complete.
          unread: bytes of responses that the client had not read at the last look.
          watch: the next look.
        """

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.idle_since, self.unread = self.loop.time(), 0
            self.watch = self.loop.call_later(timeout, self.look)
            opened = [one for one in self.connections if not one.transport.is_closing()]
            idle = [one for one in opened if one is not self and not one.is_busy()]
            if len(opened) > max_connections and idle:
                min(idle, key=lambda one: one.idle_since).transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self.watch.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self.idle_since = self.loop.time()
            super().on_response_complete()

        def is_busy(self) -> bool:
            """Whether a request is processed, or its response is sent; not where its end was given up."""
            return bool(self.cycle and not self.cycle.response_complete and not self.transport.is_closing())

        def look(self) -> None:
            """Closes the connection if it has been idle for too long, or if the client has not read anything since."""
            left = timeout if self.is_busy() else self.idle_since + timeout - self.loop.time()
            before, self.unread = self.unread, self.transport.get_write_buffer_size()
            if left <= 0 or (self.unread and self.unread == before):
                self.transport.abort()
            else:
                self.watch = self.loop.call_later(left, self.look)

    return LimitedProtocol
