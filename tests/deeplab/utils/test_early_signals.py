"""Ctrl-C before a command runs: no traceback, exit code 130; programs that import the package keep their handlers."""

import functools
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
# The signal comes when the module is looked for, which is the first thing that happens after the handlers are there.
MEET = """
import os, runpy, signal, sys
class Meeting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.{sent})
sys.meta_path.insert(0, Meeting())
sys.argv[1:] = ["--version"]
sys.path.insert(0, {root!r})
runpy.run_module("deeplab", run_name="__main__", alter_sys=True)
"""
SCRIPT = "import sys\nfrom deeplab.__main__ import main\nsys.exit(main())\n"  # as pip writes it


def run(words, **options):
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        check=False,
        **options,
    )


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("name", ["deeplab.config", "deeplab.config.fields", "deeplab.utils.console"])
def test_a_signal_while_modules_load_ends_it_without_a_traceback(name, sent):
    done = run(["-c", MEET.format(name=name, sent=sent, root=str(ROOT))])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_it_is_the_first_thing_that_the_entry_points_do(tmp_path):
    """Nothing of the package, and nothing of the library that takes time, is loaded before the handlers are there."""
    script = tmp_path / "deeplab"
    script.write_text("import sys\nimport deeplab\n" + SCRIPT)
    for words in (["-m", "deeplab"], [str(script)], [str(ROOT / "deeplab" / "__main__.py")]):
        done = run(["-X", "importtime", *words, "--version"])
        assert done.stdout.startswith("deeplab ")
        loaded = [
            line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
        ]
        own = [name for name in loaded if name.startswith("deeplab")]
        assert own[0] == "deeplab" or words[0].endswith("__main__.py")
        assert [name for name in own if name != "deeplab"][:2] == ["deeplab.utils", "deeplab.utils.early_signals"]
        before = loaded[: loaded.index("deeplab.utils.early_signals")]
        assert not {"tempfile", "traceback", "dataclasses", "platform", "numpy", "yaml"} & set(before)


def test_a_program_that_imports_the_package_keeps_its_handlers():
    code = "import signal, deeplab.__main__; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert run(["-c", code]).stdout == "True\n"


def test_ctrl_c_stays_ignored_where_it_is_ignored():
    code = MEET.format(name="deeplab.config", sent="SIGINT", root=str(ROOT))
    done = run(["-c", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + code])
    assert done.returncode == 0 and done.stdout.startswith("deeplab ")
