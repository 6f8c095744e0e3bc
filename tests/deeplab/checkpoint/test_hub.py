"""Models on the hub: addresses, what is downloaded, what can go wrong."""

import os
import pathlib

import pytest
from support.errors import raises
from support.fake_hub import FakeHub

from deeplab.checkpoint import hub

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
FILES = {"model.ckpt-3.index": b"index", "model.ckpt-3.data-00000-of-00001": b"data", "config.yml": b"model: {}\n"}


@pytest.fixture
def server(monkeypatch, tmp_path):
    with FakeHub() as server:
        server.become_the_hub(monkeypatch, tmp_path / "cache")
        yield server


@pytest.mark.parametrize(
    ("text", "parts"),
    {
        "hf://me/hair": ("me/hair", "", ""),
        "hf://me/hair/": ("me/hair", "", ""),
        "hf://me/hair.v2@main": ("me/hair.v2", "main", ""),
        "hf://me/hair@v1.0/export/small": ("me/hair", "v1.0", "export/small"),
        "hf://me/hair/export": ("me/hair", "", "export"),
    }.items(),
)
def test_addresses(text, parts):
    address = hub.parse(text)
    assert (address.repository, address.revision, address.folder) == parts


@pytest.mark.parametrize(
    "text",
    [
        *("hf://", "hf://me", "hf://me/", "hf:///x", "hf://me/hair/../../x", "hf://me/hair/a//b", "hf://me/hair@"),
        *("hf://me/ha ir", "hf://../hair", "hf://me/hair/.", "hf://me/hair\n", "https://me/hair", "hf://me/hair?x=1"),
    ],
)
def test_what_is_no_address(text):
    with raises("bad-name", where=text):
        hub.parse(text)


def test_files_go_there_and_come_back_once(server):
    page = hub.publish({**FILES, "a/b.txt": pathlib.Path(__file__)}, "hf://me/hair", "first", private=True)
    assert page.startswith(f"{server.address}/me/hair/commit/") and server.messages == ["first"]
    assert server.private == {"me/hair"}
    folder = hub.fetch("hf://me/hair")
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert (folder / "a" / "b.txt").read_bytes() == pathlib.Path(__file__).read_bytes()
    assert not (folder / ".gitattributes").exists()  # not part of a model
    server.paths.clear()
    assert hub.fetch("hf://me/hair") == folder
    assert not [path for path in server.paths if "/resolve/" in path and not path.endswith("b.txt")]
    assert hub.local("hf://me/hair/a") == str(folder / "a")


def test_a_second_push_changes_what_the_address_means(server):
    hub.publish(FILES, "hf://me/hair", "first", private=False)
    before = hub.fetch("hf://me/hair")
    hub.publish({"config.yml": b"model: {output_stride: 8}\n"}, "hf://me/hair", "second", private=True)
    after = hub.fetch("hf://me/hair")
    assert before != after and (after / "config.yml").read_bytes() != FILES["config.yml"]
    assert (before / "config.yml").read_bytes() == FILES["config.yml"]
    assert server.private == set()  # an existing repository stays as it is


def test_only_files_of_models_are_downloaded(server):
    server.repositories["me/hair"] = {**FILES, "video.mp4": b"v", "run.py": b"p", "data/train.parquet": b"x"}
    folder = hub.fetch("hf://me/hair")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == sorted(FILES)


def test_a_name_with_signs_of_patterns_means_itself(server):
    server.repositories["me/hair"] = {"a[1].pb": b"1", "a1.pb": b"2"}
    assert (hub.fetch("hf://me/hair") / "a[1].pb").read_bytes() == b"1"


def test_what_is_not_there(server):
    with raises("not-on-hub", where="hf://me/nothing"):
        hub.fetch("hf://me/nothing")
    server.repositories["me/hair"] = {"video.mp4": b"v"}
    with raises("not-on-hub", where="hf://me/hair") as error:
        hub.fetch("hf://me/hair")
    assert "video.mp4" in error.value.hint
    with raises("not-on-hub", where="@v9"):
        hub.fetch("hf://me/hair@v9")
    server.repositories["me/hair"] = dict(FILES)
    with raises("not-on-hub", where="hf://me/hair/export"):
        hub.fetch("hf://me/hair/export")


def test_repositories_that_are_too_large(server, monkeypatch):
    server.repositories["me/hair"] = {f"{number}.pb": b"12345" for number in range(4)}
    monkeypatch.setattr(hub, "MAX_FILES", 3)
    with raises("too-large", where="hf://me/hair"):
        hub.fetch("hf://me/hair")
    monkeypatch.setattr(hub, "MAX_FILES", 4)
    monkeypatch.setattr(hub, "MAX_BYTES", 19)
    with raises("too-large", where="hf://me/hair"):
        hub.fetch("hf://me/hair")
    assert not [path for path in server.paths if "/resolve/" in path]


def test_a_token_is_needed_and_taken_from_the_environment(server, monkeypatch):
    server.token = "secret"
    for refused in (lambda: hub.fetch("hf://me/hair"), lambda: hub.publish(FILES, "hf://me/hair", "first", True)):
        with raises("hub-failed", where="hf://me/hair") as error:
            refused()
        assert "HF_TOKEN" in error.value.hint
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.publish(FILES, "hf://me/hair", "first", private=True)
    assert (hub.fetch("hf://me/hair") / "config.yml").exists()


def test_a_hub_that_does_not_answer(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with raises("hub-failed", where="hf://me/hair"):
        hub.fetch("hf://me/hair")


@pytest.mark.parametrize("status", [500, 403, 418])
def test_a_hub_that_refuses(server, monkeypatch, status):
    monkeypatch.setattr("time.sleep", lambda _: None)  # between attempts
    server.repositories["me/hair"] = dict(FILES)
    server.broken += [status] * 50
    with raises("hub-failed", where="hf://me/hair"):
        hub.fetch("hf://me/hair")


def test_telemetry_is_off(server):
    hub.publish(FILES, "hf://me/hair", "first", private=True)
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not [path for path in server.paths if "telemetry" in path]
