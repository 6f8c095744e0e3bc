"""Hooks of mkdocs: pages that are made from the program itself.

`index.md` is the README, `commands/NAME.md` the flags of each command, `api.md` the docstrings of what
`deeplab.__all__` names. Links that lead out of docs/ become plain text, because the site has only docs/. Imports no
TensorFlow.
"""

from __future__ import annotations

import ast
import dataclasses
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deeplab import __main__ as program  # noqa: E402
from deeplab.config.fields import kind_of  # noqa: E402

_OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#]*)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    from mkdocs.structure.files import File

    for name, content in {**pages(), "index.md": index()}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_config(config: Any) -> Any:
    """Lists the pages of the folders in the navigation."""
    for entry in config["nav"]:
        ((title, place),) = entry.items()
        if place == "commands/":
            entry[title] = sorted(name for name in pages() if name.startswith("commands/"))
        elif place == "migration/":
            found = sorted((ROOT / "docs" / "migration").glob("*.md"), key=lambda path: (path.stem != "index", path))
            entry[title] = [f"migration/{path.name}" for path in found]
        elif isinstance(place, list):
            entry[title] = [name for name in place if (ROOT / "docs" / name).is_file()]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Makes plain text of links that lead out of docs/."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def inside(match: re.Match[str]) -> str:
        target = (folder / match[3]).resolve()
        known = target.is_relative_to(ROOT / "docs") and not target.is_dir()
        return match[0] if not match[3] or known else match[2]

    return _OUTSIDE.sub(inside, markdown)


def index() -> str:
    """The README as a page of docs/; its links to files that are not there become plain text."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = _OUTSIDE.sub(lambda match: match[0] if match[3].startswith("docs/") else match[2], text)
    return re.sub(r"\]\(docs/", "](", text)


def pages() -> dict[str, str]:
    """The generated pages by name."""
    names = [name for commands in program.COMMANDS.values() for name in commands]
    return {f"commands/{name}.md": command_page(name) for name in names} | {"api.md": api_page()}


# --- Commands -----------------------------------------------------------------------------------------------


def command_page(name: str) -> str:
    """The page of a command: its purpose, and every flag with type, default and unit."""
    command = program.command_of(name)
    summary, _, notes = command.purpose.strip().partition("\n\n")
    lines = [f"# deeplab {name.replace('_', '-')}", "", _flags_in(summary), "", _flags_in(notes.strip("\n")), ""]
    words = command.word.choices() if command.word else {}
    if not words:
        return "\n".join([*lines, *_tables(command.groups_for())])
    lines += ["| format | |", "|---|---|", *(f"| `{word}` | {text} |" for word, text in words.items()), ""]
    shared: list[type] = []
    for word in words:
        own = command.groups_for(word)
        shared = [group for group in own if all(group in command.groups_for(other) for other in words)]
        lines += [f"## {word}", "", *_tables([group for group in own if group not in shared], "###")]
    return "\n".join([*lines, "## All formats", "", *_tables(shared, "###")])


def _tables(groups: Sequence[type], heading: str = "##") -> Iterator[str]:
    for group in groups:
        fields = [field for field in dataclasses.fields(group) if not field.metadata["retired"]]
        title = (group.__doc__ or group.__name__).strip().splitlines()[0].rstrip(".")
        yield from (f"{heading} {title}", "", "| flag | default | |", "|---|---|---|")
        for field in fields:
            default = "required" if field.metadata["required"] else _default(field)
            unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
            choices = f" One of {', '.join(map(str, field.metadata['choices']))}." if field.metadata["choices"] else ""
            text = _flags_in(field.metadata["help"]).replace("|", "\\|")
            yield f"| `--{field.name}` ({kind_of(field, group)}) | {default} | {text}{unit}{choices} |"
        yield ""


def _default(field: dataclasses.Field) -> str:
    if field.default in (None, "", ()):
        return ""
    value = field.default
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else str(value).lower()}`"


def _flags_in(text: str) -> str:
    """Settings between backquotes as flags."""
    return re.sub(r"`([a-z][a-z0-9_]*)((?:=[^`]*)?)`", r"`--\1\2`", text)


# --- Python API ---------------------------------------------------------------------------------------------


def api_page() -> str:
    """What `deeplab.__all__` names, from the docstrings, without importing the modules."""
    package = ast.parse((ROOT / "deeplab" / "__init__.py").read_text(encoding="utf-8"))
    values = {
        target.id: ast.literal_eval(node.value)
        for node in package.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("__all__", "_HOMES")
    }
    intro = "What stays compatible between versions. [DeepLab from Python](python_api.md) shows how to use it."
    lines = ["# Python API", "", intro, ""]
    for name in values["__all__"]:
        module = values["_HOMES"].get(name, "deeplab")
        node = _definition(module, name) or _definition("deeplab.export", name)
        if node is not None:
            lines += [f"## {name}", "", *_documented(node, module)]
    return "\n".join(lines)


def _definition(module: str, name: str) -> ast.AST | None:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    kinds = (ast.ClassDef, ast.FunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next((node for node in tree.body if isinstance(node, kinds) and node.name == name), None)


def _documented(node: Any, module: str) -> Iterator[str]:
    yield from (
        "```python",
        f"from {module} import {node.name}" if module != "deeplab" else "import deeplab",
        "```",
        "",
    )
    yield from _docstring(node)
    for inner in node.body if isinstance(node, ast.ClassDef) else ():
        is_public = isinstance(inner, ast.FunctionDef) and (not inner.name.startswith("_") or inner.name == "__call__")
        if is_public and ast.get_docstring(inner):
            yield from (f"### {node.name}.{inner.name}", "")
            yield from _docstring(inner)


def _docstring(node: Any) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        yield from ("```text", f"{node.name}({ast.unparse(node.args)}){returns}", "```", "")
    text = ast.get_docstring(node) or ""
    summary, _, rest = text.partition("\n\n")
    yield from (summary, "")
    if rest:
        yield from ("```text", rest, "```", "")
