"""Which texts name remote files, and how copies are shown."""

import pathlib

import pytest

from deeplab.utils import remote_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gs://bucket/run", ["gs://bucket/run"]),
        ("train:s3://b/a,val:/data/b", ["s3://b/a"]),
        ("hdfs://host:9000/a b, ram://c", ["hdfs://host:9000/a b", "ram://c"]),
        ("https://host/a.jpg", []),
        ("rtsp://camera/1", []),
        ("/data/run", []),
        ("C://data", []),
        ("c://data", []),
        ("zoo:voc", []),
        ("hf://owner/model", []),
        ("", []),
    ],
)
def test_names_in_texts(text, names):
    assert remote_names.remote_names(text) == names


def test_one_name_alone():
    assert remote_names.is_remote("gs://bucket/run") and not remote_names.is_remote("train:gs://bucket/run")
    assert not remote_names.is_remote(pathlib.Path("run"))


def test_copies_are_shown_under_the_names_of_what_was_copied():
    remote_names.remember("/cache/gs/b", "gs://b")
    remote_names.remember("/cache/gs/b/run", "gs://b/run")
    try:
        assert remote_names.named("see /cache/gs/b/run/a.png, /cache/gs/b/c") == "see gs://b/run/a.png, gs://b/c"
    finally:
        remote_names.forget("/cache/gs/b")
        remote_names.forget("/cache/gs/b/run")
    assert remote_names.named("/cache/gs/b") == "/cache/gs/b"


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        *((path, True) for path in ("http://host:8501", "https://host", "grpc://host:8500/v1/models/a")),
        *((path, False) for path in ("hf://user/model", "gs://bucket/a", "runs/http", "")),
    ],
)
def test_addresses_of_servers(path, is_one):
    assert remote_names.is_server(path) is is_one
