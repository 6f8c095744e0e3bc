"""Files that appear whole or not at all."""

import os
import pathlib
import subprocess
import sys

import pytest

from deeplab.export.publishing import Publication, size_of, write_bytes
from deeplab.utils.errors import UserError


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def dead_process() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_nothing_has_its_name_before_all_is_published(tmp_path):
    folder = tmp_path / "new" / "export"
    with Publication(str(folder)) as publication:
        write_bytes(publication.temporary("graph.pb"), b"graph")
        write_bytes(publication.temporary("labels.txt"), b"names")
        assert all(name.startswith(".") for name in names(folder))
        assert pathlib.Path(publication.written("graph.pb")).read_bytes() == b"graph"
        paths = publication.publish()
    assert paths == [str(folder / "graph.pb"), str(folder / "labels.txt")]
    assert names(folder) == ["graph.pb", "labels.txt"]


def test_a_fault_leaves_what_was_there(tmp_path):
    (tmp_path / "graph.pb").write_text("old")
    with pytest.raises(RuntimeError), Publication(str(tmp_path)) as publication:
        write_bytes(publication.temporary("graph.pb"), b"new")
        raise RuntimeError
    assert names(tmp_path) == ["graph.pb"] and (tmp_path / "graph.pb").read_text() == "old"


def test_files_and_folders_are_replaced(tmp_path):
    (tmp_path / "graph.pb").write_text("old")
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "old").write_text("old")
    with Publication(str(tmp_path)) as publication:
        write_bytes(publication.temporary("graph.pb"), b"new")
        folder = pathlib.Path(publication.temporary("saved_model"))
        folder.mkdir()
        (folder / "new").write_text("new")
        publication.publish()
    assert names(tmp_path) == ["graph.pb", "saved_model"]
    assert names(tmp_path / "saved_model") == ["new"] and (tmp_path / "graph.pb").read_text() == "new"


def test_a_second_attempt_begins_afresh(tmp_path):
    with Publication(str(tmp_path)) as publication:
        os.mkdir(publication.temporary("saved_model"))
        write_bytes(os.path.join(publication.written("saved_model"), "first"), b"")
        assert not os.path.exists(publication.temporary("saved_model"))


def test_left_overs_of_killed_exports_go_those_of_running_ones_stay(tmp_path):
    (tmp_path / f".graph.pb.{dead_process()}.partial").write_text("half")
    (tmp_path / f".graph.pb.{os.getppid()}.partial").write_text("being written")
    (tmp_path / ".hidden").write_text("somebody's")
    with Publication(str(tmp_path)):
        assert names(tmp_path) == sorted([f".graph.pb.{os.getppid()}.partial", ".hidden"])


def test_a_folder_about_to_be_replaced_when_the_process_was_killed_is_back(tmp_path):
    kept = tmp_path / f".saved_model.replaced.{dead_process()}.partial"
    kept.mkdir()
    (kept / "saved_model.pb").write_text("old")
    with Publication(str(tmp_path)):
        assert (tmp_path / "saved_model" / "saved_model.pb").read_text() == "old"
    assert names(tmp_path) == ["saved_model"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "export").write_text("a file")
    with pytest.raises(UserError, match="cannot be made"):
        Publication(str(tmp_path / "export"))


def test_a_failing_write_says_what_is_free(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written: Is a directory") as fault:
        write_bytes(str(tmp_path), b"x" * 1_000_000)
    assert "1.0 MB are needed" in str(fault.value)


def test_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "inner" / "b").write_bytes(b"123")
    assert size_of(str(tmp_path)) == 8 and size_of(str(tmp_path / "a")) == 5


def test_a_folder_made_for_a_failed_export_goes_again(tmp_path):
    with pytest.raises(RuntimeError), Publication(str(tmp_path / "one" / "two")) as publication:
        write_bytes(publication.temporary("graph.pb"), b"new")
        raise RuntimeError
    assert names(tmp_path) == []
