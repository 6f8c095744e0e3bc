"""The site of docs/: pages that are made from the program, and a strict build where mkdocs is installed."""

import ast
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

from deeplab import __all__ as public
from deeplab import __main__ as program
from deeplab.config.fields import fields_of

ROOT = pathlib.Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "scripts" / "site_hooks.py")
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)
NAMES = [name for commands in program.COMMANDS.values() for name in commands]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_page_with_all_its_flags(name):
    page = hooks.pages()[f"commands/{name}.md"]
    command = program.command_of(name)
    words = command.word.choices() if command.word else [""]
    for word in words:
        for flag, (field, _) in fields_of(command.groups_for(word)).items():
            assert field.metadata["retired"] or f"| `--{flag}` (" in page, flag


def test_the_api_page_has_what_is_public():
    page = hooks.api_page()
    modules = {"__version__", "losses"}
    assert [name for name in public if f"## {name}\n" not in page and name not in modules] == []


def test_links_that_lead_out_of_the_site_become_text():
    class File:
        src_uri = "data.md"

    class Page:
        file = File

    text = "[in](training.md) [out](../setup.py) [web](https://a.b) [place](#x) [missing](nothing.md)"
    assert hooks.on_page_markdown(text, Page, None, None) == text.replace("[out](../setup.py)", "out")


def test_links_of_the_first_page_lead_to_pages():
    page = hooks.index()
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page)
    assert len(targets) > 5 and [name for name in targets if not (ROOT / "docs" / name).is_file()] == []
    assert "CHANGELOG.md lists" in page


def test_no_tensorflow_is_imported():
    tree = ast.parse((ROOT / "scripts" / "site_hooks.py").read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert "tensorflow" not in names


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="needs requirements-docs.txt")
    pytest.importorskip("material", reason="needs requirements-docs.txt")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "train_batch_size" in (tmp_path / "site" / "commands" / "train" / "index.html").read_text(encoding="utf-8")
