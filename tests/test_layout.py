"""The layout that docs/layout.md describes: imports point down, names are unique, tests mirror the packages."""

from __future__ import annotations

import ast
import pathlib
import subprocess
from collections import Counter, defaultdict

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("deeplab", "slim")
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

# A package may import those of lower floors. The longest prefix counts; commands are the modules of `deeplab` itself.
FLOORS = {
    "slim": 0,
    "deeplab.utils": 0,
    "deeplab.config": 1,
    "deeplab.model": 2,
    "deeplab.data": 3,
    "deeplab.losses": 4,
    "deeplab.checkpoint": 4,
    "deeplab.visualization": 4,
    "deeplab.data.validation": 5,
    "deeplab.inference": 5,
    "deeplab.evaluation": 6,
    "deeplab.training": 7,
    "deeplab.export": 7,
    "deeplab.serving": 7,
    "deeplab.sharing": 7,
    "deeplab": 8,
}
SIBLINGS = [  # registries in which a format and its runtime have the same file name
    {"deeplab.export.formats", "deeplab.inference.runtimes"},
]
TENSORFLOW_SPOTS = {"slim.kernels"}  # each function there has a twin in plain Keras
HIDDEN_FOLDERS = {"build", "dist", "lib", "env", "bin", "var"}  # skipped by pytest, setuptools, git or editors


def package_of(module: str) -> str:
    """The entry of FLOORS that a module belongs to."""
    names = [name for name in FLOORS if module == name or module.startswith(f"{name}.")]
    found = max(names, key=len, default="")
    return found if found != "deeplab" or module.count(".") <= 1 else ""


def imports(name: str) -> list[str]:
    """The modules that a module imports anywhere, those for the type checker among them."""
    found = []
    for node in ast.walk(TREES[name]):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [full if full in MODULES or f"{full}.__init__" in MODULES else node.module for full in names]
        found += names
    return found


def test_every_module_belongs_to_a_package():
    assert [name for name in MODULES if not package_of(name)] == []


def test_imports_point_down():
    wrong = []
    for name in MODULES:
        for imported in imports(name):
            own, other = package_of(name), package_of(imported)
            if other and own != other and imported != "deeplab" and FLOORS[other] >= FLOORS[own]:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_backbones_and_models_import_keras_not_tensorflow():
    found = {
        name
        for name in MODULES
        if package_of(name) in ("slim", "deeplab.model")
        for imported in imports(name)
        if imported.split(".")[0] == "tensorflow"
    }
    assert found == TENSORFLOW_SPOTS


def test_no_two_modules_share_a_name():
    places = defaultdict(set)
    for name in MODULES:
        package, _, base = name.rpartition(".")
        if base not in ("__init__", "__main__"):
            places[base].add(package)
    assert {base: sorted(where) for base, where in places.items() if len(where) > 1 and where not in SIBLINGS} == {}


def test_no_two_classes_share_a_name():
    names = Counter(node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_folders_have_names_that_no_tool_skips():
    folders = {part for path in MODULES.values() for part in path.relative_to(ROOT).parts[:-1]}
    assert folders & HIDDEN_FOLDERS == set()


@pytest.mark.parametrize("package", ["deeplab", "slim"])
def test_tests_mirror_the_packages(package):
    """A test file has the name of the module or of the folder that it tests, or is listed here with what it tests."""
    others = {
        "deeplab/test_public_api.py": "deeplab/__init__.py",
        "deeplab/test_command_list.py": "deeplab/__main__.py",
        "deeplab/test_download_scripts.py": "datasets/*.sh",
        "deeplab/test_signals.py": "all commands, in every stage",
        "deeplab/test_full_disk.py": "all commands that write",
        "deeplab/export/test_every_family.py": "deeplab/export/ with every family of backbones",
        "deeplab/data/readers/test_reader_battery.py": "all readers, by one battery",
        "deeplab/serving/test_openapi.py": "the description that deeplab/serving/app.py gives of itself",
        "deeplab/serving/test_page.py": "deeplab/serving/page/, in a browser",
        "deeplab/training/test_resuming.py": "all of training, with kills and random settings",
        "deeplab/model/test_other_backends.py": "slim/ and deeplab/model/ on another backend of Keras",
        "deeplab/model/test_heads.py": "all heads and decoders, against the reference",
        "slim/test_add_a_backbone.py": "docs/add_a_backbone.md",
        "slim/test_resnet.py": "slim/resnet_v1.py and slim/resnet_v2.py",
    }
    stray = []
    for path in sorted((ROOT / "tests" / package).rglob("test_*.py")):
        relative = path.relative_to(ROOT / "tests")
        module = relative.with_name(relative.name.removeprefix("test_"))
        is_folder = module.stem == module.parent.name and (ROOT / module.parent).is_dir()
        if not (ROOT / module).is_file() and not is_folder and relative.as_posix() not in others:
            stray.append(relative.as_posix())
    assert stray == []


def test_no_tracked_file_is_ignored():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    assert listed.stdout.split() == []
