"""Files that are written whole or not at all: one file, several together, kills, full disks, devices."""

import errno
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import threading
import time

import pytest
from support import killed_transaction
from support.errors import raises

from deeplab.utils import files
from deeplab.utils.files import Transaction, locked_folder, made_folder, partial_path, write_atomically


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def dead_process() -> int:
    """Return the number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


class TestOneFile:
    def test_new_and_replaced(self, tmp_path):
        write_atomically(tmp_path / "a", b"1")
        write_atomically(tmp_path / "a", "zwei \u00fc")
        assert (tmp_path / "a").read_text(encoding="utf-8") == "zwei \u00fc" and names(tmp_path) == ["a"]

    def test_a_full_disk_leaves_the_old_file(self, tmp_path, monkeypatch):
        write_atomically(tmp_path / "a", b"old")
        monkeypatch.setattr(os, "fsync", full_disk)
        with raises("unwritable-file", where=tmp_path / "a") as info:
            write_atomically(tmp_path / "a", bytes(2_000_000))
        assert "No space left on device" in info.value.rule and "2.0 MB are needed" in info.value.hint
        assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]

    def test_a_missing_folder(self, tmp_path):
        with raises("unwritable-file", where=tmp_path):
            write_atomically(tmp_path / "none" / "a", b"")

    def test_a_folder_is_not_replaced(self, tmp_path):
        with raises("not-a-file", where=tmp_path):
            write_atomically(tmp_path, b"")

    def test_a_pipe_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with raises("not-a-file", where="pipe"):
            write_atomically(tmp_path / "pipe", b"")
        assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode) and names(tmp_path) == ["pipe"]

    def test_a_device_is_not_replaced(self):
        with raises("not-a-file", where="/dev/null"):
            write_atomically("/dev/null", b"")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_a_link_stays_and_its_target_is_replaced(self, tmp_path):
        (tmp_path / "inner").mkdir()
        (tmp_path / "link").symlink_to("inner/target")
        for content in (b"made through a dangling link", b"replaced"):
            write_atomically(tmp_path / "link", content)
            assert (tmp_path / "link").is_symlink() and (tmp_path / "inner" / "target").read_bytes() == content
        assert names(tmp_path) == ["inner", "link"] and names(tmp_path / "inner") == ["target"]


class TestLeftovers:
    def test_those_of_killed_processes_go_those_of_running_ones_stay(self, tmp_path):
        dead, running = f".a.{dead_process()}.partial", f".b.{os.getppid()}.partial"
        (tmp_path / dead).mkdir()
        (tmp_path / dead / "inner").touch()
        for name in (running, "c.partial", ".hidden"):
            (tmp_path / name).touch()
        assert files.remove_partial(tmp_path) == [dead]
        assert names(tmp_path) == sorted([running, "c.partial", ".hidden"])
        assert files.remove_partial(tmp_path, of_running=True) == [running]

    def test_those_of_other_machines_go_after_a_day(self, tmp_path, monkeypatch):
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "other")
            elsewhere.setattr(os, "getpid", dead_process)
            young, old, folder = (partial_path(tmp_path / name) for name in ("young", "old", "folder"))
        dead = tmp_path / partial_path("dead").name.replace(f"-{os.getpid()}.", f"-{dead_process()}.")
        folder.mkdir()
        for path in (young, old, dead, folder / "being written"):
            path.touch()
        for path in (old, folder):
            os.utime(path, (0, time.time() - files.STALE_SECONDS - 60))
        assert files.remove_partial(tmp_path) == sorted([old.name, dead.name])
        assert names(tmp_path) == sorted([young.name, folder.name])
        os.utime(folder / "being written", (0, 0))
        os.utime(folder, (0, 0))
        assert files.remove_partial(tmp_path) == [folder.name]

    def test_temporary_names(self):
        path = partial_path("x/a.png")
        assert re.fullmatch(rf"\.a\.png\.[0-9a-f]{{8}}-{os.getpid()}\.partial", path.name)
        assert path.parent == pathlib.Path("x") and len(path.name) <= len("a.png") + files.MAX_PARTIAL
        assert partial_path("x/a.png", 7) == pathlib.Path("x/.a.png.7.partial")


class TestFolder:
    def test_made_ones_go_with_the_error(self, tmp_path):
        with pytest.raises(RuntimeError), made_folder(tmp_path / "one" / "two"):
            raise RuntimeError
        assert names(tmp_path) == []

    def test_used_ones_stay(self, tmp_path):
        with pytest.raises(RuntimeError), made_folder(tmp_path / "one"):
            (tmp_path / "one" / "a").touch()
            raise RuntimeError
        assert names(tmp_path) == ["one"]

    def test_a_locked_one_is_held_and_has_no_leftovers_of_killed_processes(self, tmp_path):
        for name in (".a.png.999999999.partial", f".b.png.{os.getpid()}.partial", ".c", "d.partial"):
            (tmp_path / name).touch()
        with locked_folder(tmp_path, "drawing", "vis_logdir"):
            assert names(tmp_path) == sorted([f".b.png.{os.getpid()}.partial", ".c", ".deeplab.lock", "d.partial"])
            with raises("folder-in-use", where=tmp_path) as info, locked_folder(tmp_path, "drawing", "vis_logdir"):
                pass
        assert info.value.hint == "wait, or give another `vis_logdir`"
        with pytest.raises(RuntimeError), locked_folder(tmp_path / "one" / "two", "drawing"):
            raise RuntimeError
        assert not (tmp_path / "one").exists()

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "a").touch()
        with raises("unwritable-folder", "output_dir") as info, made_folder(tmp_path / "a" / "b"):
            pass
        assert info.value.value == str(tmp_path / "a" / "b") and names(tmp_path) == ["a"]

    def test_sizes(self, tmp_path):
        (tmp_path / "inner").mkdir()
        (tmp_path / "a").write_bytes(b"12345")
        (tmp_path / "inner" / "b").write_bytes(b"123")
        assert files.size_of(tmp_path) == 8 and files.size_of(tmp_path / "a") == 5


class TestTransaction:
    def test_nothing_has_its_name_before_the_commit(self, tmp_path):
        folder = tmp_path / "new" / "export"
        with Transaction(folder) as transaction:
            transaction.temporary("graph.pb").write_bytes(b"graph")
            transaction.temporary("labels.txt").write_bytes(b"names")
            assert all(name.startswith(".") for name in names(folder))
            assert transaction.written("graph.pb").read_bytes() == b"graph"
            paths = transaction.commit()
        assert paths == [folder / "graph.pb", folder / "labels.txt"]
        assert names(folder) == ["graph.pb", "labels.txt"]

    def test_an_error_leaves_what_was_there(self, tmp_path):
        (tmp_path / "graph.pb").write_text("old")
        with pytest.raises(RuntimeError), Transaction(tmp_path) as transaction:
            transaction.temporary("graph.pb").write_bytes(b"new")
            raise RuntimeError
        assert names(tmp_path) == ["graph.pb"] and (tmp_path / "graph.pb").read_text() == "old"

    def test_files_and_folders_are_replaced_and_discarded(self, tmp_path):
        killed_transaction.make(tmp_path, killed_transaction.OLD)
        killed_transaction.change(tmp_path)
        assert killed_transaction.content(tmp_path) == killed_transaction.NEW
        assert names(tmp_path) == ["a.txt", "b.txt", "c.txt", "model"]

    def test_a_second_attempt_starts_from_nothing(self, tmp_path):
        with Transaction(tmp_path) as transaction:
            transaction.temporary("saved_model").mkdir()
            (transaction.written("saved_model") / "first").touch()
            assert not transaction.temporary("saved_model").exists()

    def test_a_disk_that_refuses_in_the_middle(self, tmp_path, monkeypatch):
        killed_transaction.make(tmp_path, killed_transaction.OLD)
        real = os.replace

        def refuse(source, target):
            if str(target).endswith("c.txt"):
                full_disk()
            real(source, target)

        monkeypatch.setattr(os, "replace", refuse)
        with raises("unwritable-file", where=tmp_path):
            killed_transaction.change(tmp_path)
        assert killed_transaction.content(tmp_path) == killed_transaction.OLD

    def test_a_pipe_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "a.txt")
        with raises("not-a-file", where="a.txt"):
            killed_transaction.change(tmp_path)
        assert names(tmp_path) == ["a.txt"]

    def test_a_kill_at_any_step_leaves_the_old_content_or_the_new(self, tmp_path):
        command = [sys.executable, "-m", "support.killed_transaction", str(tmp_path / "work")]
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=True)
        outcomes = [json.loads(line) for line in run.stdout.splitlines()]
        assert outcomes[-1] == killed_transaction.NEW and len(outcomes) > 15
        assert [found for found in outcomes if found not in (killed_transaction.OLD, killed_transaction.NEW)] == []
        assert outcomes == sorted(outcomes, key=lambda found: found == killed_transaction.NEW)

    def test_a_commit_of_a_running_process_is_let_be(self, tmp_path):
        journal = {"process": os.getppid(), "new": ["a"], "existing": []}
        (tmp_path / "a").touch()
        (tmp_path / ".deeplab-transaction.json").write_text(json.dumps(journal))
        assert files.roll_back(tmp_path) == [] and (tmp_path / "a").exists()

    def test_a_young_commit_of_another_machine_is_let_be(self, tmp_path):
        journal = tmp_path / ".deeplab-transaction.json"
        journal.write_text(json.dumps({"process": f"00000000-{dead_process()}", "new": ["a"], "existing": []}))
        (tmp_path / "a").touch()
        assert files.roll_back(tmp_path) == [] and (tmp_path / "a").exists()
        os.utime(journal, (0, 0))
        assert files.roll_back(tmp_path) == ["a"] and names(tmp_path) == []

    def test_a_second_one_waits_for_its_turn(self, tmp_path):
        order = []

        def second():
            with files.transaction_in_turn(tmp_path) as transaction:
                order.append("second")
                transaction.temporary("a").write_text("second")
                transaction.commit()

        with files.transaction_in_turn(tmp_path) as transaction:
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(0.3)
            order.append("first")
            transaction.temporary("a").write_text("first")
            transaction.commit()
        thread.join()
        assert order == ["first", "second"] and (tmp_path / "a").read_text() == "second"
        assert names(tmp_path) == ["a"]

    def test_a_turn_that_does_not_come(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "_MAX_TURN", 0.1)
        with (
            files.transaction_in_turn(tmp_path),
            raises("folder-in-use", where=tmp_path),
            files.transaction_in_turn(tmp_path),
        ):
            pass

    def test_a_folder_about_to_be_replaced_at_the_kill_returns(self, tmp_path):
        kept = tmp_path / f".saved_model.replaced.{dead_process()}.partial"
        kept.mkdir()
        (kept / "saved_model.pb").write_text("old")
        with Transaction(tmp_path):
            assert (tmp_path / "saved_model" / "saved_model.pb").read_text() == "old"
        assert names(tmp_path) == ["saved_model"]

    def test_a_file_in_the_place_of_the_folder(self, tmp_path):
        (tmp_path / "export").write_text("a file")
        with raises("unwritable-folder", "export_path"):
            Transaction(tmp_path / "export", field="export_path")
