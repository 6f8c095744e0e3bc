"""README.md, docs/ and notebooks/: command lines are parsed by the real parser, flags and linked files exist."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import shlex
import sys

import pytest

from deeplab import __main__ as program
from deeplab.config import command_line
from deeplab.config.command_line import Command
from deeplab.config.fields import fields_of
from deeplab.utils.early_signals import STOPPED
from deeplab.utils.errors import LOST

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    *(ROOT / "README.md", ROOT / "benchmarks" / "README.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
EVERYWHERE = {"--help", "--helpfull", "--config", "--flagfile", "--logtostderr", "--version"}  # flags of every command
FOREIGN = {
    "--boxes",
    "--data",
    "--images",
    "--masks",
    "--shards",
    "--classes_path",
    "--runner",
    "--sbd",
}  # of other programs
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]+")
PLACEHOLDERS = {"FORMAT": "folder", "COMMAND": "train"}


def test_the_page_on_errors_lists_every_exit_code():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)]
    own = {command_line.OK, command_line.ERROR, command_line.USAGE, command_line.CHECK_FAILED}
    assert listed == sorted(own | {command_line.BUG, LOST, STOPPED})


class Parsed(BaseException):
    """Ends a command after its flags have been parsed."""


@pytest.fixture
def only_parse(monkeypatch):
    """Makes every command end with `Parsed` where it would begin to work."""
    parse = Command.parse

    def parse_and_stop(command, words):
        if parse(command, words) is None:  # a help page was printed
            return None
        raise Parsed

    monkeypatch.setattr(Command, "parse", parse_and_stop)


def text_of(path: pathlib.Path) -> str:
    """The text of a page; of a notebook, that between its cells of code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def code_lines(text: str) -> list[str]:
    """Lines of code blocks (fenced, or indented by four spaces), continued lines joined, remarks removed."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    fenced = [block for kind, block in blocks if kind not in ("python", "text")]
    indented = re.findall(r"^    (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    lines = "\n".join([*fenced, *indented]).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#\s.*$", "", line).strip() for line in lines]


def command_lines(path: pathlib.Path) -> list[str]:
    """The lines that run something of this repository, and such code in running text."""
    text = text_of(path)
    spans = re.findall(r"`(deeplab [a-z_-]+(?: [^`]*)?|python (?:deeplab|datasets)/[^`]*)`", re.sub(r"\s+", " ", text))
    starts = ("deeplab ", "python ", "bash scripts/", "scripts/")
    return list(dict.fromkeys(line for line in [*code_lines(text), *spans] if line.startswith(starts)))


def words_of(line: str) -> list[str]:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line.split(" | ")[0].split(" > ")[0])]
    return [word for word in words if word not in ("...", "--flags", "--flag=value")]


def parse(line: str, monkeypatch) -> None:
    """Parses one command line the way the program itself would.

    Raises:
      Parsed: it is valid.
    """
    words = words_of(line)
    if words[0] in ("bash", "python") and words[1] != "-m":
        words = words[1:]
    script = ROOT / words[0]
    if words[0] == "python":  # -m MODULE
        module = words[2].removeprefix("deeplab.")
        words = [words[2], *words[3:]] if "." in module else ["deeplab", module, *words[3:]]
    elif words[0].endswith(".sh"):
        assert script.is_file(), script
        target = re.search(r'python "\$ROOT/\w+/(\w+)\.py"', script.read_text())
        if target is None:
            raise Parsed
        places = len(re.findall(r"^\w+=\"\$\{\d:\?", script.read_text(), re.M))
        assert len([word for word in words[1:] if not word.startswith("--")]) == places, line
        words = ["deeplab", target[1], *words[1 + places :]]
    elif words[0].startswith("benchmarks/"):
        text = script.read_text()
        assert all(flag in text for flag in FLAG.findall(line)), line
        raise Parsed
    elif words[0] != "deeplab":
        assert script.is_file(), script
        words = ["deeplab", script.stem, *words[1:]]
    monkeypatch.setattr(sys, "argv", words)
    code = program.main() if words[0] == "deeplab" else importlib.import_module(words[0]).main()
    assert code == 0 and ("--help" in words or len(words) < 3), line  # a list of commands or formats was printed
    raise Parsed


CASES = [pytest.param(line, id=f"{path.name}:{line[:60]}") for path in PAGES for line in command_lines(path)]


@pytest.mark.parametrize("line", CASES)
def test_command_lines_are_valid(line, only_parse, monkeypatch, capsys):
    with pytest.raises(Parsed):
        parse(line, monkeypatch)


@pytest.fixture(scope="module")
def known_flags():
    """All flags of all commands, formats and benchmarks."""
    from deeplab.data.readers import FORMATS

    known = EVERYWHERE | FOREIGN
    for path in (ROOT / "benchmarks").glob("*.py"):
        known |= set(FLAG.findall(path.read_text(encoding="utf-8")))
    for name in (name for commands in program.COMMANDS.values() for name in commands):
        command = program.command_of(name)
        for word in ("", *FORMATS) if name in ("check_data", "fit") else FORMATS if name == "build_data" else ("",):
            known |= {f"--{flag}" for flag in fields_of(command.groups_for(word))}
    return known


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_flags_in_running_text_exist(path, known_flags):
    text = text_of(path)
    if path.parent.name == "migration":  # the first column, and blocks of plain text, are of other programs
        text = re.sub(r"^```text\n.*?^```|^\|[^|]*\|", "", text, flags=re.M | re.S)
    assert sorted(set(FLAG.findall(text)) - known_flags - {"--flags", "--flag"}) == []


OTHERS = [
    *(
        path
        for folder in ("scripts", "docker", "datasets", "examples", "configs", ".ci")
        for path in (ROOT / folder).rglob("*")
    ),
    *(path for folder in ("deeplab", "slim", "benchmarks") for path in (ROOT / folder).rglob("*.*")),
    *(ROOT / "notebooks").glob("*.ipynb"),
]
SUFFIXES = {
    "",
    ".sh",
    ".py",
    ".mjs",
    ".cpp",
    ".yml",
    ".yaml",
    ".j2",
    ".js",
    ".html",
    ".ipynb",
    ".sbatch",
    ".gpu",
    ".palette",
}
OF_SCRIPTS = {"--by_person", "--original_gt_folder"}  # of one shell script; an old name


def test_flags_with_underscores_exist_wherever_they_are_named(known_flags):
    """Scripts, remarks, docstrings and messages name flags, too; other programs have none with underscores."""
    found = {}
    for path in OTHERS:
        if path.is_file() and path.suffix in SUFFIXES:
            for flag in set(FLAG.findall(path.read_text(encoding="utf-8"))) - known_flags - OF_SCRIPTS:
                if "_" in flag:
                    found.setdefault(flag, str(path.relative_to(ROOT)))
    assert found == {}


MODELS = re.compile(r"--(?:model|checkpoint_path|checkpoint_dir|tf_initial_checkpoint|distill_from)=(runs/[\w/]+)")


def test_models_in_command_lines_are_where_trainings_put_them():
    """Readers go from page to page: a folder of checkpoints has one name, which `train` or `fit` has given it."""
    texts = {path: text_of(path) for path in PAGES}
    trained = {folder for text in texts.values() for folder in re.findall(r"--train_logdir=(runs/[\w/]+)", text)}
    trained |= {f"{folder}/train" for text in texts.values() for folder in re.findall(r"--output=(runs/[\w/]+)", text)}
    lost = {
        (path.name, model)
        for path, text in texts.items()
        for model in MODELS.findall(text)
        if "/export" not in model and not any(f"{model}/".startswith(f"{folder}/") for folder in trained)
    }
    assert lost == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", text_of(path)):
        if target and not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_named_files_exist(path):
    text = re.sub(r"^```.*?^```|^    .*$", "", text_of(path), flags=re.M | re.S)
    for name in re.findall(r"`((?:deeplab|slim|tests|datasets|scripts|docs|benchmarks)/[\w./-]*)`", text):
        assert (ROOT / name).exists() or "tiny" in name or "NAME" in name, name


def test_the_readme_is_short_and_begins_with_its_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    assert command_lines(ROOT / "README.md")[:2] == ["bash scripts/quickstart.sh", "bash scripts/test.sh"]
