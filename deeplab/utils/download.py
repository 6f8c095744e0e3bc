"""One file from an address: resumed when it broke off, checked for its length, whole or not there at all.

Beside a download lies `FILE.part` with what came so far, and `FILE.part.json` with what identifies the server's
file; with both, the next attempt asks for the rest only, and takes it only if the file is still the same.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from typing import Any

from deeplab import __version__
from deeplab.utils import console
from deeplab.utils.disk import require_room
from deeplab.utils.errors import UserError

TIMEOUT_SECONDS = 30.0  # without a byte, before a connection counts as broken
ATTEMPTS = 5  # in a row that bring nothing
CHUNK = 1 << 18
PART, FACTS = ".part", ".part.json"
_PAGES = (".html", ".htm")


class Unreachable(UserError):
    """The file cannot be had from its address now; the hint says how to bring it by hand."""


class _Broken(Exception):
    """A connection that failed in a way that may pass; `lasting` when that is unlikely."""

    def __init__(self, text: str, lasting: bool = False):
        super().__init__(text)
        self.lasting = lasting


@dataclass(frozen=True)
class Allowance:
    """How much room a file may take.

    Attributes:
      most_bytes: longer ones are refused.
      nature: why none is longer: "no published checkpoint is that large".
      make_room: what to do where the disk is too small.
    """

    most_bytes: int
    nature: str
    make_room: str


CHECKPOINTS = Allowance(
    4 << 30, "no published checkpoint is that large", "make room, or set DEEPLAB_CACHE to another folder"
)


@dataclass(frozen=True)
class Facts:
    """What a server says of a file; equal facts mean the same file.

    Attributes:
      address: where it is.
      length: bytes, None when the server does not say.
      etag, modified: the server's marks of this very content; empty when it has none.
    """

    address: str
    length: int | None = None
    etag: str = ""
    modified: str = ""

    @property
    def mark(self) -> str:
        """The mark that a server compares before it sends the rest of a file (RFC 9110, section 13.1.5)."""
        return self.modified if self.etag.startswith("W/") or not self.etag else self.etag

    def is_same(self, other: Facts) -> bool:
        """Whether nothing that both know differs; their lengths must both be known."""
        marks = ((self.etag, other.etag), (self.modified, other.modified))
        differ = any(one and another and one != another for one, another in marks)
        return not differ and self.length is not None and self.length == other.length


def fetch(
    address: str,
    path: str,
    by_hand: str,
    allowance: Allowance = CHECKPOINTS,
    timeout: float = TIMEOUT_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Downloads a file, or the rest of it, showing progress and the time left.

    Only one process at a time may do this for one path.

    Args:
      address: http:// or https://.
      path: where the file goes; its folder must exist. It appears there when it is whole.
      by_hand: what a person without a network can do, for messages.
      allowance: how long it may be.
      timeout: seconds without a byte after which a connection counts as broken.
      sleep: how seconds pass between attempts.

    Returns:
      The path.

    Raises:
      Unreachable: no network, no such file at the address, or a web page or nothing in its place.
      UserError: no room on the disk, or more than the allowance.
    """
    failures, have = 0, _size(path + PART)
    while True:
        try:
            _fetch_rest(address, path, allowance, timeout)
            break
        except _Broken as problem:
            arrived = _size(path + PART)
            failures = 1 if arrived > have else failures + 1
            have = arrived
            if failures >= ATTEMPTS or problem.lasting:
                raise _unreachable(address, str(problem), path, by_hand) from problem
            console.note(f"{address}: {problem}; trying again")
            sleep(min(30.0, 2.0 ** (failures - 1)))
        except urllib.error.HTTPError as problem:
            raise _unreachable(address, f"the server answers {problem.code} {problem.reason}", path, by_hand) from None
        except OSError as problem:
            rule = f"cannot be written: {problem.strerror or problem}"
            raise UserError("unclassified", rule, allowance.make_room, where=path) from problem
    os.replace(path + PART, path)
    discard(path)
    return path


def discard(path: str) -> None:
    """Removes what an unfinished download of a file has left."""
    for name in (path + PART, path + FACTS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _unreachable(address: str, reason: str, path: str, by_hand: str) -> Unreachable:
    arrived = _size(path + PART)
    kept = f" ({arrived / 1e6:.1f} MB of it are here; the next attempt goes on from there)" if arrived else ""
    return Unreachable("unclassified", f"cannot be downloaded: {reason}{kept}", by_hand, where=address)


# ---- one connection ----------------------------------------------------------------------------------


def _fetch_rest(address: str, path: str, allowance: Allowance, timeout: float) -> None:
    """One attempt; afterwards the file is whole in `PATH.part`."""
    known = _known(address, path)
    start = _size(path + PART) if known else 0
    if known and start == known.length:
        return
    try:
        with _open(address, start, known, timeout) as answer:
            facts, first = _facts(address, answer.status, answer.headers)
            if start and not first:
                console.note(f"{address} cannot be resumed, or has changed: from the beginning")
            if first and (first != start or not known or not facts.is_same(known)):
                discard(path)
                raise _Broken("the file there has changed")
            _require_allowed(facts, first, path, allowance)
            if not first:
                _begin(facts, path)
            _receive(answer, facts, first, path, allowance.most_bytes)
    except urllib.error.HTTPError as problem:
        if problem.code == 416:  # there is nothing at this offset: it was another file
            discard(path)
        elif problem.code not in (408, 425, 429) and problem.code < 500:
            raise
        raise _Broken(f"the server answers {problem.code} {problem.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as problem:
        lasting = isinstance(getattr(problem, "reason", None), (socket.gaierror, ConnectionRefusedError, ssl.SSLError))
        raise _Broken(_words(problem), lasting) from None


def _open(address: str, start: int, known: Facts | None, timeout: float) -> Any:
    if not address.startswith(("http://", "https://")):
        raise UserError("unclassified", "only http and https addresses are fetched", where=address)
    headers = {"User-Agent": f"deeplab-tensorflow/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known and known.mark:
            headers["If-Range"] = known.mark
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=timeout)


def _facts(address: str, status: int, headers: Message) -> tuple[Facts, int]:
    """What the server says of the file, and the offset of the first byte that it sends."""
    if headers.get_content_type() in ("text/html", "application/xhtml+xml") and not address.endswith(_PAGES):
        raise _Broken("the server sends a web page in place of the file: a login, or a notice that it has moved", True)
    first, length = 0, _number(headers.get("Content-Length"))
    if status == 206:
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", (headers.get("Content-Range") or "").strip())
        if span is None:
            raise _Broken("the server sends a part of the file without saying which")
        first, length = int(span[1]), _number(span[3])
    return Facts(address, length, headers.get("ETag") or "", headers.get("Last-Modified") or ""), first


def _receive(answer: Any, facts: Facts, first: int, path: str, most_bytes: int) -> None:
    """Appends what comes to `PATH.part`; what came stays there when the connection breaks."""
    name = os.path.basename(path)
    with open(path + PART, "r+b" if first else "wb") as file, _bar(name, facts.length, first) as bar:
        file.seek(first)
        file.truncate()
        arrived = first
        while chunk := answer.read1(CHUNK):  # what is there, so that a silence loses nothing
            arrived += len(chunk)
            if arrived > (facts.length or most_bytes):
                raise _Broken("the server sends more than it announced")
            file.write(chunk)
            file.flush()  # into the system's hands: a kill from here on loses none of it
            bar.update(len(chunk))
        os.fsync(file.fileno())
    if facts.length is not None and arrived < facts.length:
        raise _Broken(f"the connection broke off after {arrived} of {facts.length} bytes")
    if not arrived:
        discard(path)
        raise _Broken("the server sends an empty file", lasting=True)


def _bar(name: str, total: int | None, first: int) -> Any:
    bar = console.progress(total=total, what=name, unit="B")
    bar.initial = bar.n = first
    return bar


def _require_allowed(facts: Facts, first: int, path: str, allowance: Allowance) -> None:
    if (facts.length or 0) > allowance.most_bytes:
        raise UserError("unclassified", f"would be {facts.length} bytes long; {allowance.nature}", where=facts.address)
    require_room(os.path.dirname(path) or ".", (facts.length or 0) - first, "are to come", allowance.make_room)


# ---- what is known from an earlier attempt -----------------------------------------------------------


def _known(address: str, path: str) -> Facts | None:
    """The facts under which a partial download was begun, None when it cannot be gone on with."""
    try:
        with open(path + FACTS, encoding="utf-8") as file:
            known = Facts(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None
    usable = known.address == address and known.length is not None and 0 < _size(path + PART) <= known.length
    return known if usable else None


def _begin(facts: Facts, path: str) -> None:
    """Starts a download anew: facts must never stand beside a part of another file."""
    discard(path)
    with open(path + FACTS, "w", encoding="utf-8") as file:
        json.dump(asdict(facts), file)


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None


def _words(problem: Exception) -> str:
    reason = getattr(problem, "reason", None) or problem
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
