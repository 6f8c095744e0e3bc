"""Errors: what they print, how they travel, and that docs/errors.md explains every code."""

import ast
import pathlib
import pickle
import re

import pytest

from deeplab.utils.errors import UserError, joined, spell_as_flags

ROOT = pathlib.Path(__file__).parents[3]
SOURCES = sorted([*ROOT.glob("deeplab/**/*.py"), *ROOT.glob("slim/**/*.py")])
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def constants(node: ast.expr) -> set[str]:
    """The strings that an argument can be: a literal, or both branches of `a if condition else b`."""
    branches = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
    return {part.value for part in branches if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def takers_of_codes() -> dict[str, int]:
    """Every callable with a parameter `code`, by its name, and that parameter's position in a call."""
    takers = {"UserError": 0, "raises": 0}
    classes = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for name, node in classes.items():
        if any(isinstance(base, ast.Name) and base.id == "UserError" for base in node.bases):
            takers[name] = 0
    constructors = {id(part): name for name, node in classes.items() for part in node.body}
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
                if "code" in names:
                    name = constructors[id(node)] if node.name == "__init__" else node.name
                    takers[name] = names.index("code")
    return takers


def codes_of_the_source() -> dict[str, str]:
    """Every code that is raised, with a file that raises it."""
    takers, found = takers_of_codes(), {}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in takers:
                given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                given += node.args[takers[name] : takers[name] + 1]
                found.update(dict.fromkeys((code for argument in given for code in constants(argument)), str(path)))
    return found


CODES = codes_of_the_source()
DOCUMENTED = re.findall(r"^## (.+)$", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M)


def test_codes_are_kebab_case():
    assert len(CODES) > 20
    assert [code for code in CODES if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []


def test_every_error_has_a_code_of_its_kind():
    assert "unclassified" not in CODES


def test_every_code_is_documented():
    assert {code: path for code, path in CODES.items() if code not in DOCUMENTED} == {}


def test_every_documented_code_exists():
    assert [code for code in DOCUMENTED if code not in CODES] == []


def test_the_page_is_sorted_and_has_no_code_twice():
    assert sorted(set(DOCUMENTED)) == DOCUMENTED


def test_the_text_names_place_rule_and_hint():
    error = UserError("out-of-range", "must be above 0, not -1", "try 1", field="log_steps", value=-1)
    assert str(error) == "`log_steps`: must be above 0, not -1\n  hint: try 1"
    assert (error.code, error.field, error.value) == ("out-of-range", "log_steps", -1)
    shown = error.text(lambda text: spell_as_flags(text, ["log_steps"]), with_code=True)
    assert shown == "--log_steps: must be above 0, not -1 [out-of-range]\n  hint: try 1"


def test_the_code_ends_the_first_line():
    assert UserError("x", "a\n    b", "c", where="w").text(with_code=True) == "w: a [x]\n    b\n  hint: c"


def test_errors_of_one_kind_are_told_together_each_hint_once():
    errors = [
        UserError("a", f"rule {n}", hint, where=f"{n}.png") for n, hint in enumerate(("copy", "copy", "turn", ""))
    ]
    text = joined(errors, "more files").text()
    assert text == (
        "0.png: rule 0\n  and 3 more files:\n    1.png: rule 1\n    2.png: rule 2; turn\n    3.png: rule 3\n"
        "  hint: copy"
    )
    assert joined(errors[:1], "more files") is errors[0]


def test_an_error_travels_between_processes():
    error = pickle.loads(pickle.dumps(UserError("a-code", "a rule", "a hint", field="f", where="w", value=3)))
    assert (error.code, error.rule, error.hint, error.field, error.where, error.value) == (
        "a-code", "a rule", "a hint", "f", "w", 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("`log_steps=3` is fine", "--log_steps=3 is fine"),
        ("`log_steps` is fine", "--log_steps is fine"),
        ("`unknown` is code", "`unknown` is code"),
        ("`unknown=1` is a setting", "--unknown=1 is a setting"),
    ],
)
def test_settings_are_spelled_as_flags(text, spelled):
    assert spell_as_flags(text, ["log_steps"]) == spelled
