"""The process: streams that are closed, full or not read, and how it ends on signals."""

import functools
import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import ctypes, os, sys, time
from deeplab.config.command_line import Command
from deeplab.utils import console

def work(given):
    console.note("a note")
    print("out" * 100_000, flush=True)
    open("opened.txt", "w").write("content")
    {work}
    open("done.txt", "w").close()

sys.exit(Command("x", work, (), "", grace={grace}).main([]))
"""


def start(folder, redirection="", work="pass", grace=1.0, **streams):
    program = folder / "program.py"
    program.write_text(PROGRAM.format(work=work, grace=grace))
    shell = f"exec {sys.executable} {program} {redirection}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # A process that a shell has put into the background ignores Ctrl-C, and so would everything that it starts.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(["bash", "-c", shell], cwd=folder, env=environment, preexec_fn=heed, **streams)


@pytest.mark.parametrize(
    "redirection",
    ["2>&-", ">&-", ">&- 2>&-", ">&- 2>&- <&-", "> /dev/full", "2> /dev/full", "> /dev/full 2>&1", "> >(head -c 5)"],
)
def test_closed_and_full_streams_do_not_change_good_work(tmp_path, redirection):
    process = start(tmp_path, redirection, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (tmp_path / "done.txt").exists() and (tmp_path / "opened.txt").read_text() == "content"
    assert b"Traceback" not in err and b"Exception ignored" not in err
    assert (b"warning: standard output cannot be written" in err) == (redirection == "> /dev/full")


def test_errors_keep_their_code_without_streams(tmp_path):
    process = start(tmp_path, ">&- 2>&-", "1 / 0")
    assert process.wait(timeout=60) == 70


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "work",
    ["time.sleep(60)", "ctypes.CDLL(None).sleep(60)"],  # the second is native code: Python's own handler has to wait
)
def test_signals_end_the_process_soon(tmp_path, sent, work):
    process = start(tmp_path, work=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (tmp_path / "opened.txt").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    before = time.monotonic()
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - before < 2
    assert b"Traceback" not in err and not (tmp_path / "done.txt").exists()


def test_a_signal_within_a_destructor_is_heeded_all_the_same(tmp_path):
    """Python drops exceptions of destructors, of which TensorFlow has slow ones; the work still gets to clean up."""
    work = """
    class Slow:
        def __del__(self):
            open("in_destructor.txt", "w").close()
            time.sleep(60)
    try:
        slow = Slow()
        del slow
        for _ in range(6000):
            time.sleep(0.01)
    finally:
        open("cleaned.txt", "w").close()
"""
    process = start(tmp_path, work=work, grace=10.0, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (tmp_path / "in_destructor.txt").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and (tmp_path / "cleaned.txt").exists()
    assert b"Traceback" not in err and b"Exception ignored" not in err


def test_what_native_code_makes_of_a_signal_is_not_printed(tmp_path):
    """TensorFlow's prints an exception by Python's hook and raises another one in its place."""
    work = """
    sys.excepthook(ValueError, ValueError("before"), None)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.excepthook(SystemError, SystemError("afterward"), None)
        raise SystemError("error without exception set")
"""
    process = start(tmp_path, work=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (tmp_path / "opened.txt").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and b"before" in err
    assert b"SystemError" not in err and b"Traceback" not in err


def test_a_command_may_use_its_grace_and_a_second_signal_ends_it(tmp_path):
    work = "\n    try: time.sleep(60)\n    except KeyboardInterrupt: print('saving', flush=True); {}"
    process = start(tmp_path, work=work.format("time.sleep(0.5); open('saved.txt', 'w')"), grace=20.0)
    while not (tmp_path / "opened.txt").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0 and (tmp_path / "saved.txt").exists()
    (tmp_path / "opened.txt").unlink()
    process = start(tmp_path, work=work.format("ctypes.CDLL(None).sleep(60)"), grace=20.0)
    while not (tmp_path / "opened.txt").exists():
        time.sleep(0.02)
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130


def test_work_whose_outer_blocks_save_gets_time_to_reach_them(tmp_path):
    work = """
    from deeplab.utils import processes
    processes.require_grace(30.0)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        processes.extend_grace(0)
        time.sleep(2)
        open("saved.txt", "w").close()
        raise
"""
    process = start(tmp_path, work=work, grace=0.1)
    while not (tmp_path / "opened.txt").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130 and (tmp_path / "saved.txt").exists()
