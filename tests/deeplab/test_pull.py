"""`deeplab pull`: a model from a hub in a folder, whole or not at all."""

import pytest
from support.fake_hub import FakeHub

from deeplab import pull

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
FILES = {"frozen_inference_graph.pb": b"graph", "sub/labels.txt": b"a\n"}


@pytest.fixture
def server(monkeypatch, tmp_path):
    with FakeHub() as server:
        server.repositories["me/hair"] = dict(FILES)
        server.become_the_hub(monkeypatch, tmp_path / "cache")
        yield server


def test_files_arrive_as_files(server, tmp_path, capsys):
    target = tmp_path / "models" / "hair"
    assert pull.COMMAND.main(["--model=hf://me/hair", f"--output_dir={target}"]) == 0
    assert {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*.*")} == FILES
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert [path.name for path in target.parent.iterdir()] == ["hair"]
    assert "frozen_inference_graph.pb" in capsys.readouterr().out


def test_nothing_is_overwritten(server, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert pull.COMMAND.main(["--model=hf://me/hair", f"--output_dir={tmp_path / 'out'}"]) == 1
    assert "[would-overwrite]" in capsys.readouterr().err and server.paths == []
    (tmp_path / "empty").mkdir()
    assert pull.COMMAND.main(["--model=hf://me/hair", f"--output_dir={tmp_path / 'empty'}"]) == 0


def test_a_copy_that_fails_leaves_nothing(server, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    assert pull.COMMAND.main(["--model=hf://me/hair", f"--output_dir={tmp_path / 'out'}"]) == 1
    assert "[unwritable-file]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("address", ["me/hair", "hf://me/hair/../x", "https://huggingface.co/me/hair"])
def test_addresses_that_are_none(server, tmp_path, address, capsys):
    assert pull.COMMAND.main([f"--model={address}", f"--output_dir={tmp_path / 'out'}"]) == 1
    assert "[bad-name]" in capsys.readouterr().err and server.paths == []
