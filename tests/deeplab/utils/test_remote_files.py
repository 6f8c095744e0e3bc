"""Remote files: what is copied, in which order, and again only when it has changed; failures that pass or stay."""

import os
import subprocess
import sys

import pytest
from support.errors import raises
from support.object_storage import ObjectStorage

from deeplab.utils import remote_files
from deeplab.utils.file_systems import Facts
from deeplab.utils.remote_names import named


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def storage(tmp_path, monkeypatch):
    storage = ObjectStorage(tmp_path / "storage")
    monkeypatch.setattr(remote_files, "file_system", lambda scheme: storage)
    return storage


def put(storage, **files):
    for name, content in files.items():
        path = storage.folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def texts(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


# ---- reading ---------------------------------------------------------------------------------------------


def test_a_folder_is_copied_once_and_then_what_has_changed(storage, tmp_path):
    put(storage, b__data__a="1", b__data__in__c="2", b__other="3")
    copy = remote_files.local_copy("x1://b/data")
    assert texts(tmp_path / "cache" / "remote" / "x1" / "b") == {"data/a": "1", "data/in/c": "2"}
    assert named(f"{copy}/a") == "x1://b/data/a"
    storage.calls.clear()
    assert remote_files.local_copy("x1://b/data") == copy and storage.calls == [("list", "b/data")]
    put(storage, b__data__a="changed")
    (storage.folder / "b/data/in/c").unlink()
    remote_files.local_copy("x1://b/data")
    assert texts(tmp_path / "cache" / "remote" / "x1" / "b") == {"data/a": "changed"}


def test_local_paths_are_left_alone(storage, tmp_path):
    assert remote_files.local_copy(tmp_path / "a") == str(tmp_path / "a")
    assert remote_files.local_copy("file:///data/a") == "/data/a"
    assert storage.calls == []


def test_a_model_comes_with_what_belongs_to_it(storage):
    put(storage, b__m__model_dot_xml="x", b__m__model_dot_bin="w", b__m__labels_dot_txt="l", b__m__huge_dot_zip="z")
    path = remote_files.local_copy("s3://b/m/model.xml")
    assert os.listdir(os.path.dirname(path)) and set(os.listdir(os.path.dirname(path))) == {
        *("model.xml", "model.bin", "labels.txt")
    }


def test_a_checkpoint_is_named_by_its_prefix(storage):
    put(storage, **{f"r__model_dot_ckpt-{step}_dot_{part}": "x" for step in (3, 30) for part in ("index", "data-0")})
    put(storage, r__config_dot_yml="c")
    path = remote_files.local_copy("s3://r/model.ckpt-3")
    held = set(os.listdir(os.path.dirname(path)))
    assert held == {"model.ckpt-3.index", "model.ckpt-3.data-0", "config.yml"}


def test_an_image_comes_alone(storage):
    put(storage, p__a_dot_jpg="1", p__labels_dot_txt="x")
    assert os.listdir(os.path.dirname(remote_files.local_copy("s3://p/a.jpg"))) == ["a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"), [("p/*.jpg", {"a.jpg"}), ("p/**/*.jpg", {"a.jpg", "in/b.jpg"}), ("p/*/*", {"in/b.jpg"})]
)
def test_patterns(storage, tmp_path, pattern, expected):
    put(storage, p__a_dot_jpg="1", p__in__b_dot_jpg="2", p__c_dot_txt="3")
    copy = remote_files.local_copy(f"gs://{pattern}")
    assert copy.endswith(pattern)
    assert set(texts(tmp_path / "cache" / "remote" / "gs" / "p")) == expected
    (storage.folder / "p/in/b.jpg").unlink()
    put(storage, p__d_dot_jpg="4", p__e__f="5")
    remote_files.local_copy(f"gs://{pattern}")
    assert "in/b.jpg" not in texts(tmp_path / "cache" / "remote" / "gs" / "p")


def test_nothing_there(storage):
    storage.folder.mkdir()
    with raises("file-not-found", where="gs://b/none"):
        remote_files.local_copy("gs://b/none")


def test_failures_that_pass_are_tried_again(storage):
    put(storage, b__a="1")
    storage.failures = {"list": [TimeoutError("slow")], "read": [OSError("reset"), OSError("reset")]}
    remote_files.local_copy("gs://b")
    assert [operation for operation, _ in storage.calls] == ["list", "list", "read", "read", "read"]


def test_failures_that_stay_are_told_and_leave_no_copy(storage, tmp_path):
    put(storage, b__a="1")
    storage.failures = {"read": [PermissionError("no right")]}
    with raises("remote-failed", where="gs://b/a") as caught:
        remote_files.local_copy("gs://b")
    assert "no right" in caught.value.rule and storage.calls.count(("read", "b/a")) == 1
    assert not texts(tmp_path / "cache" / "remote")


def test_names_that_would_leave_the_folder_are_refused(storage, monkeypatch):
    facts = Facts(1, 1)
    for name in ("../a", "b/../../a", "/etc/a", "b\\..\\a"):
        monkeypatch.setattr(storage, "files", lambda _, name=name: {name: facts})
        with raises("bad-name"):
            remote_files.local_copy("gs://b")


def test_a_full_disk_is_noticed_before(storage, monkeypatch, tmp_path):
    put(storage, b__a="12345")
    monkeypatch.setattr(remote_files, "free_space", lambda path: 4)
    with raises("unwritable-file") as caught:
        remote_files.local_copy("gs://b")
    assert "DEEPLAB_CACHE" in caught.value.hint and not texts(tmp_path / "cache")


# ---- writing ---------------------------------------------------------------------------------------------


def test_output_is_copied_whole_and_names_come_after_what_they_name(storage, tmp_path):
    with remote_files.Output("s3://b/run") as output:
        (output.folder).mkdir(parents=True)
        for name in ("checkpoint", "model.ckpt-1.index", ".deeplab.lock", ".x.1.partial"):
            (output.folder / name).write_text(name)
        (output.folder / "best").mkdir()
        (output.folder / "best" / "checkpoint").write_text("best")
        (output.folder / "best" / "model").write_text("best")
        assert output.copy() == 4
        written = [name for operation, name in storage.calls if operation == "write"]
        assert sorted(written[:2]) == ["b/run/best/model", "b/run/model.ckpt-1.index"]
        assert sorted(written[2:]) == ["b/run/best/checkpoint", "b/run/checkpoint"]
        (output.folder / "model.ckpt-1.index").unlink()
        (output.folder / "model.ckpt-2.index").write_text("2")
    assert texts(storage.folder / "b") == {
        "run/checkpoint": "checkpoint",
        "run/model.ckpt-2.index": "2",
        "run/best/checkpoint": "best",
        "run/best/model": "best",
    }
    assert storage.calls[-1] == ("remove", "b/run/model.ckpt-1.index")
    assert not os.listdir(tmp_path / "cache" / "remote-work")


def test_files_that_name_others_are_written_last(storage, tmp_path):
    for name in ("checkpoint", "dataset.yml", "model", "z/a"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    remote_files.write_files(tmp_path / "in", "gs://b/out")
    written = [name for operation, name in storage.calls if operation == "write"]
    assert sorted(written[:2]) == ["b/out/model", "b/out/z/a"]
    assert sorted(written[2:]) == ["b/out/checkpoint", "b/out/dataset.yml"]


def test_an_output_that_cannot_begin_leaves_nothing_behind(storage, tmp_path):
    storage.failures = {"list": [PermissionError("no")]}
    with raises("remote-failed"), remote_files.Output("s3://b/run"):
        raise AssertionError
    assert not os.listdir(tmp_path / "cache" / "remote-work")


def test_what_is_there_already_can_be_resumed(storage):
    put(storage, b__run__history="1\n")
    with remote_files.Output("s3://b/run") as output:
        (output.folder / "history").write_text((output.folder / "history").read_text() + "2\n")
    assert texts(storage.folder / "b") == {"run/history": "1\n2\n"}


def test_what_is_unchanged_is_not_written_again(storage):
    put(storage, b__run__a="1")
    with remote_files.Output("s3://b/run"):
        pass
    assert not [call for call in storage.calls if call[0] in ("write", "remove")]


def test_a_file_that_is_removed_while_copies_are_made_holds_back_the_names(storage, monkeypatch):
    with remote_files.Output("s3://b/run") as output:
        output.folder.mkdir(parents=True)
        (output.folder / "checkpoint").write_text("names model-1")
        (output.folder / "model-1").write_text("1")
        upload = storage.upload

        def vanishing(path, name):
            (output.folder / "model-1").unlink(missing_ok=True)
            upload(path, name)

        monkeypatch.setattr(storage, "upload", vanishing)
        assert output.copy() == 0
        assert not (storage.folder / "b").exists()
        monkeypatch.setattr(storage, "upload", upload)
        (output.folder / "checkpoint").write_text("names model-2")
        (output.folder / "model-2").write_text("2")
    assert texts(storage.folder / "b") == {"run/checkpoint": "names model-2", "run/model-2": "2"}


def test_a_name_that_is_removed_while_it_is_read_is_not_written_empty(storage, monkeypatch):
    with remote_files.Output("s3://b/run") as output:
        output.folder.mkdir(parents=True)
        (output.folder / "checkpoint").write_text("names model-1")
        read = output._content
        with monkeypatch.context() as patch:
            patch.setattr(output, "_content", lambda path: (output.folder / path).unlink() or read(path))
            assert output.copy() == 0
    assert not (storage.folder / "b").exists()


def test_copies_are_made_while_the_command_runs(storage, monkeypatch):
    monkeypatch.setattr(remote_files, "SECONDS_BETWEEN_COPIES", 0.01)
    with remote_files.Output("s3://b/run") as output:
        output.folder.mkdir(parents=True)
        (output.folder / "a").write_text("1")
        for _ in range(1000):
            if (storage.folder / "b/run/a").exists():
                break
            output._end.wait(0.01)
        assert texts(storage.folder / "b") == {"run/a": "1"}


def test_a_block_that_fails_keeps_what_it_wrote(storage):
    with pytest.raises(KeyError), remote_files.Output("s3://b/run") as output:
        output.folder.mkdir(parents=True)
        (output.folder / "a").write_text("1")
        raise KeyError
    assert texts(storage.folder / "b") == {"run/a": "1"}


def test_output_that_cannot_be_copied_stays_here(storage, tmp_path):
    with raises("remote-failed", where="s3://b/run/a") as caught, remote_files.Output("s3://b/run") as output:
        output.folder.mkdir(parents=True)
        (output.folder / "a").write_text("1")
        storage.failures = {"write": [PermissionError("read only")]}
    kept = tmp_path / "cache" / "remote-work"
    assert str(kept) in caught.value.hint and list(texts(kept).values()) == ["1"]


def test_settings_of_a_command(storage):
    put(storage, b__data__a="1", b__masks__m="2")
    given = {"image_folder": "train:gs://b/data,val:/x", "list": ("gs://b/masks", "c"), "out": "gs://b/out", "n": 3}
    given |= {"json": "gs://b/report.json"}
    with remote_files.local_settings(given, {"out": "folder", "json": "either"}) as local:
        copied = str(remote_files._cached("gs://b/data"))
        assert local["image_folder"] == f"train:{copied},val:/x" and local["n"] == 3
        assert local["list"] == (str(remote_files._cached("gs://b/masks")), "c")
        for path in (local["out"] + "/o", local["json"]):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write("r")
    assert texts(storage.folder / "b").keys() >= {"out/o", "report.json"}


@pytest.mark.parametrize(
    "setting, text",
    [
        ("image_folder", "http://host/images"),
        ("mask_folder", "train:/a,val:HTTPS://host/masks"),
        ("dataset_dir", "https://host/records"),
        ("annotations", "train:http://host/a.json"),
        ("out", "http://host/out"),
    ],
)
def test_web_addresses_are_no_folders(setting, text):
    with raises("unknown-file-system", setting), remote_files.local_settings({setting: text}, {"out": "folder"}):
        pass
    with remote_files.local_settings({"model": "http://host:8501/v1/models/a", "input": text}, {}) as local:
        assert local["input"] == text


def test_local_paths_import_neither_tensorflow_nor_fsspec():
    code = (
        "import sys; from deeplab.utils.remote_files import local_settings\n"
        "given = {'a': '/x', 'b': ('y',), 'c': 'http://h/a'}\n"
        "with local_settings(given, {'a': 'folder'}) as found: print(found['a'])\n"
        "print({'tensorflow', 'fsspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["/x", "set()"]
