"""Downloads against a server on this machine that cuts off, stalls, forgets and changes its mind."""

import os

import numpy as np
import pytest
from support.file_server import FileServer

from deeplab.utils import disk, download
from deeplab.utils.errors import UserError

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
    with open(target + download.FACTS, "w") as file:
        file.write(download.json.dumps(known))


def test_whole_file_and_nothing_else(server, target, capfd):
    assert fetch(server, target) == target
    assert content(target) == CONTENT
    assert os.listdir(os.path.dirname(target)) == ["file.tar.gz"]
    shown = capfd.readouterr().err
    assert "file.tar.gz" in shown and "1.00M/1.00M" in shown


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
    assert "cannot be resumed, or has changed" in capfd.readouterr().err


def test_changed_file_starts_again(server, target):
    begin(server, target, 400_000)
    server.content, server.etag = OTHER, '"two"'
    fetch(server, target)
    assert content(target) == OTHER


def test_changed_file_is_noticed_though_the_server_ignores_the_condition(server, target, monkeypatch):
    begin(server, target, 400_000)
    server.content, server.etag = OTHER, '"two"'
    monkeypatch.setattr(download.Facts, "mark", "")  # no If-Range is sent, so the server answers 206
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
    with pytest.raises(download.Unreachable, match=r"404 Not Found\s+hint: bring it by hand"):
        fetch(server, target)
    assert server.requests == [None] and not os.path.exists(target)


def test_server_that_falls_silent(server, target):
    server.stall_after = 400_000
    fetch(server, target, timeout=0.4)  # each attempt brings something, so it goes on
    assert content(target) == CONTENT
    assert "bytes=400000-" in server.requests and "bytes=800000-" in server.requests


def test_server_that_stays_silent(server, target):
    begin(server, target, 400_000)
    server.stall_after = 0
    with pytest.raises(download.Unreachable, match="no answer in time") as caught:
        fetch(server, target, timeout=0.1)
    assert "0.4 MB of it are here" in caught.value.rule and len(server.requests) == download.ATTEMPTS
    assert not os.path.exists(target)


def test_no_network(tmp_path):
    with pytest.raises(download.Unreachable, match="bring it by hand"):
        download.fetch("http://127.0.0.1:9/x", str(tmp_path / "x"), "bring it by hand", sleep=lambda seconds: None)
    assert os.listdir(tmp_path) == []


def test_only_web_addresses(tmp_path):
    with pytest.raises(UserError, match="only http and https"):
        download.fetch("file:///etc/passwd", str(tmp_path / "x"), "")


def test_no_room(server, target, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"1 MB are to come and 0 MB are free"):
        fetch(server, target)


def test_absurdly_long_file(server, target):
    allowance = download.Allowance(1000, "no letter is that long", "make room")
    with pytest.raises(UserError, match="would be 1000000 bytes long; no letter is that long"):
        fetch(server, target, allowance=allowance)
    assert os.listdir(os.path.dirname(target)) == []


def test_web_page_in_place_of_the_file(server, target):
    server.content, server.content_type = b"<html>please log in</html>", "text/html; charset=utf-8"
    with pytest.raises(download.Unreachable, match=r"(?s)sends a web page in place of the file.*bring it by hand"):
        fetch(server, target)
    assert len(server.requests) == 1 and os.listdir(os.path.dirname(target)) == []


def test_empty_file(server, target):
    server.content = b""
    with pytest.raises(download.Unreachable, match="sends an empty file"):
        fetch(server, target)
    assert len(server.requests) == 1 and os.listdir(os.path.dirname(target)) == []


def test_one_of_several_files(server, target):
    server.others = {"other.zip": OTHER}
    download.fetch(server.address_of("other.zip"), target, "")
    assert content(target) == OTHER and server.asked == ["other.zip"]
