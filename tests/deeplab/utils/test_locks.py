"""Locks on folders: one holder at a time, also among processes, and none after a kill."""

import os
import signal
import subprocess
import sys

import pytest
from support.errors import raises

from deeplab.utils.locks import folder_lock, is_running

HOLDER = """
import sys, time
from deeplab.utils.locks import folder_lock
with folder_lock(sys.argv[1], "training", "give another folder"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_holder_at_a_time(tmp_path):
    with folder_lock(tmp_path, "drawing", "give another folder"):
        with raises("folder-in-use", where=tmp_path) as info, folder_lock(tmp_path, "drawing", "give another folder"):
            pass
        assert "drawing" in info.value.rule and "give another folder" in info.value.hint
    with folder_lock(tmp_path, "drawing", ""):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_process_holds_it_until_it_is_killed(tmp_path, holder):
    with raises("folder-in-use", where=tmp_path), folder_lock(tmp_path, "training", "wait"):
        pass
    assert is_running(holder.pid)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_running(holder.pid)
    with folder_lock(tmp_path, "training", "wait"):
        pass


def test_a_folder_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with folder_lock(tmp_path, "training", "wait"):
        pass
    assert "cannot be locked (Operation not supported)" in capsys.readouterr().err


def test_processes_of_others_run_too():
    assert is_running(os.getpid()) and is_running(1)
