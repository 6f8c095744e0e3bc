"""The file systems of TensorFlow and of fsspec, with a battery that each must pass."""

import pytest
from support.errors import raises

from deeplab.utils import file_systems, remote_files


@pytest.fixture
def s3(monkeypatch):
    """A server of S3 on this machine, with a bucket `battery`."""
    server = pytest.importorskip("moto.server", reason='pip install s3fs "moto[server]"')
    pytest.importorskip("s3fs", reason='pip install s3fs "moto[server]"')
    import boto3

    started = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    started.start()
    address = "http://{}:{}".format(*started.get_host_and_port())
    for name, value in (("ENDPOINT_URL", address), ("ACCESS_KEY_ID", "any"), ("SECRET_ACCESS_KEY", "any")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="battery")
    file_systems.file_system.cache_clear()
    yield
    file_systems.file_system.cache_clear()
    started.stop()


@pytest.mark.parametrize("scheme", ["ram", "memory", "s3"])  # of tf.io.gfile, of fsspec, and of a server
def test_file_systems(scheme, tmp_path, request):
    pytest.importorskip("fsspec", reason="the extra remote is not installed")
    if scheme == "s3":
        request.getfixturevalue("s3")
    system, root = file_systems.file_system(scheme), f"{scheme}://battery"
    (tmp_path / "a").write_text("one")
    system.upload(str(tmp_path / "a"), f"{root}/in/a.txt")
    system.upload(str(tmp_path / "a"), f"{root}/b.txt")
    (tmp_path / "a").write_text("longer")
    system.upload(str(tmp_path / "a"), f"{root}/in/a.txt")
    assert {path: facts.size for path, facts in system.files(root).items()} == {"in/a.txt": 6, "b.txt": 3}
    assert list(system.files(f"{root}/b.txt")) == [""] and system.files(f"{root}/none") == {}
    assert "b.txt" in system.names_in(root)
    system.download(f"{root}/in/a.txt", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "longer"
    system.remove(f"{root}/b.txt")
    system.remove(f"{root}/b.txt")
    assert list(system.files(root)) == ["in/a.txt"]
    with remote_files.Output(f"{root}/out") as output:
        output.folder.mkdir(parents=True)
        (output.folder / "x").write_text("x")
    assert remote_files.read_bytes(f"{root}/out/x") == b"x"
    assert remote_files.list_files(root) == [f"{root}/in/a.txt", f"{root}/out/x"]


def test_a_file_system_that_is_not_installed():
    with raises("unknown-file-system") as caught:
        file_systems.file_system("nosuchscheme")
    assert caught.value.value == "nosuchscheme"


def test_a_bucket_that_does_not_exist(s3):
    with raises("remote-failed", where="s3://none/run"):
        remote_files.local_copy("s3://none/run")
    with raises("file-not-found", where="s3://battery/none"):
        remote_files.local_copy("s3://battery/none")
