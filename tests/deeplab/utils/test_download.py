"""Downloads against a server on this machine that cuts off, stalls, forgets and changes its mind."""

import contextlib
import os
import time

import numpy as np
import pytest
from support.errors import raises
from support.file_server import FileServer

from deeplab.utils import download

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)


@pytest.fixture
def server():
    """A server of `CONTENT`."""
    server = FileServer(CONTENT)
    yield server
    server.close()


@pytest.fixture
def target(tmp_path) -> str:
    """Where the file goes."""
    return str(tmp_path / "file.tar.gz")


def fetch(server, target, **more) -> str:
    """One download that does not wait between its attempts."""
    return download.fetch(server.address, target, "bring it by hand", sleep=lambda seconds: None, **more)


def content(path: str) -> bytes:
    """All bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def begin(server, target, arrived: int, **facts) -> None:
    """What a killed download leaves behind."""
    known = {"address": server.address, "length": len(CONTENT), "etag": '"one"', "modified": "", **facts}
    with open(target + download.PART, "wb") as file:
        file.write(CONTENT[:arrived])
    with open(target + download.SERVER_FILE, "w") as file:
        file.write(download.json.dumps(known))


def test_whole_file_and_nothing_else(server, target, capfd):
    assert fetch(server, target) == target
    assert content(target) == CONTENT
    assert os.listdir(os.path.dirname(target)) == ["file.tar.gz"]
    shown = capfd.readouterr().err
    assert "file.tar.gz" in shown and "1.0/1.0 MB" in shown


def test_goes_on_where_it_broke_off(server, target):
    begin(server, target, 400_000)
    fetch(server, target)
    assert server.requests == ["bytes=400000-"]
    assert content(target) == CONTENT


def test_truncated_answers_are_completed_bit_by_bit(server, target):
    server.cut_after = 150_000
    fetch(server, target)
    assert content(target) == CONTENT
    assert server.requests == [None, *(f"bytes={n}-" for n in range(150_000, 1_000_000, 150_000))]


def test_server_without_ranges_starts_again(server, target, capfd):
    server.ranges = False
    begin(server, target, 400_000)
    fetch(server, target)
    assert content(target) == CONTENT
    assert "cannot be resumed or has changed" in capfd.readouterr().err


def test_changed_file_starts_again(server, target):
    begin(server, target, 400_000)
    server.content, server.etag = OTHER, '"two"'
    fetch(server, target)
    assert content(target) == OTHER


def test_changed_file_is_noticed_though_the_server_ignores_the_condition(server, target, monkeypatch):
    begin(server, target, 400_000)
    server.content, server.etag = OTHER, '"two"'
    monkeypatch.setattr(download.ServerFile, "validator", "")  # no If-Range is sent, so the server answers 206
    fetch(server, target)
    assert server.requests == ["bytes=400000-", None]
    assert content(target) == OTHER


def test_shorter_file_than_what_is_here(server, target):
    begin(server, target, 400_000)
    server.content = CONTENT[:300_000]
    fetch(server, target)
    assert server.requests == ["bytes=400000-", None]
    assert content(target) == CONTENT[:300_000]


def test_marks_by_date_alone(server, target):
    server.etag, server.modified = "", "Tue, 04 Dec 2018 10:00:00 GMT"
    begin(server, target, 400_000, etag="", modified=server.modified)
    fetch(server, target)
    assert server.requests == ["bytes=400000-"] and content(target) == CONTENT


def test_part_without_facts_is_not_trusted(server, target):
    with open(target + download.PART, "wb") as file:
        file.write(b"something else")
    fetch(server, target)
    assert server.requests == [None] and content(target) == CONTENT


def test_complete_part_needs_no_connection(server, target):
    begin(server, target, len(CONTENT))
    fetch(server, target)
    assert server.requests == [] and content(target) == CONTENT


def test_busy_server_is_asked_again(server, target):
    server.statuses = [503, 429]
    fetch(server, target)
    assert content(target) == CONTENT


def test_missing_file_says_what_to_do_by_hand(server, target):
    server.statuses = [404]
    with raises("download-failed", where=server.address) as caught:
        fetch(server, target)
    assert "404 Not Found" in caught.value.rule and caught.value.hint == "bring it by hand"
    assert isinstance(caught.value, download.Unreachable)
    assert server.requests == [None] and not os.path.exists(target)


def test_server_that_falls_silent(server, target):
    server.stall_after = 400_000
    fetch(server, target, timeout=0.4)  # each attempt brings something, so it goes on
    assert content(target) == CONTENT
    assert "bytes=400000-" in server.requests and "bytes=800000-" in server.requests


def test_server_that_stays_silent(server, target):
    begin(server, target, 400_000)
    server.stall_after = 0
    with raises("download-failed") as caught:
        fetch(server, target, timeout=0.1)
    assert "no answer in time" in caught.value.rule and "0.4 MB have been received" in caught.value.rule
    assert len(server.requests) == download.MAX_ATTEMPTS
    assert not os.path.exists(target)


def test_no_network(tmp_path):
    with raises("download-failed", where="http://127.0.0.1:9/x"):
        download.fetch("http://127.0.0.1:9/x", str(tmp_path / "x"), "bring it by hand", sleep=lambda seconds: None)
    assert os.listdir(tmp_path) == []


def test_only_web_addresses(tmp_path):
    with raises("bad-address", where="file:///etc/passwd"):
        download.fetch("file:///etc/passwd", str(tmp_path / "x"), "")


def test_no_room(server, target, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with raises("disk-full", where=os.path.dirname(target)) as caught:
        fetch(server, target)
    assert caught.value.rule == "1.0 MB are needed for the download, but only 1 kB are free"


def test_absurdly_long_file(server, target):
    limit = download.SizeLimit(1000, "no letter is that long", "free some space")
    with raises("file-too-large", where=server.address) as caught:
        fetch(server, target, limit=limit)
    assert caught.value.value == 1_000_000 and "no letter is that long" in caught.value.rule
    assert os.listdir(os.path.dirname(target)) == []


def test_web_page_in_place_of_the_file(server, target):
    server.content, server.content_type = b"<html>please log in</html>", "text/html; charset=utf-8"
    with raises("download-failed") as caught:
        fetch(server, target)
    assert "sends a web page" in caught.value.rule and caught.value.hint == "bring it by hand"
    assert len(server.requests) == 1 and os.listdir(os.path.dirname(target)) == []


def test_empty_file(server, target):
    server.content = b""
    with raises("download-failed") as caught:
        fetch(server, target)
    assert "sends an empty file" in caught.value.rule
    assert len(server.requests) == 1 and os.listdir(os.path.dirname(target)) == []


def test_one_of_several_files(server, target):
    server.others = {"other.zip": OTHER}
    download.fetch(server.address_of("other.zip"), target, "")
    assert content(target) == OTHER and server.asked == ["other.zip"]


# ---- servers that never end --------------------------------------------------------------------------


def test_a_server_whose_etag_changes_each_time_is_given_up(server, target):
    """A balanced mirror whose machines state different ETags, and that breaks off: each attempt starts again."""
    server.cut_after = 40_000
    server.etags = (f'"{number}"' for number in range(10_000))
    with raises("download-failed"):
        fetch(server, target)
    assert len(server.requests) <= 3 * download.MAX_ATTEMPTS


@pytest.mark.parametrize("where", ["body", "headers"])
def test_a_server_that_drips_is_given_up(server, target, where):
    """A byte now and then keeps a socket's own timeout from ending the connection."""
    server.drip = where
    begun = time.monotonic()
    with raises("download-failed"):
        fetch(server, target, timeout=0.3)
    assert time.monotonic() - begun < 10
    assert not os.path.exists(target)


def test_a_server_that_sends_100_continue_without_end(server, target):
    server.drip = "continue"
    begun = time.monotonic()
    with raises("download-failed"):
        fetch(server, target, timeout=0.3)
    assert time.monotonic() - begun < 10


def test_time_limit_of_the_whole_download(server, target):
    server.cut_after = 1000
    server.pause = 0.02
    with raises("download-failed"):
        fetch(server, target, max_seconds=0.3)
    assert 2 < len(server.requests) < 100


# ---- redirects ---------------------------------------------------------------------------------------


def test_redirect_is_followed(server, target):
    server.redirect = server.address_of("moved.tar.gz")
    server.others = {"moved.tar.gz": OTHER}
    fetch(server, target)
    assert content(target) == OTHER and server.asked == ["file.tar.gz", "moved.tar.gz"]


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "//", "data:,x", "javascript:1", ""]
)
def test_other_redirects_are_refused(server, target, location):
    server.redirect = location
    with raises("download-failed"):
        fetch(server, target)
    assert os.listdir(os.path.dirname(target)) == []


def test_redirects_in_a_circle(server, target):
    server.redirect = server.address
    with raises("download-failed"):
        fetch(server, target)


@pytest.mark.parametrize("length", ["-5", "x", "9" * 40, "1e9", ""])
def test_absurd_lengths(server, target, length):
    server.content_length = length
    with contextlib.suppress(download.UserError):
        fetch(server, target)
    assert not os.path.exists(target) or content(target) == CONTENT
