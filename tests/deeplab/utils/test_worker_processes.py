"""Commands that run together: their lines, their ends. A script in place of ssh tests the way to other hosts."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from support.errors import raises

from deeplab.utils import worker_processes
from deeplab.utils.errors import LOST
from deeplab.utils.processes import children
from deeplab.utils.worker_processes import Worker, run_together

ROOT = pathlib.Path(worker_processes.__file__).parents[2]


def worker(name, script, folder, ssh=()):
    return Worker(name, [sys.executable, "-c", script], str(folder), {"task": {"name": name}}, ssh)


def test_lines_are_prefixed_and_codes_kept(tmp_path, capfd):
    script = "import os; print(os.environ['TF_CONFIG']); print(os.getcwd()); print('é'); raise SystemExit({})"
    codes = run_together([worker(name, script.format(code), tmp_path) for name, code in (("a", 0), ("b", 3))])
    assert codes == [0, 3]
    lines = capfd.readouterr().err.splitlines()
    for name in "ab":
        own = [line.removeprefix(f"{name}| ") for line in lines if line.startswith(f"{name}| ")]
        assert own == [f'{{"task": {{"name": "{name}"}}}}', str(tmp_path), "é"]


def test_a_signal_that_ended_a_command_is_its_code(tmp_path, capfd):
    assert run_together([worker("a", "import os; os.kill(os.getpid(), 9)", tmp_path)]) == [137]
    assert "a was ended by signal 9" in capfd.readouterr().err


def test_words_for_ssh_survive_its_shell(tmp_path, capfd):
    """ssh hands its words to the login shell of the host, joined by spaces."""
    ssh = tmp_path / "fake ssh"
    ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    folder = tmp_path / 'it\'s a "folder" $HOME'
    folder.mkdir()
    script = "import os; print(os.getcwd()); print('a \"b\" $c')"
    assert run_together([worker("far", script, folder, (str(ssh), "host"))]) == [0]
    assert capfd.readouterr().err.splitlines() == [f"far| {folder}", 'far| a "b" $c']


def test_others_are_told_to_end_when_one_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_processes, "_SECONDS_TO_NOTICE", 0.2)
    waits = "import time; time.sleep(100)"
    codes = run_together([worker("a", "raise SystemExit(5)", tmp_path), worker("b", waits, tmp_path)])
    assert codes == [5, LOST]


@pytest.fixture()
def ssh(tmp_path):
    """Makes a program that is used in place of ssh."""

    def make(script):
        path = tmp_path / "ssh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return (str(path), "host")

    return make


REFUSES = "echo 'ssh: Could not resolve hostname hsot: Name or service not known' >&2; exit 255"


@pytest.mark.parametrize(
    ("script", "code"),
    [(REFUSES, 255), ("sleep 100", None), ("echo 'host: Permission denied (publickey,password).' >&2; exit 255", 255)],
)
def test_a_host_that_cannot_be_reached_ends_all(tmp_path, monkeypatch, capfd, ssh, script, code):
    monkeypatch.setattr(worker_processes, "_SECONDS_TO_REACH", 3 if code is None else 60)
    waits = "import time; print('here', flush=True); time.sleep(1000)"
    begin = time.monotonic()
    with raises("worker-not-started", where="far") as info:
        run_together([worker("near", waits, tmp_path), worker("far", "", tmp_path, ssh(script))])
    assert info.value.value == code and time.monotonic() - begin < 50
    assert code is None or "far| " in capfd.readouterr().err  # what ssh says
    assert not [each for each in children() if "sleep" in command_of(each)]


def command_of(process):
    try:
        return pathlib.Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def test_what_is_not_there(tmp_path, ssh):
    """Folder, Python, ssh itself: no worker of the others is left."""
    waits = worker("near", "import time; time.sleep(1000)", tmp_path)
    local = ssh('shift\nexec sh -c "$*"')
    for missing in (
        worker("far", "", tmp_path / "nowhere", local),
        worker("far", "", tmp_path / "nowhere"),
        Worker("far", ["no-such-python", "-c", ""], str(tmp_path), {}, local),
        worker("far", "", tmp_path, (str(tmp_path / "no ssh"), "host")),
    ):
        with raises("worker-not-started", where="far"):
            run_together([waits, missing])
        assert not [each for each in children() if "time.sleep" in command_of(each)]


PROGRAM = """
import sys, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from deeplab.utils.worker_processes import Worker, run_together
script = {script!r}
workers = [Worker(name, [sys.executable, "-c", script], ".", {{}}) for name in "ab"]
try:
    run_together(workers)
except KeyboardInterrupt:
    sys.exit(130)
"""
PATIENT = """
import pathlib, signal, sys, time
def end(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
DEAF = PATIENT.replace("    sys.exit(0)\n", "")


def hear_signals():
    """What runs in the background or under nohup ignores them, and so would everything that it starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def started(script, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", PROGRAM.format(script=script)]
    process = subprocess.Popen(
        program, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals
    )
    for _ in range(2):
        assert process.stderr.readline().endswith("ready\n")
    return process


@pytest.mark.parametrize("deaf", [False, True])
def test_ctrl_c_ends_all(tmp_path, deaf):
    process = started(DEAF if deaf else PATIENT, tmp_path)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    if deaf:  # a second Ctrl-C kills what does not end by itself
        said = [process.stderr.readline() for _ in range(3)]
        assert sum("saved" in line for line in said) == 2 and sum("waiting for" in line for line in said) == 1
        process.send_signal(signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode != 0 and (deaf or rest.count("| saved\n") == 2)
    assert time.monotonic() - begin < 30  # far below the 120 seconds after which patience ends


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_commands_end_when_their_launcher_is_killed(tmp_path, number):
    script = PATIENT.replace('    print("saved", flush=True)', '    pathlib.Path("ended").touch()')
    process = started(script, tmp_path)
    process.send_signal(number)
    process.wait()
    end = time.monotonic() + 60
    while time.monotonic() < end and not (tmp_path / "ended").exists():
        time.sleep(0.05)
    assert (tmp_path / "ended").exists()
    with contextlib.suppress(OSError):
        process.stderr.close()
