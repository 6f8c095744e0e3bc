"""Download one file over HTTP: resumed after a broken connection, length checked, written whole or not at all.

Owns connections, retries, and the time and size limits of a download. Called by the model zoo and the dataset
catalog, which own addresses, checksums and unpacking. It never interprets what a file contains.

While a download is under way, `FILE.part` holds the bytes received so far and `FILE.part.json` what identifies the
file on the server. The next attempt requests only the rest, and accepts it only if the server's file is unchanged.
(pooch, the usual library for this, starts a broken download from the beginning; the archives here have up to 18 GB.)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from typing import Any

from deeplab import __version__
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.text import byte_text

TIMEOUT_SECONDS = 30.0  # without a byte, or until the headers are complete
MAX_ATTEMPTS = 5  # in a row that do not get beyond the best one so far
MAX_SECONDS = 24 * 3600.0  # for one file, all attempts together
MIN_BYTES_PER_SECOND = 100  # average over an attempt, checked after the first TIMEOUT_SECONDS
MAX_REDIRECTS = 10
CHUNK = 1 << 18
PART, SERVER_FILE = ".part", ".part.json"
_HTML_SUFFIXES = (".html", ".htm")


class Unreachable(UserError):
    """A file that cannot be downloaded from its address now; the hint says how to get it by hand."""


class _Interrupted(Exception):
    """A connection that failed; `permanent` when another attempt is unlikely to help."""

    def __init__(self, text: str, permanent: bool = False):
        super().__init__(text)
        self.permanent = permanent


@dataclass(frozen=True)
class SizeLimit:
    """How large a file may be.

    Attributes:
      max_bytes: larger files are refused.
      reason: why no such file is larger: "no published checkpoint is that large".
      free_space_hint: what to do when the disk is too small.
    """

    max_bytes: int
    reason: str
    free_space_hint: str


CHECKPOINT_SIZE = SizeLimit(
    4 << 30, "no published checkpoint is that large", "free some space, or set DEEPLAB_CACHE to another folder"
)


@dataclass(frozen=True)
class ServerFile:
    """What a server states about a file; equal statements mean the same file.

    Attributes:
      address: its URL.
      length: bytes; None when the server does not state it.
      etag, modified: validators of this version of the content; empty when the server sends none.
    """

    address: str
    length: int | None = None
    etag: str = ""
    modified: str = ""

    @property
    def validator(self) -> str:
        """The validator for `If-Range` (RFC 9110, section 13.1.5): a strong ETag, else the date."""
        return self.modified if self.etag.startswith("W/") or not self.etag else self.etag

    def is_same(self, other: ServerFile) -> bool:
        """Whether nothing that both state differs; both must state the length."""
        validators = ((self.etag, other.etag), (self.modified, other.modified))
        differ = any(one and another and one != another for one, another in validators)
        return not differ and self.length is not None and self.length == other.length


def fetch(
    address: str,
    path: str,
    by_hand: str,
    limit: SizeLimit = CHECKPOINT_SIZE,
    timeout: float = TIMEOUT_SECONDS,
    max_seconds: float = MAX_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Download a file, or the rest of it, showing progress and the time left.

    Only one process at a time may download to one path.

    Args:
      address: an http:// or https:// URL.
      path: where the file is written; its folder must exist. The file appears there when it is complete.
      by_hand: hint for a person without a network.
      limit: how large the file may be.
      timeout: seconds without a byte after which a connection counts as broken.
      max_seconds: seconds for the whole download, all attempts together.
      sleep: waits between attempts.

    Returns:
      The path.

    Raises:
      Unreachable: no network; no such file; a web page, nothing or another file each time instead; too slow.
      UserError: no space on the disk, a file larger than the limit, an address of another scheme.
    """
    failures, best = 0, _size(path + PART)
    end = time.monotonic() + max_seconds
    while True:
        try:
            _fetch_rest(address, path, limit, timeout, end)
            break
        except _Interrupted as problem:
            received = _size(path + PART)
            failures = 1 if received > best else failures + 1
            best = max(best, received)
            if failures >= MAX_ATTEMPTS or problem.permanent or time.monotonic() >= end:
                raise _unreachable(address, str(problem), path, by_hand) from problem
            console.note(f"{address}: {problem}; trying again")
            sleep(min(30.0, 2.0 ** (failures - 1)))
        except urllib.error.HTTPError as problem:
            reason = f"the server answers {problem.code} {problem.reason}"
            raise _unreachable(address, reason, path, by_hand) from None
        except OSError as problem:
            rule = f"cannot be written: {problem.strerror or problem}"
            raise UserError("unwritable-file", rule, limit.free_space_hint, where=path) from problem
    os.replace(path + PART, path)
    discard(path)
    return path


def discard(path: str) -> None:
    """Remove what an unfinished download of a file has left."""
    for name in (path + PART, path + SERVER_FILE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def require_free_space(folder: str | os.PathLike, need: int, purpose: str, hint: str) -> None:
    """Raise an error if a disk has less free space than needed.

    Args:
      folder: a folder on that disk, or one still to be created.
      need: bytes.
      purpose: what needs them, for the message: "for archives and files".
      hint: what a person can do.

    Raises:
      UserError: less than `need` bytes are free.
    """
    place = pathlib.Path(folder).absolute()
    existing = next(path for path in (place, *place.parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < need:
        rule = f"{byte_text(need)} are needed {purpose}, but only {byte_text(free)} are free"
        raise UserError("disk-full", rule, hint, where=folder, value=free)


def _unreachable(address: str, reason: str, path: str, by_hand: str) -> Unreachable:
    received = _size(path + PART)
    kept = f" ({received / 1e6:.1f} MB have been received; the next run resumes there)" if received else ""
    return Unreachable("download-failed", f"cannot be downloaded: {reason}{kept}", by_hand, where=address)


# ---- one connection ----------------------------------------------------------------------------------


def _fetch_rest(address: str, path: str, limit: SizeLimit, timeout: float, end: float) -> None:
    """One attempt; when it returns, `PATH.part` is complete."""
    known = _known(address, path)
    start = _size(path + PART) if known else 0
    if known and start == known.length:
        return
    try:
        with _open(address, start, known, timeout) as response:
            file, first = _server_file(address, response.status, response.headers)
            if start and not first:
                console.note(f"{address} cannot be resumed or has changed; starting from the beginning")
            if first and (first != start or not known or not file.is_same(known)):
                discard(path)
                raise _Interrupted("the file on the server has changed")
            _require_within_limit(file, first, path, limit)
            if not first:
                _begin(file, path)
            _receive(response, file, first, path, limit.max_bytes, timeout, end)
    except urllib.error.HTTPError as problem:
        if problem.code == 416:  # nothing at this offset: it was another file
            discard(path)
        elif problem.code not in (408, 425, 429) and problem.code < 500:
            raise
        raise _Interrupted(f"the server answers {problem.code} {problem.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as problem:
        kinds = (socket.gaierror, ConnectionRefusedError, ssl.SSLError)
        raise _Interrupted(_words(problem), isinstance(getattr(problem, "reason", None), kinds)) from None
    except ValueError as problem:  # malformed addresses in redirects, malformed headers
        raise _Interrupted(f"the server's answer is malformed: {problem}") from None


def _open(address: str, start: int, known: ServerFile | None, timeout: float) -> Any:
    if not address.startswith(("http://", "https://")):
        raise UserError("bad-address", "only http and https addresses are downloaded", where=address)
    headers = {"User-Agent": f"deeplab-tensorflow/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known and known.validator:
            headers["If-Range"] = known.validator
    return _opener().open(urllib.request.Request(address, headers=headers), timeout=timeout)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone; Python's default one follows redirects to ftp as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(),
        _Https(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            raise _Interrupted(f"the server redirects to {newurl}, which is not followed", permanent=True)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _HeaderDeadline:
    """Part of a connection: the headers must be complete in time, however slowly or often the server sends lines.

    A socket's own timeout starts again with each byte, and a server may send "100 Continue" without end.
    """

    sock: socket.socket
    timeout: float

    def getresponse(self) -> http.client.HTTPResponse:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.timeout, expire)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc,no-any-return]
        except (OSError, http.client.HTTPException):
            if expired.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()


class _HttpConnection(_HeaderDeadline, http.client.HTTPConnection):  # type: ignore[misc]
    pass


class _HttpsConnection(_HeaderDeadline, http.client.HTTPSConnection):  # type: ignore[misc]
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, req, context=ssl.create_default_context())  # type: ignore[arg-type]


def _server_file(address: str, status: int, headers: Message) -> tuple[ServerFile, int]:
    """What the server states about the file, and the offset of the first byte that it sends."""
    if headers.get_content_type() in ("text/html", "application/xhtml+xml") and not address.endswith(_HTML_SUFFIXES):
        reason = "the server sends a web page instead of the file: a login page, or a notice that it has moved"
        raise _Interrupted(reason, permanent=True)
    first, length = 0, _number(headers.get("Content-Length"))
    if status == 206:
        span = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", (headers.get("Content-Range") or "").strip())
        if span is None:
            raise _Interrupted("the server sends a part of the file without stating which")
        first, length = int(span[1]), _number(span[3])
    return ServerFile(address, length, headers.get("ETag") or "", headers.get("Last-Modified") or ""), first


def _receive(
    response: Any, server_file: ServerFile, first: int, path: str, max_bytes: int, timeout: float, end: float
) -> None:
    """Append the response to `PATH.part`; what was received stays there when the connection breaks."""
    name, begun = os.path.basename(path), time.monotonic()
    with open(path + PART, "r+b" if first else "wb") as file, _bar(name, server_file.length, first) as bar:
        file.seek(first)
        file.truncate()
        received = first
        while chunk := response.read1(CHUNK):  # whatever is available, so that a silent server loses nothing
            received += len(chunk)
            if received > (server_file.length or max_bytes):
                raise _Interrupted("the server sends more than it announced")
            file.write(chunk)
            file.flush()  # handed to the system: a kill from here on loses none of it
            bar.update(len(chunk))
            elapsed = time.monotonic() - begun
            if elapsed > timeout and (received - first) / elapsed < MIN_BYTES_PER_SECOND:
                raise _Interrupted(f"the server sends less than {MIN_BYTES_PER_SECOND} bytes per second")
            if time.monotonic() > end:
                raise _Interrupted("the time limit of the download is over")
        os.fsync(file.fileno())
    if server_file.length is not None and received < server_file.length:
        raise _Interrupted(f"the connection broke after {received} of {server_file.length} bytes")
    if not received:
        discard(path)
        raise _Interrupted("the server sends an empty file", permanent=True)


def _bar(name: str, total: int | None, first: int) -> Any:
    bar = console.progress(total=total, what=name, unit="B")
    bar.update(first)
    return bar


def _require_within_limit(file: ServerFile, first: int, path: str, limit: SizeLimit) -> None:
    if (file.length or 0) > limit.max_bytes:
        rule = f"is {file.length} bytes long; {limit.reason}"
        raise UserError("file-too-large", rule, where=file.address, value=file.length)
    folder = os.path.dirname(path) or "."
    require_free_space(folder, (file.length or 0) - first, "for the download", limit.free_space_hint)


# ---- state of an earlier attempt ---------------------------------------------------------------------


def _known(address: str, path: str) -> ServerFile | None:
    """The server's statements under which a partial download was begun; None when it cannot be resumed."""
    try:
        with open(path + SERVER_FILE, encoding="utf-8") as file:
            known = ServerFile(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None
    usable = known.address == address and known.length is not None and 0 < _size(path + PART) <= known.length
    return known if usable else None


def _begin(file: ServerFile, path: str) -> None:
    """Start from the beginning; the statements must never be beside a part of another file."""
    discard(path)
    with open(path + SERVER_FILE, "w", encoding="utf-8") as stream:
        json.dump(asdict(file), stream)


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _number(text: str | None) -> int | None:
    """A length in a header; None for none, or one that is no sensible number."""
    return int(text) if text and re.fullmatch(r"\s*\d{1,18}\s*", text) else None


def _words(problem: Exception) -> str:
    reason = getattr(problem, "reason", None) or problem
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
