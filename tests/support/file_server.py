"""A small web server for one file or several, with the faults that real ones have."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator


class FileServer:
    """Serves `content` at every path that ends in its name, and `others` likewise.

    Attributes:
      content: the bytes; may be replaced while serving.
      others: bytes of further files by name.
      content_type: what it calls them; empty = nothing.
      asked: the names asked for so far.
      etag, modified: the marks it sends; empty = none.
      ranges: whether it honors Range.
      cut_after: bytes after which it closes each connection; None = never.
      stall_after: bytes after which it falls silent until it is closed.
      statuses: answers of the next requests instead of the file.
      redirect: where the file's own address redirects to; None = nowhere.
      etags: an iterator of ETags, one per request, instead of `etag`.
      drip: "headers", "body" or "continue": sends a byte (or an interim response) now and then, without end.
      content_length: the length it states, instead of the true one; None = the true one.
      requests: the Range header of every request so far, None for those without.
    """

    def __init__(self, content: bytes, name: str = "file.tar.gz"):
        self.content, self.name = content, name
        self.others: dict[str, bytes] = {}
        self.content_type = ""
        self.asked: list[str] = []
        self.etag, self.modified, self.ranges = '"one"', "", True
        self.cut_after: int | None = None
        self.stall_after: int | None = None
        self.pause = 0.0
        self.redirect: str | None = None
        self.etags: Iterator[str] | None = None
        self.drip = ""
        self.content_length: str | None = None
        self.statuses: list[int] = []
        self.requests: list[str | None] = []
        self._closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.handle_error = lambda *_: None  # clients that hang up are what is tested
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        """The file's address."""
        return self.address_of(self.name)

    def address_of(self, name: str) -> str:
        """The address of one of its files."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/models/{name}"

    def close(self) -> None:
        """Ends the server."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(self.headers.get("Range"))
                name = self.path.rpartition("/")[2]
                server.asked.append(name)
                time.sleep(server.pause)
                if server.statuses:
                    self.send_error(server.statuses.pop(0))
                    return
                if server.etags is not None:
                    server.etag = next(server.etags)
                if server.redirect is not None and name == server.name:
                    self.send_response(302)
                    self.send_header("Location", server.redirect)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if server.drip:
                    self.send_in_drips()
                    return
                files = {**server.others, server.name: server.content}
                if name not in files:
                    self.send_error(404)
                    return
                self.send_file(files[name], self.first_byte())

            def send_in_drips(self):
                if server.drip == "body":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000000")
                    self.end_headers()
                piece = b"HTTP/1.1 100 Continue\r\n\r\n" if server.drip == "continue" else b"x"
                for _ in range(400):  # longer than any test waits
                    if server._closing.wait(0.05):
                        return
                    self.wfile.write(piece)
                    self.wfile.flush()

            def first_byte(self) -> int:
                asked = self.headers.get("Range")
                condition = self.headers.get("If-Range")
                same = condition is None or condition in (server.etag, server.modified)
                return int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges and same else 0

            def send_file(self, content: bytes, first: int):
                if first and first >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if first else 200)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
                stated = server.content_length
                self.send_header("Content-Length", str(len(content) - first) if stated is None else stated)
                marks = {"ETag": server.etag, "Last-Modified": server.modified, "Content-Type": server.content_type}
                for mark, value in marks.items():
                    if value:
                        self.send_header(mark, value)
                self.end_headers()
                part = content[first:]
                if server.cut_after is not None:
                    part = part[: server.cut_after]
                if server.stall_after is not None:
                    self.wfile.write(part[: server.stall_after])
                    self.wfile.flush()
                    server._closing.wait(20)
                    return
                self.wfile.write(part)

            def log_message(self, *_):
                pass

        return Handler
